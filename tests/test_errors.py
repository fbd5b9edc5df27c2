from pathlib import Path

import pytest

from sfumato import errors
from sfumato.errors import (
    CaseError,
    ConfigError,
    DatasetError,
    FileError,
    InputError,
    ModelError,
    SfumatoError,
    unknown_name,
)


def test_every_error_can_be_caught_as_one() -> None:
    for kind in (InputError, ConfigError, FileError, CaseError, DatasetError, ModelError):
        assert issubclass(kind, SfumatoError)


def test_the_tree_in_the_documentation_names_every_error() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)} - {"Path"}
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line[2:3] == "-"}
    assert drawn | {"SfumatoError"} == {n for n in kinds if n.endswith("Error")}


def test_a_wrong_argument_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="wrong"):
        raise InputError("wrong")


def test_errors_of_files_and_cases_name_them() -> None:
    assert str(FileError("a/b.nii", "is damaged")) == "a/b.nii: is damaged"
    assert FileError("a/b.nii", "is damaged").path == Path("a/b.nii")
    assert str(CaseError("p01", "it has no label")) == "case 'p01': it has no label"
    assert CaseError("p01", "it has no label").case_id == "p01"


def test_an_unknown_name_comes_with_the_nearest_known_one() -> None:
    message = unknown_name("loss", "dise", ["cross_entropy", "dice"])
    assert message == "unknown loss 'dise'; did you mean 'dice'? Known: cross_entropy, dice"


def test_a_name_like_no_other_comes_with_all_known_ones() -> None:
    assert unknown_name("loss", "xyz", {"b", "a"}) == "unknown loss 'xyz'. Known: a, b"
    assert unknown_name("loss", "xyz", []).startswith("unknown loss 'xyz'.")
