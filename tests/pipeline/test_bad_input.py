"""Everything a user may get wrong ends with one plain line, and with nothing half-written."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Picture

TRAIN = ("--steps=1", "--fold=none", "--device=cpu")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Something wrong with case_01 of a data set, and what the message must say."""

    do: Callable[[Path], None]
    says: tuple[str, ...]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: type) -> None:
    """Change the values of a NIfTI file."""
    stored = nibabel.load(path)
    values = change(np.asarray(stored.dataobj)).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(values, stored.affine), path)


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(float)
        values[3, 4, 5] = value
        return values

    return change


def move(path: Path, shift_mm: float) -> None:
    stored = nibabel.load(path)
    affine = stored.affine.copy()
    affine[0, 3] += shift_mm
    nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj), affine), path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    """Leave everything readable but the checksum of gzip."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    whole = bytearray(gzip.compress(bytes(content), compresslevel=0, mtime=0))
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))


def patch_header(path: Path, offset: int, value: float) -> None:
    """Write a float32 into a NIfTI header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + 4] = np.float32(value).tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def without_placement(path: Path) -> None:
    """Let the header's spacing alone say where the volume lies."""
    stored = nibabel.load(path)
    image = nibabel.Nifti1Image(np.asarray(stored.dataobj), None)
    image.header.set_zooms((2.5, 1.0, 1.2, 1.0)[: len(stored.shape)])
    nibabel.save(image, path)


def set_spacing(data: Path, value: float) -> None:
    for folder in ("images", "labels"):
        path = data / folder / "case_01.nii.gz"
        without_placement(path)
        patch_header(path, 84, value)  # pixdim[2]


IMAGE, LABEL = Path("images") / "case_01.nii.gz", Path("labels") / "case_01.nii.gz"

VOLUME_DAMAGES = {
    "another shape": Damage(
        do=lambda data: rewrite(data / LABEL, lambda v: v[:, :, 1:], np.uint8),
        says=("the label does not lie on the image's grid", "14×22×19", "14×22×20", "resample"),
    ),
    "another place": Damage(
        do=lambda data: move(data / LABEL, 3),
        says=("the label does not lie on the image's grid", "3 mm away", "resample"),
    ),
    "a file cut short": Damage(
        do=lambda data: cut_short(data / IMAGE),
        says=("case_01.nii.gz: is damaged", "copy or export it again"),
    ),
    "a wrong checksum": Damage(
        do=lambda data: flip_a_byte(data / IMAGE),
        says=("case_01.nii.gz: is damaged", "copy or export it again"),
    ),
    "a wrong checksum of the label": Damage(
        do=lambda data: flip_a_byte(data / LABEL),
        says=("case_01.nii.gz: is damaged", "copy or export it again"),
    ),
    "NaN": Damage(
        do=lambda data: rewrite(data / IMAGE, with_value(np.nan), np.float32),
        says=("2 of 12320 intensities are NaN or infinite", "replace them"),
    ),
    "infinity": Damage(
        do=lambda data: rewrite(data / IMAGE, with_value(np.inf), np.float32),
        says=("2 of 12320 intensities are NaN or infinite", "replace them"),
    ),
    "an undeclared class": Damage(
        do=lambda data: rewrite(data / LABEL, with_value(4), np.uint8),
        says=("the value 4, which no class has", "7 core", "correct the label or declare"),
    ),
    "a negative class": Damage(
        do=lambda data: rewrite(data / LABEL, with_value(-1), np.int16),
        says=("holds the value -1", "renumber"),
    ),
    "a fractional class": Damage(
        do=lambda data: rewrite(data / LABEL, with_value(0.5), np.float32),
        says=("holds the value 0.5", "whole numbers", "save class numbers"),
    ),
    "spacing zero": Damage(
        do=lambda data: set_spacing(data, 0),
        says=("spacing must be positive", "correct the header"),
    ),
    "a negative spacing": Damage(
        do=lambda data: set_spacing(data, -1),
        says=("spacing must be positive", "correct the header"),
    ),
    "another number of channels": Damage(
        do=lambda data: rewrite(data / IMAGE, lambda v: v[..., :1], np.float32),
        says=("has 1 channel", "same channels"),
    ),
}


@pytest.fixture(params=VOLUME_DAMAGES)
def damage(request: pytest.FixtureRequest, small_volumes: Path) -> Damage:
    chosen = VOLUME_DAMAGES[request.param]
    chosen.do(small_volumes)
    return chosen


def assert_says(line: str, *parts: str) -> None:
    missing = [part for part in parts if part not in line]
    assert not missing, line


