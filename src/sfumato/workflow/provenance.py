"""Where a result comes from: versions and time."""

from datetime import UTC, datetime
from importlib.metadata import version
from platform import platform, python_version


def provenance() -> dict[str, str]:
    """Return the versions that decide a result, and when it was made (UTC)."""
    return {
        "sfumato": version("sfumato"),
        "torch": version("torch"),
        "monai": version("monai"),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "python": python_version(),
        "platform": platform(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
