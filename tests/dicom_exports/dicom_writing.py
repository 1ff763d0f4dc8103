"""Small DICOM series, written with pydicom.

Every image holds the same brain, a function of the place in the patient (:func:`brain`), so that a volume made of it can be
checked voxel by voxel. The planted name, number and birth date must never be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from mmccd_auto.imaging.volume import Geometry

PATIENT = ("ZZNAME^Geheim", "ZZID-4711", "19510203")
PLANTED = ("zzname", "geheim", "zzid", "4711", "19510203")
MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
SECONDARY_CAPTURE, BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"
COMPRESSED = {RLELossless, JPEGLSLossless}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
_TILT = np.deg2rad(20)
OBLIQUE = (np.cos(_TILT), np.sin(_TILT), 0.0, -np.sin(_TILT) * 0.9, np.cos(_TILT) * 0.9, float(np.sqrt(0.19)))


@dataclass(frozen=True)
class Scan:
    """A series to write.

    Attributes
    ----------
    tags : elements by keyword beside those that every image has; None takes one away
    slices, spacing : number, and mm between them
    leave_out : slices that are not written
    """

    number: int
    description: str
    tags: Mapping[str, object]
    slices: int = 14
    rows: int = 48
    columns: int = 40
    pixel: float = 4.0
    spacing: float = 10.0
    orientation: tuple[float, ...] = AXIAL
    patient: tuple[str, str, str] = PATIENT
    study: str = "1.2.826.0.1.3680043.8.498.1"
    uid: str = ""
    leave_out: frozenset[int] = frozenset()
    syntax: str = ExplicitVRLittleEndian
    shifts: Mapping[int, float] = field(default_factory=dict)

    @property
    def series_uid(self) -> str:
        """The same in every run."""
        return self.uid or generate_uid(entropy_srcs=[self.study, *self.patient, str(self.number)])

    def position(self, index: int) -> np.ndarray:
        """Centre of the first voxel of a slice: the stack is centred on the origin."""
        row, column = np.reshape(self.orientation, (2, 3))
        normal = np.cross(row, column)
        along = (index - (self.slices - 1) / 2) * self.spacing + self.shifts.get(index, 0.0)
        return normal * along - self.pixel * (row * (self.columns - 1) / 2 + column * (self.rows - 1) / 2)

    def pixels(self, index: int) -> np.ndarray:
        """uint16 [rows, columns]."""
        row, column = np.reshape(self.orientation, (2, 3))
        rows, columns = np.mgrid[: self.rows, : self.columns] * self.pixel
        return brain(self.position(index) + rows[..., None] * column + columns[..., None] * row)


SE = {"ScanningSequence": "SE", "SequenceVariant": "SK", "MRAcquisitionType": "2D", "FlipAngle": 90}
FLAIR = Scan(
    401,
    "sT2W/FLAIR",
    {**SE, "ScanningSequence": ["SE", "IR"], "EchoTime": 100, "RepetitionTime": 9000, "InversionTime": 2500},
)
T1 = Scan(601, "T1/SE", {**SE, "EchoTime": 10, "RepetitionTime": 450})
T2 = Scan(301, "sT2/TSE", {**SE, "EchoTime": 100, "RepetitionTime": 4450})
MPRAGE = Scan(
    7,
    "t1_mprage_sag",
    {"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SK", "SP", "MP"], "MRAcquisitionType": "3D", "FlipAngle": 8}
    | {"EchoTime": 2.9, "RepetitionTime": 2300, "InversionTime": 900},
    slices=36,
    spacing=4.0,
    orientation=SAGITTAL,
)
LOCALISER = Scan(
    1,
    "Survey",
    {"ScanningSequence": "GR", "SequenceVariant": "SP", "EchoTime": 5, "RepetitionTime": 12, "FlipAngle": 20},
    slices=3,
)
CLEAN = (FLAIR, T1, T2)


def brain(points: np.ndarray) -> np.ndarray:
    """What every image shows.

    Parameters
    ----------
    points : [..., 3], LPS, mm

    Returns
    -------
    uint16 [...]: 0 outside an ellipsoid; inside it differs from left to right, front to back and top to bottom
    """
    x, y, z = np.moveaxis(points, -1, 0)
    inside = (x / 70) ** 2 + (y / 85) ** 2 + (z / 65) ** 2 < 1
    return np.where(inside, np.round(500 + 2 * x + y + 3 * z), 0).astype(np.uint16)


def positions(geometry: Geometry) -> np.ndarray:
    """Centre of every voxel, float64 [z, y, x, 3], LPS, mm."""
    indices = np.moveaxis(np.indices(geometry.size), 0, -1) * geometry.spacing
    points = indices @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin
    return points.transpose(2, 1, 0, 3)


def make_images(scan: Scan) -> list[Dataset]:
    """The slices of a series as classic MR images."""
    return [_image(scan, index) for index in range(scan.slices) if index not in scan.leave_out]


def write(dataset: Dataset, path: Path) -> Path:
    """Write one dataset by the transfer syntax in its file meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_scans(folder: Path, scans: Iterable[Scan], name: str = "S{series:04d}/IM{image:04d}.dcm") -> Path:
    """Write every image of every scan."""
    for scan in scans:
        for image, dataset in enumerate(make_images(scan), 1):
            write(dataset, folder / name.format(series=scan.number, image=image))
    return folder