def only_line(text: str) -> str:
    assert len(text.splitlines()) == 1, text
    assert text.startswith("error: ")
    return text


def assert_nothing_written(out: Path) -> None:
    assert {p.name for p in out.glob("**/*")} <= {".sfumato"}


def test_training_refuses_a_bad_case_before_it_begins(
    sfumato: Callable, small_volumes: Path, tmp_path: Path, damage: Damage
) -> None:
    outcome = sfumato("train", small_volumes, "--out", tmp_path / "run", *TRAIN)
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "case_01", *damage.says)
    assert_nothing_written(tmp_path / "run")


def test_softening_finishes_the_others_and_lists_a_bad_case_last(
    sfumato: Callable, small_volumes: Path, tmp_path: Path, damage: Damage
) -> None:
    outcome = sfumato("soften", small_volumes, "--out", tmp_path / "soft")
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first == "1 of 2 cases failed:"
    assert second.startswith("  case_01: ")
    assert_says(second, *damage.says)
    assert second.count("case 'case_01'") == 0
    written = {path.name for path in (tmp_path / "soft").iterdir()}
    assert written == {
        ".sfumato", "case_00.nii.gz", "case_00.json", "case_00.png", "config.toml",
        "manifest.jsonl", "run.json",
    }  # fmt: skip


IMAGE_DAMAGES = [name for name in VOLUME_DAMAGES if "class" not in name and "label" not in name][2:]


@pytest.mark.parametrize("name", IMAGE_DAMAGES)
def test_segmenting_finishes_the_others_and_lists_a_bad_case_last(
    sfumato: Callable, volume_run: Path, small_volumes: Path, tmp_path: Path, name: str
) -> None:
    VOLUME_DAMAGES[name].do(small_volumes)
    outcome = sfumato("segment", volume_run, small_volumes, "--out", tmp_path / "out",
                      "--probabilities", "--device=cpu")  # fmt: skip
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first == "1 of 2 cases failed:"
    assert second.startswith("  case_01: ")
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {".sfumato", "case_00.nii.gz", "case_00.json", "cases.jsonl", "run.json"}
    failures = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["failures"]
    assert list(failures) == ["case_01"]


@pytest.mark.parametrize("name", IMAGE_DAMAGES)
def test_segmenting_a_single_bad_image_ends_with_one_line(
    sfumato: Callable, volume_run: Path, small_volumes: Path, tmp_path: Path, name: str
) -> None:
    VOLUME_DAMAGES[name].do(small_volumes)
    image = small_volumes / IMAGE
    outcome = sfumato("segment", volume_run, image, "--out", tmp_path / "out", "--device=cpu")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "case 'case_01'")
    assert not (tmp_path / "out" / "case_01.nii.gz").exists()


def test_when_every_case_is_bad_all_are_listed(
    sfumato: Callable, volume_run: Path, small_volumes: Path, tmp_path: Path
) -> None:
    for path in (small_volumes / "images").iterdir():
        cut_short(path)
    for command in (("soften", small_volumes), ("segment", volume_run, small_volumes)):
        outcome = sfumato(*command, "--out", tmp_path / command[0])
        assert outcome.code == 2
        lines = outcome.err.splitlines()
        assert lines[0] == "2 of 2 cases failed:"
        assert [line.split(":")[0].strip() for line in lines[1:]] == ["case_00", "case_01"]


@pytest.mark.parametrize("command", ["train", "soften", "info"])
def test_a_missing_label_is_named(
    sfumato: Callable, small_flat: Path, tmp_path: Path, command: str
) -> None:
    (small_flat / "labels" / "case_01.png").unlink()
    out = [] if command == "info" else ["--out", tmp_path / "out"]
    outcome = sfumato(command, small_flat, *out)
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "missing label for case_01", "add the label")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def half_labelled(small_flat: Path) -> Path:
    """Give a manifest whose second case has no label."""
    rows = ["case,image,labels"]
    for i in range(3):
        label = "" if i == 1 else f"labels/case_{i:02}.png"
        rows.append(f"case_{i:02},images/case_{i:02}.png,{label}")
    (small_flat / "cases.csv").write_text("\n".join(rows) + "\n")
    return small_flat


def test_training_refuses_a_case_without_label_in_a_manifest(
    sfumato: Callable, half_labelled: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", half_labelled, "--out", tmp_path / "run", *TRAIN)
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "case 'case_01': it has no label", "add the label")
    assert not (tmp_path / "run").exists()


