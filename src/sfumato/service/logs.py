"""Logs as lines of JSON: what happened to which job, and nothing of any image or patient."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("sfumato.service")


class _Lines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, event and what belongs to it."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        return json.dumps(line)


def write_logs() -> None:
    """Send logs to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    # What libraries say may quote what a client sent.
    logging.getLogger().handlers = [logging.NullHandler()]


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Note what happened.

    Args:
        event: A word for it.
        level: How bad it is.
        facts: Numbers, ids and words of our own; never what a client or a file said.
    """
    _LOGGER.log(level, event, extra={"facts": facts})
