"""What a derived DICOM object needs to know of the images that it refers to, and nothing that says who the patient is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom.spatial import VOLUME_INDEX_CONVENTION, get_normal_vector
from pydicom.dataset import Dataset

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.files.open_file import read_header_of
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.dicom.writing.identity import DicomIdentity, renumber

# What an archive files an object by.
FILED_BY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_REFERRED_BY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
)
_SHARED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns")
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_PLACED_BY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
# highdicom copies these from the images, so they must be there.
_LEFT_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
SAME_PLANE = 0.01
SAME_DIRECTION = 1e-3
SAME_SPACING = 1e-3


@dataclass(frozen=True)
class DicomSource:
    """The images of one scan.

    Attributes
    ----------
    images : headers reduced to what :func:`read_source` names, one per file
    positions : float64 [planes, 3], LPS, mm, centre of each plane's first pixel; along the normal, no two planes alike
    orientation : float64 [6], direction along a row, then along a column
    spacing : mm between rows, mm between columns
    thickness : mm, of a slice
    shape : planes, rows, columns
    """

    images: list[Dataset] = field(repr=False)
    positions: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    thickness: float
    shape: tuple[int, int, int]

    def directions(self) -> np.ndarray:
        """Compute the directions in which planes, rows and columns are counted, float64 [3, 3], one per column."""
        return np.stack([_normal(self.orientation), self.orientation[3:], self.orientation[:3]], axis=1)

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the four corner pixels of every plane.

        Indices int64 [4 planes, 3] (plane, row, column) and positions (mm).
        """
        planes, rows, columns = self.shape
        indices = np.array([(p, r, c) for p in range(planes) for r in (0, rows - 1) for c in (0, columns - 1)])
        steps = np.stack([self.orientation[3:] * self.spacing[0], self.orientation[:3] * self.spacing[1]])
        return indices, self.positions[indices[:, 0]] + indices[:, 1:] @ steps

    def plane_positions(self) -> list[highdicom.PlanePositionSequence]:
        """Return the position of each plane."""
        return [highdicom.PlanePositionSequence("PATIENT", image_position=list(place)) for place in self.positions]

    def plane_orientation(self) -> highdicom.PlaneOrientationSequence:
        """Return the orientation of all planes."""
        return highdicom.PlaneOrientationSequence("PATIENT", image_orientation=list(self.orientation))

    def pixel_measures(self) -> highdicom.PixelMeasuresSequence:
        """Return the spacing of all planes."""
        return highdicom.PixelMeasuresSequence(pixel_spacing=list(self.spacing), slice_thickness=self.thickness)


def read_source(files: Sequence[Path], identity: DicomIdentity | None = None) -> DicomSource:
    """Read the headers of a scan's images, without their pixels.

    Of each header only the numbers that name the image and its series, study and frame of reference, its place and its
    kind are kept. Messages don't name the files, since their names may name the patient.

    Parameters
    ----------
    files : single-frame images in any order, or one multi-frame image; images in the same plane (echoes) count as one plane
    identity : a pseudonym, under which the numbers are replaced (:func:`renumber`); None keeps them

    Raises
    ------
    MMCCDError
        If there are none, one is missing or can't be read, or they aren't parallel images of one series.
    """
    headers = [
        _read(path, f"Image {number} of {len(files)}", [*_REFERRED_BY, *_LOSSY, *_PLACED_BY, *_GROUPS])
        for number, path in enumerate(files, 1)
    ]
    if not headers:
        raise MMCCDError("No DICOM images of the scan were given: give the images that it was converted from.")
    multi_frame = _GROUPS[1] in headers[0]
    if multi_frame and len(headers) > 1:
        raise MMCCDError(
            "Several multi-frame DICOM images were given for one scan: give the one that it was converted from."
        )
    if identity is not None:
        renumber(headers, files, identity)
    for number, header in enumerate(headers, 1):
        missing = [keyword for keyword in _REFERRED_BY if header.get(keyword) in (None, "")]
        if missing:
            raise MMCCDError(
                f"Image {number} of {len(headers)} lacks {missing[0]}, without which no object can refer to it: export it "
                "again, write no DICOM objects, or write them without --keep_identity."
            )
    if len({tuple(header[keyword].value for keyword in _SHARED) for header in headers}) > 1:
        raise MMCCDError(
            "The DICOM images are not one series of one size with one study number: give the images that the scan was "
            "converted from, or write DICOM objects without --keep_identity."
        )
    if len({header.SOPInstanceUID for header in headers}) < len(headers):
        raise MMCCDError(
            "Several DICOM images share one SOPInstanceUID, so that no object can refer to them: export them again, or "
            "write DICOM objects without --keep_identity."
        )
    frames = _frames_of(headers[0]) if multi_frame else headers
    places = [_Place.of(frame) for frame in frames]
    return _arrange(headers, places, multi_frame)