def test_softening_leaves_out_a_case_without_label_in_a_manifest(
    sfumato: Callable, half_labelled: Path, tmp_path: Path
) -> None:
    outcome = sfumato("soften", half_labelled, "--out", tmp_path / "soft")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("  case_01: it has no label")
    assert len(list((tmp_path / "soft").glob("*.nii.gz"))) == 2


@pytest.mark.parametrize("command", ["train", "soften"])
def test_a_data_set_without_labels_says_where_they_belong(
    sfumato: Callable, small_flat: Path, tmp_path: Path, command: str
) -> None:
    shutil.rmtree(small_flat / "labels")
    outcome = sfumato(command, small_flat, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "has no labels", "into labels/ beside images/")


def test_a_bad_label_that_would_be_held_out_is_found_before_training(
    sfumato: Callable, flat_run: Path, flat_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(flat_data, tmp_path / "data")
    held_out = json.loads((flat_run / "run.json").read_text("utf-8"))["split"]["held_out"]
    cut_short(data / "labels" / f"{held_out[-1]}.png")
    outcome = sfumato("train", data, "--out", tmp_path / "run", "--steps=1", "--device=cpu",
                      "--set=training.validation_cases=1")  # fmt: skip
    assert outcome.code == 2
    assert_says(only_line(outcome.err), held_out[-1], "is damaged")
    assert not (tmp_path / "run" / "checkpoint.sfumato").exists()


@pytest.mark.parametrize("command", ["train", "soften", "info"])
def test_two_cases_of_one_name_are_named(
    sfumato: Callable, small_flat: Path, tmp_path: Path, command: str
) -> None:
    with Picture.open(small_flat / "images" / "case_01.png") as picture:
        picture.save(small_flat / "images" / "case_01.tif")
    out = [] if command == "info" else ["--out", tmp_path / "out"]
    outcome = sfumato(command, small_flat, *out)
    assert outcome.code == 2
    line = only_line(outcome.err)
    assert_says(line, "two cases are named 'case_01'", "case_01.png", "case_01.tif", "rename")
    assert not (tmp_path / "out").exists()


def test_two_inputs_of_one_name_are_refused_before_anything_is_emptied(
    sfumato: Callable, flat_run: Path, small_flat: Path, tmp_path: Path
) -> None:
    image = small_flat / "images" / "case_01.png"
    out = tmp_path / "out"
    assert sfumato("segment", flat_run, image, "--out", out).code == 0
    other = tmp_path / "other" / "case_01.png"
    other.parent.mkdir()
    shutil.copy(image, other)
    outcome = sfumato("segment", flat_run, image, other, "--out", out, "--overwrite")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), str(image), str(other), "different folders")
    assert (out / "case_01.png").exists()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".mha"])
def test_a_volume_one_element_thick_is_refused_but_a_narrow_picture_is_not(
    sfumato: Callable, tmp_path: Path, suffix: str
) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 1)).astype(np.uint8)
    path = tmp_path / f"thin{suffix}"
    if suffix == ".png":
        Picture.fromarray(values).save(path)
    elif suffix == ".tif":
        tifffile.imwrite(path, values)
    elif suffix == ".nii.gz":
        nibabel.save(nibabel.Nifti1Image(np.stack([values] * 5, axis=2), np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.stack([values] * 5)), path)
    outcome = sfumato("info", path)
    if suffix in (".png", ".tif"):
        assert outcome.code == 0
    else:
        assert outcome.code == 2
        assert_says(only_line(outcome.err), str(path), "one element along its", "flat image")


@pytest.mark.parametrize("spacing", ["0 1 1", "1 -2 1"])
def test_a_spacing_that_is_not_positive_is_refused_in_every_format(
    sfumato: Callable, tmp_path: Path, spacing: str
) -> None:
    path = tmp_path / "image.mha"
    SimpleITK.WriteImage(SimpleITK.Image(6, 5, 4, SimpleITK.sitkUInt8), path)
    content = path.read_bytes()
    assert b"ElementSpacing = 1 1 1" in content
    path.write_bytes(
        content.replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = %s" % spacing.encode())
    )
    outcome = sfumato("info", path)
    assert outcome.code == 2
    assert_says(only_line(outcome.err), str(path), "spacing", "positive", "correct the header")


@pytest.fixture
def colourful(small_flat: Path) -> Path:
    """Give images of three channels."""
    for path in (small_flat / "images").iterdir():
        with Picture.open(path) as picture:
            gray = np.asarray(picture)
        Picture.fromarray(np.stack([gray, 255 - gray, gray // 2], axis=-1)).save(path)
    return small_flat


def test_three_channels_are_no_photo_unless_it_is_said(
    sfumato: Callable, colourful: Path, tmp_path: Path
) -> None:
    channels, photo = tmp_path / "channels", tmp_path / "photo"
    assert sfumato("soften", colourful, "--out", channels).code == 0
    (colourful / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "disc": 255}, "photo": True})
    )
    assert sfumato("soften", colourful, "--out", photo).code == 0
    assert "is_photo = false" in (channels / "config.toml").read_text("utf-8")
    assert "is_photo = true" in (photo / "config.toml").read_text("utf-8")


