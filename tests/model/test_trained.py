"""A trained model on disk, and every way in which its files can be wrong."""

import resource
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from sfumato.errors import FileError, ModelError
from sfumato.image.preprocessing import ChannelSettings, PreprocessingSettings
from sfumato.labels.classes import ClassList
from sfumato.labels.postprocessing import PostprocessingSettings
from sfumato.model.network import NetworkSettings, build_network
from sfumato.model.trained import DESCRIPTION, WEIGHTS, TrainedModel, read_description

NETWORK = NetworkSettings(
    features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3), (3, 3), (3, 3))
)


def make_model(network: NetworkSettings = NETWORK, seed: int = 0) -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TrainedModel(
            network=build_network(network, 1, 3).eval(),
            network_settings=network,
            n_channels=1,
            window=(16, 24),
            mirror_axes=(0, 1),
            classes=ClassList(names=("background", "cell", "kern π"), values=(0, 255, 7)),
            preprocessing=PreprocessingSettings(
                spacing_mm=(0.7, 1.0), channels=(ChannelSettings(ignore_zero=True),)
            ),
            about={"steps": 12, "versions": {"torch": "2"}, "note": 'quoted "text"\n'},
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model().save(tmp_path / "model")
    return tmp_path / "model"


def complaint(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        TrainedModel.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(folder: Path, **values: Any) -> None:
    content = tomllib.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for name, value in values.items():
        content[name] = value
    (folder / DESCRIPTION).write_text(tomli_w.dumps(content), encoding="utf-8")


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """Let the system refuse to write more, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_model_that_is_loaded_is_the_one_that_was_saved(folder: Path) -> None:
    saved, loaded = make_model(), TrainedModel.load(folder)
    image = torch.randn(2, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), saved.network(image))
    assert not loaded.network.training
    for name in ("network_settings", "n_channels", "window", "mirror_axes", "classes"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.preprocessing == saved.preprocessing
    assert loaded.about == saved.about


def test_a_model_can_be_loaded_by_the_folder_of_its_run(folder: Path) -> None:
    assert TrainedModel.load(folder.parent).window == TrainedModel.load(str(folder)).window
    assert TrainedModel.is_model(folder)
    assert TrainedModel.is_model(folder.parent)
    assert not TrainedModel.is_model(folder.parent.parent)


def test_a_model_on_disk_holds_no_code(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, WEIGHTS]
    tomllib.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    # A safetensors file begins with the length of a JSON text; each weight stands there once.
    n_header = int.from_bytes((folder / WEIGHTS).read_bytes()[:8], "little")
    assert (folder / WEIGHTS).read_bytes()[8:9] == b"{"
    n_weights = sum(p.numel() for p in make_model().network.parameters())
    assert (folder / WEIGHTS).stat().st_size == 8 + n_header + 4 * n_weights


def test_saving_again_replaces_the_model(folder: Path) -> None:
    make_model(seed=1).save(folder)
    image = torch.randn(1, 1, 16, 24)
    with torch.inference_mode():
        again = TrainedModel.load(folder).network(image)
        assert torch.equal(again, make_model(seed=1).network(image))


def test_a_disk_without_space_is_told_and_leaves_the_old_model(folder: Path) -> None:
    with no_file_larger_than(5000), pytest.raises(FileError, match=r"cannot be written \("):
        make_model(seed=1).save(folder)
    image = torch.randn(1, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(TrainedModel.load(folder).network(image), make_model().network(image))
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    for empty in (tmp_path, tmp_path / "missing"):
        assert complaint(empty) == (
            f"{empty}: is no trained model (there is no model.toml in it); give the folder"
            " RUN/model that training wrote"
        )


def test_missing_weights_are_told(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert complaint(folder) == (
        f"{folder / WEIGHTS}: is missing; copy the whole model folder from where it was trained"
    )


@pytest.mark.parametrize(
    "content", ["", "format_version = ", "\x00\x01", "format_version = 1\n", "[network]\n"]
)
def test_a_damaged_description_is_told(folder: Path, content: str) -> None:
    (folder / DESCRIPTION).write_text(content)
    assert complaint(folder) == (
        f"{folder / DESCRIPTION}: is damaged; copy the model again from where it was trained"
    )
    (folder / DESCRIPTION).write_bytes(b"\xff\xfe")
    assert "is damaged; copy the model again" in complaint(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format_version", "new"),
        ("n_channels", "one"),
        ("class_names", ["one"]),
        ("class_names", ["a", "a", "b"]),
        ("network", {}),
        ("network", {**NETWORK.model_dump(), "features": [4, 8]}),
        ("network", {**NETWORK.model_dump(), "kernels": [[2, 2], [3, 3], [3, 3]]}),
        ("preprocessing", {"spacing": [1.0, 1.0]}),
        ("unknown", 1),
    ],
)
def test_a_description_with_a_wrong_value_is_told(folder: Path, name: str, value: Any) -> None:
    edit(folder, **{name: value})
    message = complaint(folder)
    assert message.startswith(f"{folder / DESCRIPTION}: ")
    assert message.endswith("; copy the model again from where it was trained")


def test_a_model_of_a_newer_sfumato_is_told_before_anything_else(folder: Path) -> None:
    edit(folder, format_version=5, something_new=1)
    assert complaint(folder) == (
        f"{folder / DESCRIPTION}: the model has format 5, but this sfumato reads up to 4;"
        " update sfumato"
    )


def test_truncated_weights_are_told_wherever_they_end(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for n in [*range(0, len(whole) - 1, len(whole) // 40), len(whole) - 1]:
        (folder / WEIGHTS).write_bytes(whole[:n])
        assert complaint(folder) == (
            f"{folder / WEIGHTS}: is damaged; copy it again from where it was trained"
        )


def test_weights_of_another_kind_of_file_are_told(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / WEIGHTS)
    assert "is damaged" in complaint(folder)


def test_weights_of_another_network_are_told(folder: Path) -> None:
    wider = NETWORK.model_copy(update={"features": (4, 8, 12)})
    deeper = NetworkSettings(
        features=(4, 8, 8, 8), strides=((1, 1), *[(2, 2)] * 3), kernels=((3, 3),) * 4
    )
    for other, reason in ((wider, "different models"), (deeper, "do not belong to the network")):
        make_model(other).save(folder.parent / "other")
        (folder / WEIGHTS).write_bytes((folder.parent / "other" / WEIGHTS).read_bytes())
        message = complaint(folder)
        assert message.startswith(f"{folder / WEIGHTS}: ")
        assert reason in message


def test_a_weight_too_few_or_too_many_is_told(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, "extra": torch.zeros(1)}, folder / WEIGHTS)
    assert "its weights do not belong to the network in model.toml" in complaint(folder)
    weights.pop(next(iter(weights)))
    save_file(weights, folder / WEIGHTS)
    assert "its weights do not belong to the network in model.toml" in complaint(folder)


def test_weights_that_were_changed_are_told(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert complaint(folder).startswith(
        f"{folder / WEIGHTS}: was changed since model.toml was written (its checksum differs)"
    )


def test_weights_from_before_checksums_are_read(folder: Path) -> None:
    lines = (folder / DESCRIPTION).read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("weights_sha256")]
    assert len(kept) == len(lines) - 1
    (folder / DESCRIPTION).write_text("".join(kept), "utf-8")
    assert TrainedModel.load(folder).classes == make_model().classes


def test_the_temperature_is_kept(folder: Path) -> None:
    assert TrainedModel.load(folder).temperature == read_description(folder).temperature == 1
    replace(make_model(), temperature=1.75).save(folder)
    assert (
        TrainedModel.load(folder).temperature == read_description(folder.parent).temperature == 1.75
    )


def test_a_model_from_before_temperatures_has_none(folder: Path) -> None:
    edit(folder, format_version=1)
    text = (folder / DESCRIPTION).read_text("utf-8")
    (folder / DESCRIPTION).write_text(text.replace("temperature = 1.0\n", ""), "utf-8")
    assert TrainedModel.load(folder).temperature == 1


def test_a_temperature_of_zero_is_damage(folder: Path) -> None:
    edit(folder, temperature=0.0)
    assert "is damaged" in complaint(folder)


def test_post_processing_and_the_errors_of_volumes_are_kept(folder: Path) -> None:
    settings = PostprocessingSettings(
        largest_component=("cell", "*"), minimum_volume_mm3={"kern π": 2.5}, fill_holes=("cell",)
    )
    errors = {"cell": (0.25, 1.5), "kern π": (0.0,)}
    replace(make_model(), postprocessing=settings, volume_errors=errors).save(folder)
    loaded = TrainedModel.load(folder)
    assert (loaded.postprocessing, loaded.volume_errors) == (settings, errors)


def test_post_processing_of_a_class_that_is_not_there_is_damage(folder: Path) -> None:
    edit(folder, postprocessing={"fill_holes": ["cel"]})
    assert "did you mean 'cell'" in complaint(folder)
