"""The token that requests show, where a server wants one."""

import hmac
import secrets
from pathlib import Path

from sfumato.errors import ConfigError

_SHORTEST_TOKEN = 16


def read_token(path: Path) -> str:
    """Read a token from a file.

    Raises:
        ConfigError: If it is so short that it can be guessed.
    """
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"{path}: a token must be {_SHORTEST_TOKEN} or more letters and digits without spaces;"
            " make one with: openssl rand -hex 32"
        )
    return token


def is_token(token: str, authorization: str) -> bool:
    """Tell whether a header shows the token, in a time that tells nothing of it."""
    kind, _, shown = authorization.partition(" ")
    # Hashed with a key of the moment, so that not even the length is told.
    key = secrets.token_bytes(16)
    is_same = hmac.compare_digest(
        hmac.digest(key, shown.strip().encode(), "sha256"),
        hmac.digest(key, token.encode(), "sha256"),
    )
    return is_same and kind.lower() == "bearer"
