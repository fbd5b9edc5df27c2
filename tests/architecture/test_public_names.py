import inspect
import subprocess
import sys
import types

import pytest

import sfumato

NAMES = [name for name in sfumato.__all__ if name != "__version__"]


def test_public_names_are_sorted() -> None:
    assert sfumato.__all__ == sorted(sfumato.__all__)
    assert dir(sfumato) == sfumato.__all__


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_exists_and_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(sfumato, name))


def test_public_names_can_be_imported_with_a_star() -> None:
    module = types.ModuleType("user")
    exec("from sfumato import *", vars(module))
    assert set(sfumato.__all__) <= set(vars(module))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'soften_lable'"):
        _ = sfumato.soften_lable


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert sfumato.__version__ == version("sfumato")


def test_softening_needs_no_torch() -> None:
    code = """if True:
        import sys
        import numpy as np
        import sfumato
        image = np.zeros((1, 8, 8), np.float32)
        image[:, :, 3:] = 1
        label = np.zeros((8, 8), np.uint8)
        label[:, 5:] = 1
        settings = sfumato.SuperpixelSettings(size_mm=4)
        superpixels = sfumato.compute_superpixels(image, (1.0, 1.0), settings)
        soft_label = sfumato.soften_label(label, superpixels, (1.0, 1.0), n_classes=2)
        assert 0 < soft_label[1, 0, 4] < 0.5 < soft_label[1, 0, 5] < 1
        sys.exit("torch" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)
