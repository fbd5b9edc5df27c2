"""What an operator decides about a server."""

from pathlib import Path

from pydantic import Field

from sfumato.settings import Settings

GIB = 2**30


class ServiceSettings(Settings):
    """How a server works, and what it refuses.

    Attributes:
        models: Name of each model, and its folder.
        data: The server's own folder: list of jobs, uploads, results.
        dataset: Training cases to look at; None where there are none.
        device: Where networks compute.
        engine: What computes them, see `compute_with`.
        token: What requests must show; None where nothing is asked for.
        hosts: Names under which the server may be addressed.
        upload_bytes: How large the body of one upload may be.
        unpacked_bytes: How large what was sent may be when it is unpacked.
        n_elements: How many elements an image may have, all channels together.
        queue_length: How many jobs may wait; more are refused for a while.
        keep_seconds: How long results are kept.
        idle_seconds: How long a client may send nothing in the middle of a request.
        upload_seconds: How long an upload may take.
        job_seconds: How long one image may be worked on.
        grace_seconds: How long the running job may go on when the server is told to stop.
        memory_bytes: How much memory the process that segments may take; None sets no limit.
    """

    models: dict[str, Path]
    data: Path
    dataset: Path | None = None
    device: str = "auto"
    engine: str = "auto"
    token: str | None = None
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    upload_bytes: int = Field(default=2 * GIB, gt=0)
    unpacked_bytes: int = Field(default=4 * GIB, gt=0)
    n_elements: int = Field(default=GIB, gt=0)
    queue_length: int = Field(default=100, gt=0)
    keep_seconds: float = Field(default=24 * 3600.0, gt=0)
    idle_seconds: float = Field(default=30.0, gt=0)
    upload_seconds: float = Field(default=3600.0, gt=0)
    job_seconds: float = Field(default=3600.0, gt=0)
    grace_seconds: float = Field(default=30.0, ge=0)
    memory_bytes: int | None = None
