"""The codes of structures are those of SNOMED CT, and names of classes find them."""

import pytest
from pydicom.sr.codedict import codes as known_codes

from sfumato.image import structure_codes
from sfumato.image.structure_codes import Code, codes_by_name, codes_of

EVERY_CODE = {
    code
    for codes in structure_codes._KNOWN.values()
    for code in (codes.category, codes.type, *structure_codes._MODIFIERS.values())
}


@pytest.mark.parametrize(
    "code", sorted(EVERY_CODE, key=lambda c: c.meaning), ids=lambda c: c.meaning
)
def test_every_code_means_what_the_standard_says(code: Code) -> None:
    concepts = known_codes.SCT.concepts.values()
    assert (code.value, code.meaning) in {(c.value, c.meaning) for c in concepts}


@pytest.mark.parametrize(
    ("name", "kind", "modifier"),
    [
        ("Liver", "Liver", None),
        ("hippocampus anterior", "Hippocampus", "Anterior"),
        ("Anterior", "Tissue", "Anterior"),
        ("kidney_left", "Kidney", "Left"),
        ("Right Kidney", "Kidney", "Right"),
        ("left ventricle", "Left ventricle", None),
        ("kidneys", "Kidney", None),
        ("liver tumour", "Neoplasm", None),
        ("left and right lung", "Tissue", None),
        ("class 1", "Tissue", None),
        ("肝", "Tissue", None),
    ],
)
def test_names_find_their_codes(name: str, kind: str, modifier: str | None) -> None:
    codes = codes_of(name)
    assert codes.type.meaning == kind
    assert (codes.modifier and codes.modifier.meaning) == modifier


def test_every_name_has_codes() -> None:
    assert list(codes_by_name(["b", "a"])) == ["b", "a"]