def make_object(scan: Scan, sop_class: str, instance: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if scan.syntax in COMPRESSED else scan.syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    uid = generate_uid(entropy_srcs=[scan.series_uid, instance])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = scan.patient
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = scan.study, scan.series_uid
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "120000", "1", ""
    dataset.SeriesNumber, dataset.SeriesDescription, dataset.ProtocolName = scan.number, scan.description, ""
    dataset.Modality, dataset.Manufacturer = "MR", "Nobody"
    return dataset


def _image(scan: Scan, index: int) -> Dataset:
    dataset = make_object(scan, MR_IMAGE, f"{index} {scan.tags.get('EchoTime')} {scan.tags.get('AcquisitionNumber')}")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in scan.position(index)]
    dataset.ImageOrientationPatient = [f"{value:.8f}" for value in scan.orientation]
    dataset.FrameOfReferenceUID = f"{scan.study}.9"
    dataset.PixelSpacing = [scan.pixel, scan.pixel]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = scan.spacing
    dataset.MagneticFieldStrength = 1.5
    set_pixels(dataset, scan.pixels(index))
    for keyword, value in scan.tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if scan.syntax == ExplicitVRBigEndian:
        dataset.PixelData = scan.pixels(index).astype(">u2").tobytes()
    if scan.syntax in COMPRESSED:
        dataset.compress(scan.syntax, generate_instance_uid=False)
    return dataset


def set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset["PixelData"] = _pixel_element(pixels)


def _pixel_element(pixels: np.ndarray) -> DataElement:
    holder = Dataset()
    holder.add_new("PixelData", "OW", pixels.astype("<u2").tobytes())
    return holder["PixelData"]


def with_tags(scan: Scan, **tags: object) -> Scan:
    return replace(scan, tags={**scan.tags, **tags})


def make_enhanced(scan: Scan, echoes: tuple[float, ...] = ()) -> Dataset:
    """One multi-frame file with all slices of a scan."""
    dataset = make_object(scan, ENHANCED_MR, "enhanced")
    frames = [(echo, index) for echo in echoes or (scan.tags["EchoTime"],) for index in range(scan.slices)]
    set_pixels(dataset, np.stack([scan.pixels(index) for _, index in frames]))
    dataset.NumberOfFrames = len(frames)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.InstanceNumber, dataset.MagneticFieldStrength = 1, 3.0
    dataset.ContentDate = dataset.AcquisitionDateTime = "20200101"
    dataset.ContentTime = "120000"
    dataset.MRAcquisitionType, dataset.EchoPulseSequence, dataset.EchoPlanarPulseSequence = "2D", "SPIN", "NO"
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=[scan.pixel] * 2, SliceThickness=scan.spacing, SpacingBetweenSlices=scan.spacing
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=list(scan.orientation))
    shared.MRTimingAndRelatedParametersSequence = _item(RepetitionTime=scan.tags["RepetitionTime"], FlipAngle=90)
    if "InversionTime" in scan.tags:
        shared.MRModifierSequence = _item(InversionRecovery="YES", InversionTimes=[scan.tags["InversionTime"]])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence([_frame(scan, *frame) for frame in frames])
    return dataset


def _frame(scan: Scan, echo: float, index: int) -> Dataset:
    frame = Dataset()
    frame.MREchoSequence = _item(EffectiveEchoTime=echo)
    frame.PlanePositionSequence = _item(ImagePositionPatient=[f"{value:.6f}" for value in scan.position(index)])
    frame.FrameContentSequence = _item(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[index + 1])
    frame.MRImageFrameTypeSequence = _item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])
    return frame


def _item(**elements: object) -> DicomSequence:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return DicomSequence([item])
