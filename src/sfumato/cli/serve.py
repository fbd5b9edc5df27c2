"""`sfumato serve`."""

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import options


def serve(
    models: Annotated[list[Path], typer.Argument(help="Folders RUN, RUN/model or RUN/best_model.")],
    port: Annotated[int, typer.Option("--port", help="The port; 0 takes a free one.")] = 8765,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; others need a token.")
    ] = "127.0.0.1",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name that clients call this machine; may be repeated."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A file with the token that requests must show."),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", help="The server's own folder: jobs, uploads, results.")
    ] = Path("sfumato_server"),
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="Training cases to look at in the tab of labels."),
    ] = None,
    dicomweb: Annotated[
        str | None,
        typer.Option("--dicomweb", metavar="URL", help="An archive to fetch series from."),
    ] = None,
    dicomweb_login: Annotated[
        Path | None,
        typer.Option("--dicomweb-login", help="A file with NAME:PASSWORD for the archive."),
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch", metavar="MODEL", help="Segment every CT and MR that arrives in the archive."
        ),
    ] = None,
    watch_seconds: Annotated[
        float, typer.Option("--watch-seconds", help="How often the archive is looked at.")
    ] = 30.0,
    keep: Annotated[
        float, typer.Option("--keep", help="Hours after which results are deleted.")
    ] = 24.0,
    upload_gib: Annotated[
        float, typer.Option("--upload-limit", help="Largest upload in GiB.")
    ] = 2.0,
    memory_gib: Annotated[
        float | None,
        typer.Option("--memory-limit", help="GiB that the process that segments may take."),
    ] = None,
    queue: Annotated[
        int, typer.Option("--queue", help="How many jobs may wait; more are refused.")
    ] = 100,
    device: options.Device = "auto",
    engine: Annotated[
        str,
        typer.Option("--engine", help="torch, openvino, onnxruntime; auto takes the fastest."),
    ] = "auto",
) -> None:
    """Segment images that are sent over HTTP, and show them in a browser.

    It listens on this machine alone unless there is a token. Jobs survive a restart.

    [dim]sfumato serve run
    sfumato serve run other_run --host 0.0.0.0 --name segment.example.org --token-file token[/]
    """
    from sfumato.cli.console import say
    from sfumato.errors import ConfigError

    try:
        from sfumato.service.dicomweb import ArchiveSettings, read_credentials
        from sfumato.service.serving import check_address
        from sfumato.service.serving import serve as run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a server needs {error.name}; install it with pip install 'sfumato[server]'"
        ) from error
    from sfumato.service.models import name_models
    from sfumato.service.settings import GIB, ServiceSettings
    from sfumato.service.token import read_token

    token = None if token_file is None else read_token(token_file)
    check_address(host, token)
    settings = ServiceSettings(
        models=name_models(models),
        data=data.absolute(),
        dataset=None if dataset is None else dataset.absolute(),
        device=device,
        engine=engine,
        token=token,
        hosts=tuple({"localhost", "127.0.0.1", "[::1]", host.lower(), *(names or [])}),
        upload_bytes=int(upload_gib * GIB),
        memory_bytes=None if memory_gib is None else int(memory_gib * GIB),
        queue_length=queue,
        keep_seconds=keep * 3600,
    )
    if dicomweb is None and (watch or dicomweb_login):
        raise ConfigError("--watch and --dicomweb-login need --dicomweb URL")
    archive = (
        None
        if dicomweb is None
        else ArchiveSettings(
            url=dicomweb,
            credentials=None if dicomweb_login is None else read_credentials(dicomweb_login),
            watch_model=watch,
            watch_seconds=watch_seconds,
        )
    )
    if port:  # Of a free one, the log tells.
        say(f"http://{host}:{port} is where to go; Ctrl-C stops")
    run(settings, host, port, archive)
