import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does; failing for it helps nobody.
settings.register_profile("sfumato", deadline=None)
settings.load_profile("sfumato")

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Give the folder of a real data set by name, or skip the test where it is absent."""
    root = Path(os.environ.get("SFUMATO_DATA", _BESIDE_THE_REPOSITORY))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"no data set {name!r} in {root}; set SFUMATO_DATA to the folder of data")
        return folder

    return find
