"""What programs call a structure: codes of SNOMED CT, as DICOM segmentations need them."""

import re
from collections.abc import Iterable

from sfumato.settings import Settings


class Code(Settings):
    """One coded concept.

    Attributes:
        value: The code itself.
        meaning: The same in words.
        scheme: Who defines it; SCT is SNOMED CT.
    """

    value: str
    meaning: str
    scheme: str = "SCT"


class StructureCodes(Settings):
    """What a class of a model is.

    Attributes:
        category: Its broad kind, such as anatomical structure.
        type: What it is, such as liver.
        modifier: Which one or which part, such as left, if that is to be said.
    """

    category: Code
    type: Code
    modifier: Code | None = None


_ANATOMY = Code(value="91723000", meaning="Anatomical Structure")
_ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")
_TISSUE = Code(value="85756007", meaning="Tissue")
_SUBSTANCE = Code(value="91720002", meaning="Body Substance")
_MODIFIERS = {
    "left": Code(value="7771000", meaning="Left"),
    "right": Code(value="24028007", meaning="Right"),
    "anterior": Code(value="255549009", meaning="Anterior"),
    "posterior": Code(value="255551008", meaning="Posterior"),
}
_TABLE = {
    _ANATOMY: """
        23451007 Adrenal gland; 4958002 Amygdala; 15825003 Aorta; 89837001 Bladder;
        59820001 Blood Vessel = vessel; 3138006 Bone; 12738006 Brain; 119238007 Brain Stem =
        brainstem; 76752008 Breast; 11000004 Caudate Nucleus = caudate; 4421005 Cell;
        113305005 Cerebellum; 71854001 Colon; 38848004 Duodenum; 32849002 Esophagus = oesophagus;
        28231008 Gallbladder; 14738005 Globus Pallidus = pallidum; 80891009 Heart;
        8993003 Hepatic vein; 5366008 Hippocampus; 64131007 Inferior vena cava; 64033007 Kidney;
        82471001 Left atrium; 87878005 Left ventricle; 10200004 Liver; 39607008 Lung;
        59441001 Lymph Node; 91609006 Mandible; 84640000 Nucleus; 15776009 Pancreas;
        45289007 Parotid gland; 279706003 Peripheral zone of the prostate = peripheral zone;
        32764006 Portal vein; 41216001 Prostate; 89278009 Putamen; 34402009 Rectum;
        5665001 Retina; 73829009 Right atrium; 53085002 Right ventricle; 39937001 Skin;
        30315005 Small intestine; 2748008 Spinal cord; 78961009 Spleen; 69695003 Stomach;
        42695009 Thalamus; 69748006 Thyroid; 44567001 Trachea; 399384005 Transition zone of the
        prostate = transition zone; 35039007 Uterus; 51282000 Vertebra""",
    _TISSUE: "389081007 Gray Matter = grey matter; 389080008 White Matter",
    _SUBSTANCE: "65216001 Cerebrospinal Fluid = csf",
    _ABNORMAL: """
        367643001 Cyst; 79654002 Edema = oedema; 50960005 Hemorrhage = haemorrhage;
        52988006 Lesion; 4147007 Mass; 6574001 Necrosis; 108369006 Neoplasm = tumor = tumour;
        27925004 Nodule""",
}
"""For each category: code, meaning, and further names of it."""


def codes_of(name: str) -> StructureCodes:
    """Look up what a class is by its name; a name that is not known is some tissue.

    Words for a side or part become the modifier. Case, punctuation and an s at the end do not
    matter, nor does the code of an organ with a tumour named after it ("liver tumour").

    Examples:
        >>> codes_of("Liver").type.meaning, codes_of("kidney_left").modifier.meaning
        ('Liver', 'Left')
        >>> codes_of("liver tumour").type.meaning, codes_of("class 1").type.meaning
        ('Neoplasm', 'Tissue')
    """
    words = re.findall("[a-z0-9]+", name.lower())
    if found := _KNOWN.get(" ".join(words)):
        return found
    parts = [word for word in words if word in _MODIFIERS]
    rest = [word for word in words if word not in _MODIFIERS]
    codes = _find(rest)
    modifier = _MODIFIERS[parts[0]] if len(parts) == 1 else None
    return codes.model_copy(update={"modifier": modifier})


def codes_by_name(names: Iterable[str]) -> dict[str, StructureCodes]:
    """Look up the codes of every class."""
    return {name: codes_of(name) for name in names}


def _find(words: list[str]) -> StructureCodes:
    """Find what words name, or else the abnormal thing that the last one names."""
    text = " ".join(words)
    last = _KNOWN.get(words[-1]) if words else None
    is_abnormal = last is not None and last.category == _ABNORMAL
    known = (
        _KNOWN.get(text) or _KNOWN.get(text.removesuffix("s")) or (last if is_abnormal else None)
    )
    return known or StructureCodes(category=_TISSUE, type=_TISSUE)


def _read_table() -> dict[str, StructureCodes]:
    known: dict[str, StructureCodes] = {}
    for category, text in _TABLE.items():
        for entry in " ".join(text.split()).split("; "):
            value, _, rest = entry.partition(" ")
            meaning, *others = rest.split(" = ")
            codes = StructureCodes(category=category, type=Code(value=value, meaning=meaning))
            known |= {name.lower(): codes for name in (meaning, *others)}
    return known


_KNOWN = _read_table()
