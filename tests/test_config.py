"""Settings files and `--set`, for the settings that a training run really has."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.config import load_config, save_config
from sfumato.errors import ConfigError
from sfumato.image.preprocessing import ChannelSettings
from sfumato.workflow.run_config import RunConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_the_defaults_stand() -> None:
    assert load_config(RunConfig) == RunConfig()


def test_a_file_needs_to_name_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, "[superpixels]\nsize_mm = 4\n[loss]\nsoft_weight = 0.5\n")
    config = load_config(RunConfig, path)
    assert config == RunConfig(superpixels={"size_mm": 4}, loss={"soft_weight": 0.5})
    assert config.superpixels.compactness == RunConfig().superpixels.compactness


def test_set_wins_over_the_file_and_the_last_set_over_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, "[training]\nseed = 1\nsteps = 10\n")
    config = load_config(RunConfig, path, ["training.seed=2", "training.seed=3"])
    assert (config.training.seed, config.training.steps) == (3, 10)


@pytest.mark.parametrize(
    ("override", "group", "value"),
    [
        ("superpixels.size_mm=4", "superpixels", 4.0),
        ("superpixels.size_mm = 2.5e-1", "superpixels", 0.25),
        ("training.seed=7", "training", 7),
        ("training.steps=1_000", "training", 1000),
        ("superpixels.is_photo=true", "superpixels", True),
        ("softening.method=none", "softening", "none"),
        ('softening.method="none"', "softening", "none"),
        ("softening.method='none'", "softening", "none"),
        ("patches.shape=[16, 32,64]", "patches", (16, 32, 64)),
        ("network.strides=[[1,1],[2,2]]", "network", ((1, 1), (2, 2))),
        ("preprocessing.spacing_mm=[0.5,1]", "preprocessing", (0.5, 1.0)),
        ("augmentation.mirror_axes=[]", "augmentation", ()),
        (
            "preprocessing.channels=[{ignore_zero=true}, {}]",
            "preprocessing",
            (ChannelSettings(ignore_zero=True), ChannelSettings()),
        ),
    ],
)
def test_set_reads_a_value_as_toml_or_a_bare_word(override: str, group: str, value: Any) -> None:
    config = load_config(RunConfig, overrides=[override])
    name = override.split("=")[0].strip().split(".")[1]
    assert getattr(getattr(config, group), name) == value


def test_an_unknown_setting_comes_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert complaint("superpixels.size=4").startswith(
        "superpixels: unknown setting 'size'; did you mean 'size_mm'? Known: compactness, is_photo"
    )
    assert complaint("superpixel.size_mm=4").startswith(
        "settings: unknown setting 'superpixel'; did you mean 'superpixels'? Known: augmentation"
    )
    path = write(tmp_path, "[superpixels]\nsize_m = 4\n")
    assert complaint(path=path).startswith("settings.toml: superpixels: unknown setting 'size_m'")


def test_an_unknown_setting_of_a_channel_comes_with_those_of_channels() -> None:
    message = complaint("preprocessing.channels=[{}, {ignore_zeros=true}]")
    assert message.startswith(
        "preprocessing.channels.1: unknown setting 'ignore_zeros'; did you mean 'ignore_zero'?"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed=many", "training.seed: input should be a valid integer"),
        ("training.seed=1.5", "training.seed: input should be a valid integer"),
        ("training.seed=-1", "training.seed: input should be greater than or equal to 0 (got -1)"),
        ("superpixels.size_mm=0", "superpixels.size_mm: input should be greater than 0 (got 0)"),
        ("superpixels.size_mm=nan", "superpixels.size_mm: input should be a finite number"),
        ("superpixels.size_mm=", "superpixels.size_mm: input should be a valid number"),
        ("patches.shape=16", "patches.shape: input should be a valid tuple (got 16)"),
        ("patches.shape=[16,a]", "patches.shape: input should be a valid tuple (got '[16,a]')"),
        ("loss.hard=dise", "loss.hard: input should be 'dice', 'cross_entropy' or "),
        ("softening.method=non", "softening.method: unknown softening method 'non'; did you mean"),
        ("augmentation.scale_range=[2,1]", "augmentation.scale_range: the smallest scale must be"),
        (
            "preprocessing.channels=[{low=2}]",
            "preprocessing.channels.0: low must not be above high",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_place(override: str, message: str) -> None:
    assert complaint(override).startswith(message)


@pytest.mark.parametrize("override", ["seed", "seed=1", "training.seed", "=1", "training.=1", ""])
def test_set_takes_a_group_a_name_and_a_value(override: str) -> None:
    assert complaint(override) == (
        f"--set takes group.name=value, such as superpixels.size_mm=4; got {override!r}"
    )


def test_set_does_not_reach_into_what_is_no_group(tmp_path: Path) -> None:
    path = write(tmp_path, "training = 3\n")
    assert complaint("training.seed=1", path=path).endswith("'training' is no group of settings")
    assert complaint(path=path).startswith("settings.toml: training: input should be a valid dict")


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert complaint(path=missing) == f"{missing}: cannot be read (no such file or directory)"
    assert complaint(path=tmp_path) == f"{tmp_path}: cannot be read (is a directory)"
    broken = write(tmp_path, "[training\nseed = 1\n")
    assert complaint(path=broken).startswith(f"{broken}: is no valid TOML (")
    broken.write_bytes(b"\xff\xfe\x00")
    assert complaint(path=broken).startswith(f"{broken}: is no valid TOML (")


def test_the_mark_that_windows_editors_put_first_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[training]\nseed = 1\n", encoding="utf-8-sig")
    assert load_config(RunConfig, path).training.seed == 1


def test_open_values_are_left_out_of_the_file(tmp_path: Path) -> None:
    save_config(RunConfig(), tmp_path / "settings.toml")
    text = (tmp_path / "settings.toml").read_text("utf-8")
    assert "size_mm" not in text
    assert "soft_weight = 1.0" in text


@settings(deadline=None)
@given(
    st.builds(
        dict,
        superpixels=st.builds(dict, size_mm=st.none() | st.floats(1e-3, 1e3)),
        softening=st.builds(dict, method=st.sampled_from(["none", "superpixel"])),
        patches=st.builds(dict, shape=st.none() | st.tuples(*[st.integers(1, 500)] * 3)),
        preprocessing=st.builds(
            dict,
            spacing_mm=st.none() | st.lists(st.floats(0.1, 9), min_size=2, max_size=3),
            channels=st.none()
            | st.lists(st.builds(dict, ignore_zero=st.booleans(), low=st.floats(-1e4, 0))),
        ),
        network=st.builds(dict, strides=st.none() | st.just([[1, 1], [2, 2], [1, 2]])),
        training=st.builds(dict, steps=st.none() | st.integers(1, 10**9)),
    )
)
def test_settings_that_are_saved_are_those_that_are_loaded(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    config = RunConfig(**values)
    path = tmp_path_factory.mktemp("config") / "settings.toml"
    save_config(config, path)
    assert load_config(RunConfig, path) == config
