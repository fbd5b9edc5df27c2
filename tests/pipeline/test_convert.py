import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sfumato.image.files import read_probability
from sfumato.labels.soft_label_file import read_soft_label


def test_compact_soft_labels_are_those_of_nifti(
    sfumato: Callable, small_volumes: Path, tmp_path: Path
) -> None:
    for name, flags in (("nifti", ()), ("compact", ("--compact", "--report"))):
        outcome = sfumato(
            "soften", small_volumes, "--out", tmp_path / name, "--no-pictures", *flags
        )
        assert outcome.code == 0, outcome.err
    assert (tmp_path / "compact" / "report.html").is_file()
    files = sorted((tmp_path / "compact").glob("*.sfsl"))
    assert len(files) == len(list((tmp_path / "nifti").glob("*.nii.gz")))
    assert not list((tmp_path / "compact").glob("*.nii.gz"))
    for path in files:
        nifti = tmp_path / "nifti" / f"{path.stem}.nii.gz"
        probability, geometry = read_probability(nifti)
        again = read_soft_label(path)
        assert geometry.difference(again.geometry) is None
        np.testing.assert_allclose(again.probability, probability, atol=1 / 255)
        assert path.stat().st_size < nifti.stat().st_size

    before = [path.stat().st_mtime_ns for path in files]
    command = ("soften", small_volumes, "--out", tmp_path / "compact", "--no-pictures")
    assert sfumato(*command, "--compact", "--resume").code == 0
    assert [path.stat().st_mtime_ns for path in files] == before


def test_probabilities_come_back_through_every_format(
    sfumato: Callable, small_volumes: Path, tmp_path: Path
) -> None:
    outcome = sfumato("soften", small_volumes, "--out", tmp_path / "soft", "--no-pictures")
    assert outcome.code == 0, outcome.err
    source = tmp_path / "soft" / "case_00.nii.gz"
    first, geometry = read_probability(source)
    for target in ("bids", "compact", "nifti"):
        outcome = sfumato("convert", source, "--to", target, "--out", tmp_path / target)
        assert outcome.code == 0, outcome.err
        source = min((tmp_path / target).glob("case_00*[lz]"))
    again, place = read_probability(tmp_path / "nifti" / "case_00_probseg.nii.gz")
    np.testing.assert_allclose(again, first, atol=1e-6)
    assert geometry.difference(place) is None


def test_info_says_what_a_soft_label_is(
    sfumato: Callable, small_volumes: Path, tmp_path: Path
) -> None:
    sfumato("soften", small_volumes, "--out", tmp_path / "soft", "--no-pictures", "--compact")
    outcome = sfumato("info", tmp_path / "soft" / "case_00.sfsl")
    assert outcome.code == 0, outcome.err
    assert "soft label" in outcome.out
    with_shape = next(line for line in outcome.out.splitlines() if "shape" in line)
    assert sorted(re.findall(r"\d+", with_shape)) == ["14", "20", "22"]


def test_what_cannot_be_converted_is_named(sfumato: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.sfsl").write_bytes(b"nothing of the kind")
    outcome = sfumato("convert", tmp_path / "a.sfsl", "--to", "nifti", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "a.sfsl" in outcome.err
    assert "is no soft label" in outcome.err
    outcome = sfumato("convert", tmp_path / "a.sfsl", "--to", "nfti", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "did you mean 'nifti'" in outcome.err