def read_patient(path: Path) -> dict[str, str]:
    """Read the texts of :data:`FILED_BY` in an image's header; those that it lacks are left out.

    Raises
    ------
    MMCCDError
        If the image is missing or can't be read.
    """
    header = _read(path, "The first image", ["SpecificCharacterSet", *FILED_BY])
    return {keyword: str(header.get(keyword) or "") for keyword in FILED_BY if keyword in header}


def read_image_numbers(files: Sequence[Path]) -> tuple[list[int], np.ndarray]:
    """Read the number (InstanceNumber) of each image and where it lies, without pixels, names and UIDs.

    Parameters
    ----------
    files : as for :func:`read_source`; the frames of one multi-frame image are numbered from 1, as viewers show them

    Returns
    -------
    numbers, and positions float64 [images, 3], LPS, mm, centre of the first pixel

    Raises
    ------
    MMCCDError
        If an image can't be read, or doesn't say its number or place.
    """
    headers = [
        _read(path, f"Image {number} of {len(files)}", ["InstanceNumber", *_PLACED_BY, *_GROUPS])
        for number, path in enumerate(files, 1)
    ]
    if len(headers) == 1 and _GROUPS[1] in headers[0]:
        places = [_Place.of(frame) for frame in _frames_of(headers[0])]
        numbers = list(range(1, len(places) + 1))
    else:
        places = [_Place.of(header) for header in headers]
        try:
            numbers = [int(header.InstanceNumber) for header in headers]
        except (AttributeError, TypeError, ValueError) as error:
            raise MMCCDError("A DICOM image has no number (InstanceNumber): export the series again.") from error
    return numbers, np.stack([place.position for place in places])


@dataclass(frozen=True)
class _Place:
    """Where one frame lies: see :class:`DicomSource`."""

    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    thickness: float | None

    @classmethod
    def of(cls, frame: Dataset) -> _Place:
        try:
            position, orientation, spacing = (np.array(frame[keyword].value, dtype=float) for keyword in _PLACED_BY[:3])
            thickness = frame.get("SliceThickness")
            place = cls(position, orientation, spacing, thickness=float(thickness) if thickness else None)
        except (KeyError, TypeError, ValueError) as error:
            raise MMCCDError("A DICOM image does not say where it lies in the patient: export the series again.") from error
        if (place.position.size, place.orientation.size, place.spacing.size) != (3, 6, 2):
            raise MMCCDError("A DICOM image does not say where it lies in the patient: export the series again.")
        return place


def _read(path: Path, name: str, keywords: list[str]) -> Dataset:
    try:
        with Path(path).open("rb") as file, quiet_pydicom():
            return read_header_of(file, keywords)[0]
    except FileNotFoundError:
        # Not chained: the system's message names the file.
        raise MMCCDError(f"{name} of the scan does not exist any more: give the DICOM export again.") from None
    except OSError as error:
        raise MMCCDError(f"{name} of the scan can't be opened ({error.strerror}): check who may read it.") from None
    except Exception:
        # pydicom raises nearly every kind of exception on damaged files, and its messages may quote the patient's name.
        raise MMCCDError(f"{name} of the scan is no readable DICOM file: export it again.") from None


