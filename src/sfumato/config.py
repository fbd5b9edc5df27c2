"""Settings files: TOML in and out, and `--set group.name=value` on top.

Which groups a command has is said by the command; this module only reads and merges.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sfumato.errors import ConfigError, SfumatoError, unknown_name
from sfumato.settings import Settings
from sfumato.storage import write_text

SettingsTree = TypeVar("SettingsTree", bound=Settings)


def load_config(
    kind: type[SettingsTree], path: Path | None = None, overrides: Sequence[str] = ()
) -> SettingsTree:
    """Read settings from a file, if there is one, with single values replaced.

    Args:
        kind: The tree of settings that is wanted.
        path: A TOML file; what it leaves out keeps its default.
        overrides: Texts such as "superpixels.size_mm=4"; they win over the file.

    Raises:
        ConfigError: If a name is unknown or a value out of range; the text says which, and
            where it stands.
    """
    values = _read(path) if path else {}
    for override in overrides:
        _replace(values, override)
    where = f"{path.name}: " if path else ""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(where + _explain(kind, error.errors()[0])) from error
    except SfumatoError as error:
        raise ConfigError(f"{where}{error}") from error


def save_config(config: Settings, path: Path) -> None:
    """Write settings so that `load_config` gives them back; open values are left out."""
    write_text(path, tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{path}: cannot be read ({reason})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no valid TOML ({error})") from error


def _replace(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    *groups, last = name.strip().split(".")
    if not separator or not groups or not last:
        raise ConfigError(
            f"--set takes group.name=value, such as superpixels.size_mm=4; got {override!r}"
        )
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {group!r} is no group of settings")
    values[last] = _value(text.strip())


def _value(text: str) -> Any:
    """Read a value as TOML does; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(kind: type[BaseModel], problem: ErrorDetails) -> str:
    """Turn pydantic's first complaint into one plain line."""
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        known = list(_group(kind, place[:-1]).model_fields)
        return f"{'.'.join(place[:-1]) or 'settings'}: {unknown_name('setting', place[-1], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"


def _group(kind: type[BaseModel], place: Sequence[str]) -> type[BaseModel]:
    for part in place:  # the number of an entry in a list is no field
        if field := kind.model_fields.get(part):
            kind = _inner_group(field.annotation) or kind
    return kind


def _inner_group(annotation: Any) -> type[BaseModel] | None:
    """Find the group in a type such as `tuple[ChannelSettings, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = map(_inner_group, get_args(annotation))
    return next((group for group in inner if group), None)
