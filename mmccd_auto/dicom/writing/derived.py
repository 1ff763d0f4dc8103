"""What a report needs of the score object that it is made of: under whom it is filed, its scan, and its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.dicom.writing.source_images import FILED_BY

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class ScoreObject:
    """The Parametric Map of a case, without its pixels.

    Attributes
    ----------
    header : as it was written, without pixels
    segmentation : of the same case, without its pixels; None where there is no mask
    """

    header: Dataset = field(repr=False)
    segmentation: Dataset | None = field(default=None, repr=False)

    @property
    def evidence(self) -> list[Dataset]:
        """The objects that a report is made of."""
        return [self.header, *([] if self.segmentation is None else [self.segmentation])]

    @property
    def images(self) -> list[Dataset]:
        """The images of the scan, by their numbers alone."""
        found = []
        for series in self.header.ReferencedSeriesSequence:
            for one in series.ReferencedInstanceSequence:
                image = Dataset()
                image.SOPClassUID, image.SOPInstanceUID = one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID
                image.StudyInstanceUID, image.SeriesInstanceUID = self.header.StudyInstanceUID, series.SeriesInstanceUID
                found.append(image)
        return found

    @property
    def quantity(self) -> Code:
        """What the score is."""
        return _code(self._mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0])

    @property
    def unit(self) -> Code:
        """Of the score."""
        return _code(self._mapping.MeasurementUnitsCodeSequence[0])

    def image_at(self, point: Sequence[float]) -> tuple[str, str, int | None]:
        """Find the image of the scan whose plane is nearest to a point.

        Parameters
        ----------
        point : LPS, mm

        Returns
        -------
        SOP class, SOP instance, and number of the frame from 1 where the image has several
        """
        orientation = np.array(self._shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
        normal = np.cross(orientation[:3], orientation[3:])
        frames = self.header.PerFrameFunctionalGroupsSequence
        places = [np.array(one.PlanePositionSequence[0].ImagePositionPatient, dtype=float) for one in frames]
        nearest = int(np.argmin([abs((np.asarray(point) - place) @ normal) for place in places]))
        image = frames[nearest].DerivationImageSequence[0].SourceImageSequence[0]
        number = image.get("ReferencedFrameNumber")
        return str(image.ReferencedSOPClassUID), str(image.ReferencedSOPInstanceUID), None if number is None else int(number)

    @property
    def _shared(self) -> Dataset:
        return self.header.SharedFunctionalGroupsSequence[0]

    @property
    def _mapping(self) -> Dataset:
        return self._shared.RealWorldValueMappingSequence[0]


def read_score_object(score: Path, segmentation: Path | None = None) -> ScoreObject:
    """Read the objects that a prediction wrote.

    Parameters
    ----------
    score : file of :func:`~mmccd_auto.dicom.writing.objects.write_parametric_map`
    segmentation : file of :func:`~mmccd_auto.dicom.writing.objects.write_segmentation` for the same scan; None for none

    Raises
    ------
    MMCCDError
        If one can't be read.
    """
    return ScoreObject(_read(score), None if segmentation is None else _read(segmentation))


def instance_uid(path: Path) -> str:
    """Read the number of an object that was written here.

    Raises
    ------
    MMCCDError
        If it can't be read.
    """
    return str(_read(path).SOPInstanceUID)


def file_beside(result: Dataset, source: Dataset) -> None:
    """File an object with the patient and study of another one, in place."""
    result.SpecificCharacterSet = "ISO_IR 192"
    for keyword in FILED_BY:
        if keyword in source:
            # An archive finds the patient by the very text of the scan, even where that is against the standard.
            value, kind = source[keyword].value, dictionary_VR(keyword)
            result.add(DataElement(source[keyword].tag, kind, value, validation_mode=pydicom.config.IGNORE))
    result.StudyInstanceUID = source.StudyInstanceUID


def save_object(result: Dataset, path: Path) -> None:
    """Write an object, atomically.

    Raises
    ------
    MMCCDError
        If the file can't be written.
    """
    with atomic_path(path) as temporary, quiet_pydicom():
        result.save_as(temporary, enforce_file_format=True)


def _read(path: Path) -> Dataset:
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path)
    except Exception as error:
        # pydicom raises nearly every kind of exception on damaged files.
        raise MMCCDError(f"{path} can't be read ({type(error).__name__}): predict the case again.") from error
    for keyword in _PIXELS:
        if keyword in header:
            del header[keyword]
    return header


def _code(item: Dataset) -> Code:
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
