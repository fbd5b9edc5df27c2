"""Running a server: where it listens, and how it stops."""

import asyncio
import signal
import socket
from ipaddress import ip_address
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sfumato.errors import ConfigError
from sfumato.service.application import create_app, create_service
from sfumato.service.dicomweb import ArchiveSettings
from sfumato.service.logs import log, write_logs
from sfumato.service.settings import ServiceSettings
from sfumato.service.state import Service
from sfumato.storage import hold_folder, os_reason

_MOST_CONNECTIONS = 512
_KEEP_ALIVE_SECONDS = 20
_LONGEST_HEADERS = 2**15
_FAREWELL_SECONDS = 5


def check_address(host: str, token: str | None) -> None:
    """Refuse to listen where others can reach it without a token.

    Raises:
        ConfigError: If the address is not this machine's own and nothing need be shown.
    """
    try:
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and token is None:
        raise ConfigError(
            f"--host {host} can be reached from other machines; add --token-file FILE, or listen on"
            " 127.0.0.1"
        )


def _impatient(seconds: float) -> type[H11Protocol]:
    """Make a protocol that closes connections on which no whole request comes for a while."""

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Impatient


class _Server(uvicorn.Server):
    """Ends streams when it is told to stop, which would go on for ever."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._service.is_stopping.set()


def serve(
    settings: ServiceSettings, host: str, port: int, archive: ArchiveSettings | None = None
) -> None:
    """Serve until told to stop.

    Args:
        settings: The server's.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        archive: The archive that it talks with, if any.

    Raises:
        ConfigError: If it cannot listen there.
        ModelError: If a model cannot be read.
        FileError: If another server uses the folder.
    """
    check_address(host, settings.token)
    write_logs()
    with hold_folder(settings.data), _listen(host, port) as listener:
        service = create_service(settings, archive)
        config = uvicorn.Config(
            create_app(service),
            http=_impatient(settings.idle_seconds),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_FAREWELL_SECONDS,
            h11_max_incomplete_event_size=_LONGEST_HEADERS,
        )
        # When all is done, uvicorn sends itself the signal again that it was stopped by.
        signal.signal(signal.SIGTERM, lambda *_: None)
        address = listener.getsockname()
        log("listening", host=address[0], port=address[1], needs_token=settings.token is not None)
        _Server(config, service).run(sockets=[listener])
        log("stopped")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # Whoever comes while models are loaded waits.
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port} ({os_reason(error)}); choose another --port"
        ) from error
    return listener