def _frames_of(header: Dataset) -> list[Dataset]:
    """Return the place of each frame of a multi-frame image in the form of a single-frame image's header."""
    shared = header.get(_GROUPS[0]) or [Dataset()]
    frames = []
    for own in header[_GROUPS[1]].value:
        frame = Dataset()
        for macro in _MACROS:
            for item in own.get(macro) or shared[0].get(macro) or []:
                for keyword in _PLACED_BY:
                    if keyword in item:
                        frame.add(item[keyword])
        frames.append(frame)
    return frames


def _arrange(headers: list[Dataset], places: list[_Place], multi_frame: bool) -> DicomSource:
    first = places[0]
    for place in places:
        same = np.allclose(place.orientation, first.orientation, rtol=0, atol=SAME_DIRECTION) and np.allclose(
            place.spacing, first.spacing, rtol=0, atol=SAME_SPACING
        )
        if not same:
            raise MMCCDError("The DICOM images are not parallel or differ in pixel size: leave out localisers.")
    positions = np.array([place.position for place in places])
    distances = positions @ _normal(first.orientation)
    order = np.argsort(distances, kind="stable")
    kept = order[np.concatenate([[True], np.diff(distances[order]) > SAME_PLANE])]
    gaps = np.diff(distances[kept])
    source = DicomSource(
        images=[],
        positions=positions[kept],
        orientation=first.orientation,
        spacing=(float(first.spacing[0]), float(first.spacing[1])),
        thickness=first.thickness or (float(np.median(gaps)) if len(gaps) else 1.0),
        shape=(len(kept), int(headers[0].Rows), int(headers[0].Columns)),
    )
    if multi_frame:
        source.images.append(_reduced_multi_frame(headers[0], places, source))
    else:
        source.images.extend(
            _reduced_single_frame(header, place, source) for header, place in zip(headers, places, strict=True)
        )
    return source


def _reduced_single_frame(header: Dataset, place: _Place, source: DicomSource) -> Dataset:
    reduced = _reduced(header)
    reduced.ImagePositionPatient = _texts(place.position)
    # highdicom wants them equal to the last digit, which some scanners don't keep.
    reduced.ImageOrientationPatient = _texts(source.orientation)
    reduced.PixelSpacing = _texts(source.spacing)
    reduced.SliceThickness = _texts([source.thickness])[0]
    return reduced


def _reduced_multi_frame(header: Dataset, places: list[_Place], source: DicomSource) -> Dataset:
    reduced = _reduced(header)
    reduced.NumberOfFrames = len(places)
    # Some scanners repeat for each frame what all frames share, where highdicom doesn't look for it.
    shared = Dataset()
    shared.PlaneOrientationSequence = source.plane_orientation()
    shared.PixelMeasuresSequence = source.pixel_measures()
    reduced.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in places:
        frame = Dataset()
        frame.PlanePositionSequence = highdicom.PlanePositionSequence("PATIENT", image_position=list(place.position))
        frames.append(frame)
    reduced.PerFrameFunctionalGroupsSequence = frames
    return reduced


def _reduced(header: Dataset) -> Dataset:
    reduced = Dataset()
    for keyword in (*_REFERRED_BY, *(keyword for keyword in _LOSSY if keyword in header)):
        reduced.add(header[keyword])
    for keyword in _LEFT_EMPTY:
        setattr(reduced, keyword, None)
    return reduced


def _texts(values: Any) -> list[str]:
    return [pydicom.valuerep.format_number_as_ds(float(value)) for value in values]


def _normal(orientation: np.ndarray) -> np.ndarray:
    """Compute the direction along which highdicom counts planes, float64 [3]."""
    return get_normal_vector(orientation.tolist(), index_convention=VOLUME_INDEX_CONVENTION)