def test_what_is_called_a_photo_but_is_none_is_refused(
    sfumato: Callable, small_flat: Path, small_volumes: Path, tmp_path: Path
) -> None:
    for data in (small_flat, small_volumes):
        out = tmp_path / f"soft_{data.name}"
        outcome = sfumato("soften", data, "--out", out, "--set=superpixels.is_photo=true")
        assert outcome.code == 2
        lines = outcome.err.splitlines()
        assert all("is_photo" in line for line in lines[1:])
        assert len(lines) == len(list((data / "images").iterdir())) + 1
        assert not list(out.glob("case*"))


def test_training_refuses_what_is_called_a_photo_but_is_none(
    sfumato: Callable, small_flat: Path, tmp_path: Path
) -> None:
    outcome = sfumato("train", small_flat, "--out", tmp_path / "run", *TRAIN,
                      "--set=superpixels.is_photo=true")  # fmt: skip
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "case 'case_00'", "is_photo")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.toml", None, ("is no trained model", "RUN/model")),
        ("weights.safetensors", None, ("weights.safetensors: is missing", "copy the whole model")),
        ("model.toml", b"nothing = ", ("model.toml: is damaged", "copy")),
        ("weights.safetensors", b"none", ("weights.safetensors: is damaged", "copy")),
        # What Python would run if it unpickled it.
        ("weights.safetensors", b"cos\nsystem\n(S'echo'\ntR.", ("is damaged", "copy")),
    ],
)
def test_a_model_that_misses_a_file_or_is_damaged_is_refused(
    sfumato: Callable, broken: Callable, flat_data: Path,
    file: str, content: bytes | None, says: tuple[str, ...],
) -> None:  # fmt: skip
    model = broken(file, content)
    out = model.parent / "out"
    outcome = sfumato("segment", model, flat_data, "--out", out, "--device=cpu")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), str(model), *says)
    assert not out.exists()


def test_a_model_that_misses_a_file_or_is_damaged_is_not_described(
    sfumato: Callable, broken: Callable
) -> None:
    for file, content, says in (
        ("weights.safetensors", None, "weights.safetensors: is missing"),
        ("model.toml", b"nothing = ", "model.toml: is damaged"),
    ):
        outcome = sfumato("info", broken(file, content))
        assert outcome.code == 2
        assert_says(only_line(outcome.err), says, "copy")


@pytest.fixture
def broken(flat_run: Path, tmp_path: Path) -> Callable[[str, bytes | None], Path]:
    """Give a copy of a model with a file replaced or taken away."""

    def make(file: str, content: bytes | None) -> Path:
        model = tmp_path / "model"
        shutil.copytree(flat_run / "model", model, dirs_exist_ok=True)
        (model / file).unlink()
        if content is not None:
            (model / file).write_bytes(content)
        return model

    return make


def test_a_model_for_other_channels_refuses_images(
    sfumato: Callable, flat_run: Path, colourful: Path, tmp_path: Path
) -> None:
    image = colourful / "images" / "case_00.png"
    outcome = sfumato("segment", flat_run, image, "--out", tmp_path / "out", "--device=cpu")
    assert outcome.code == 2
    line = only_line(outcome.err)
    assert_says(
        line, "case 'case_00'", "channels must be 1, as in training, got 3", "same channels"
    )
    assert not (tmp_path / "out" / "case_00.png").exists()


def test_a_model_for_volumes_refuses_flat_images(
    sfumato: Callable, flat_run: Path, nnunet_data: Path, tmp_path: Path
) -> None:
    volume = nnunet_data / "imagesTr" / "ball_000_0000.nii.gz"
    outcome = sfumato("segment", flat_run, volume, "--out", tmp_path / "out", "--device=cpu")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "ball_000_0000", "is 3-D, but the model is 2-D")


def test_a_model_of_another_kind_is_one_line_however_many_images_there_are(
    sfumato: Callable, flat_run: Path, nnunet_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = sfumato("segment", flat_run, nnunet_data / "imagesTr", "--out", out, "--device=cpu")
    assert outcome.code == 2
    assert_says(only_line(outcome.err), "ball_000_0000", "is 3-D, but the model is 2-D")
    assert not out.exists()
