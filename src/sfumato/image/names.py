"""What the name of an image file says: its format and the case it belongs to."""

from pathlib import Path
from typing import Literal

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd")
TIFF_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".zip")
IMAGE_SUFFIXES = (
    *NIFTI_SUFFIXES,
    *ITK_SUFFIXES,
    *PICTURE_SUFFIXES,
    *TIFF_SUFFIXES,
    *DICOM_SUFFIXES,
)
"""Every ending that can be read; folders of DICOM files, which need none, can be read too."""

FileType = Literal["same", "nifti", "seg.nrrd"]
"""What segmentations are written as: their image's file type, NIfTI, or as 3D Slicer does."""

Overlay = Literal["png", "html"]
"""What a preview of a segmentation is: a picture, or a page with the picture and sizes."""

# Formats in two files, lossy ones, or with more to say, and what a label is written as instead.
_WRITTEN_AS = {
    ".seg.nrrd": ".nrrd",
    ".mhd": ".mha",
    ".nhdr": ".nrrd",
    ".jpg": ".png",
    ".jpeg": ".png",
}


def file_suffix(path: Path) -> str:
    """Return the ending of a file name in lower case, both parts of a double one.

    Examples:
        >>> file_suffix(Path("scans/a.NII.gz")), file_suffix(Path("b.v2.png"))
        ('.nii.gz', '.png')
    """
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), Path(name).suffix)


def file_stem(path: Path) -> str:
    """Return the file name without its ending.

    Examples:
        >>> file_stem(Path("scans/a.nii.gz")), file_stem(Path("b.v2.png"))
        ('a', 'b.v2')
    """
    suffix = file_suffix(path)
    return path.name[: len(path.name) - len(suffix)]


def is_dicom(path: Path) -> bool:
    """Tell whether an image is DICOM, by what its name is: folders and unknown endings are.

    Examples:
        >>> is_dicom(Path("a.zip")), is_dicom(Path("study/IM0001")), is_dicom(Path("a.nii.gz"))
        (True, True, False)
    """
    suffix = file_suffix(path)
    return path.is_dir() or suffix in DICOM_SUFFIXES or suffix not in IMAGE_SUFFIXES


def label_suffix(path: Path) -> str:
    """Return the ending under which the label of an image is best written.

    It is the image's own, except for formats that would lose something: JPEG changes values,
    and .mhd and .nhdr spread over two files. DICOM gets NIfTI.

    Examples:
        >>> label_suffix(Path("a.nii.gz")), label_suffix(Path("b.jpg")), label_suffix(Path("c.mhd"))
        ('.nii.gz', '.png', '.mha')
    """
    if is_dicom(path):
        return ".nii.gz"
    suffix = file_suffix(path)
    return _WRITTEN_AS.get(suffix, suffix)
