"""Made-up DICOM series, with a patient whose data no message may repeat."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

PATIENT = {
    "PatientName": "Zzyzx^Quentin",
    "PatientID": "QX-90817",
    "PatientBirthDate": "19310417",
    "StudyDate": "20190823",
    "AccessionNumber": "ACC5550123",
    "InstitutionName": "Hospital Wobbegong",
    "SeriesDescription": "for Quentin",
}
DIRECTIONS = {
    "axial": np.eye(3),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], float),
    "oblique": Rotation.from_euler("xyz", (20, -35, 160), degrees=True).as_matrix(),
}
"""Columns: the way of rising column, row and slice, in DICOM's millimetres."""
Change = Callable[[int, pydicom.Dataset], None]


def volume(shape: tuple[int, int, int] = (7, 6, 5), seed: int = 0) -> np.ndarray:
    """Make a volume of column, row and slice."""
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.uint16)


def lps_affine(directions: str = "axial") -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[directions] * (0.8, 1.5, 2.5)
    affine[:3, 3] = (-20.5, 31.25, 7)
    return affine


def ras_affine(directions: str = "axial") -> np.ndarray:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps_affine(directions)


def write_series(
    folder: Path,
    values: np.ndarray,
    directions: str = "axial",
    change: Change = lambda index, dataset: None,
    seed: int = 0,
) -> Path:
    """Write every slice to a file; the names and numbers of files tell nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = lps_affine(directions)
    names = np.random.default_rng(seed).permutation(values.shape[2])
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(values.shape[2]):
        dataset = image_dataset(CTImageStorage, values[:, :, index], seed)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, study
        dataset.FrameOfReferenceUID = frame
        dataset.InstanceNumber = int(names[index])
        dataset.ImagePositionPatient = exact(affine[:3, 3] + affine[:3, 2] * index)
        dataset.ImageOrientationPatient = exact(unit(affine[:3, 0]), unit(affine[:3, 1]))
        dataset.PixelSpacing = exact([np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 0])])
        change(index, dataset)
        dataset.save_as(folder / f"{names[index]}.dcm", enforce_file_format=True)
    return folder


def write_multi_frame(path: Path, values: np.ndarray, directions: str = "axial") -> Path:
    """Write an enhanced MR image; every second frame comes first."""
    affine = lps_affine(directions)
    order = [*range(0, values.shape[2], 2), *range(1, values.shape[2], 2)]
    dataset = image_dataset(EnhancedMRImageStorage, values[:, :, order], 0)
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber = 1
    dataset.DimensionOrganizationSequence = [pydicom.Dataset()]
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = generate_uid()
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = [pydicom.Dataset()]
    spacing = [np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 0])]
    shared.PixelMeasuresSequence[0].PixelSpacing = exact(spacing)
    shared.PixelMeasuresSequence[0].SliceThickness = exact([np.linalg.norm(affine[:3, 2])])[0]
    shared.PlaneOrientationSequence = [pydicom.Dataset()]
    orientation = exact(unit(affine[:3, 0]), unit(affine[:3, 1]))
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in order:
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = [pydicom.Dataset()]
        position = exact(affine[:3, 3] + affine[:3, 2] * place)
        frame.PlanePositionSequence[0].ImagePositionPatient = position
        frame.PixelValueTransformationSequence = [pydicom.Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = "2"
        frame.PixelValueTransformationSequence[0].RescaleIntercept = str(place)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.save_as(path, enforce_file_format=True)
    return path


def image_dataset(kind: str, values: np.ndarray, seed: int) -> pydicom.Dataset:
    """Make a file of one plane (column, row) or several (column, row, frame)."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    for name, value in PATIENT.items():
        setattr(dataset, name, value)
    for name in ("PatientSex", "StudyTime", "StudyID", "ReferringPhysicianName", "Manufacturer"):
        setattr(dataset, name, "")
    dataset.Modality, dataset.SeriesNumber = "CT", 301 + seed
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = values.shape[1], values.shape[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    is_signed = values.dtype.kind == "i"
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(is_signed)
    if values.ndim == 3:
        dataset.NumberOfFrames = values.shape[2]
    dataset.PixelData = values.T.tobytes()
    return dataset


def exact(*vectors: np.ndarray | list[float]) -> list[str]:
    """Write numbers as DICOM does, in up to 16 characters."""
    return [pydicom.valuerep.format_number_as_ds(float(x)) for x in np.concatenate(vectors)]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
