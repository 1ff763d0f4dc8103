"""The lesions of a case as a DICOM Structured Report (TID 1500) that refers to its mask, its score and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.versions import software_versions
from mmccd_auto.dicom.writing.derived import ScoreObject, file_beside, save_object
from mmccd_auto.dicom.writing.objects import NAME

REPORT_SERIES_NUMBER = 9003
_VOLUME = Code("118565006", "SCT", "Volume")
_SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right, "midline": codes.SCT.Midline}


@dataclass(frozen=True)
class ReportedLesion:
    """One lesion of a report.

    Attributes
    ----------
    number : 1 is the largest
    volume_ml : millilitres
    longest_diameter_mm : from outer edge to outer edge
    peak_score, mean_score : in units of the map
    centre_lps_mm : centre of mass
    side : of the patient
    """

    number: int
    volume_ml: float
    longest_diameter_mm: float
    peak_score: float
    mean_score: float
    centre_lps_mm: tuple[float, float, float]
    side: Literal["left", "right", "midline"]


def write_structured_report(score: ScoreObject, lesions: Sequence[ReportedLesion], path: Path) -> None:
    """Write the lesions as measurement groups, each with a tracking identifier and number, side, volume and scores.

    The first group is the whole mask, as the segment that it is. Each lesion names the image in which its centre lies. The
    report is preliminary and unverified: nobody has read it. Equal content gives an equal object but for dates and times.

    Parameters
    ----------
    score : objects of the case, its Segmentation among them
    lesions : of the case; none is a result, too
    path : of the object

    Raises
    ------
    MMCCDError
        If there is no Segmentation, or the file can't be written.
    """
    algorithm = sr.AlgorithmIdentification(NAME, _version(), family=codes.DCM.ArtificialIntelligence)
    if score.segmentation is None:
        raise MMCCDError(f"{path} would list lesions without a mask: calibrate the model, or give --threshold.")
    groups: list[Any] = [_whole_mask(score, score.segmentation, lesions, algorithm)]
    groups += [_group(score, lesion, algorithm) for lesion in lesions]
    source = score.header
    series = generate_uid(entropy_srcs=[NAME, "report series", source.SeriesInstanceUID])
    content = repr(lesions)
    result = sr.Comprehensive3DSR(
        evidence=[*score.evidence, *score.images],
        content=sr.MeasurementReport(
            observation_context=_context(source.SOPInstanceUID),
            procedure_reported=codes.LN.BrainMRI,
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        ),
        series_instance_uid=series,
        series_number=REPORT_SERIES_NUMBER,
        sop_instance_uid=generate_uid(entropy_srcs=[NAME, "report", source.SOPInstanceUID, content, _version()]),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=_version(),
        device_serial_number=str(source.DeviceSerialNumber),
        series_description=f"{NAME} lesions, for research",
        is_complete=False,
        is_final=False,
        is_verified=False,
    )
    file_beside(result, source)
    save_object(result, path)


def _whole_mask(
    score: ScoreObject, segmentation: Dataset, lesions: Sequence[ReportedLesion], algorithm: sr.AlgorithmIdentification
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Everything that is marked, as a segment of the Segmentation."""
    total = sum(lesion.volume_ml for lesion in lesions)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            segment_number=1,
            source_series=sr.SourceSeriesForSegmentation(score.images[0].SeriesInstanceUID),
        ),
        tracking_identifier=_tracking(score, "All lesions"),
        finding_type=codes.SCT.Lesion,
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=[sr.FindingSite(codes.SCT.Brain)],
        algorithm_id=algorithm,
        measurements=[_measurement(_VOLUME, total, codes.UCUM.CubicCentimeter)],
    )


def _group(
    score: ScoreObject, lesion: ReportedLesion, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    sop_class, instance, frame = score.image_at(lesion.centre_lps_mm)
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(score, f"Lesion {lesion.number}"),
        finding_type=codes.SCT.Lesion,
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=[sr.FindingSite(codes.SCT.Brain, laterality=_SIDES[lesion.side])],
        algorithm_id=algorithm,
        source_images=[sr.SourceImageForMeasurementGroup(sop_class, instance, None if frame is None else [frame])],
        measurements=[
            _measurement(_VOLUME, lesion.volume_ml, codes.UCUM.CubicCentimeter),
            _measurement(codes.SCT.LongAxis, lesion.longest_diameter_mm, codes.UCUM.Millimeter),
            _measurement(score.quantity, lesion.peak_score, score.unit, codes.SCT.Maximum),
            _measurement(score.quantity, lesion.mean_score, score.unit, codes.SCT.Mean),
        ],
    )


def _measurement(name: Code, value: float, unit: Code, derivation: Code | None = None) -> sr.Measurement:
    # A decimal string has 16 letters at most.
    return sr.Measurement(name, float(f"{value:.6g}"), unit, derivation=derivation)


def _tracking(score: ScoreObject, identifier: str) -> sr.TrackingIdentifier:
    uid = generate_uid(entropy_srcs=[NAME, "tracking", score.header.SOPInstanceUID, identifier])
    return sr.TrackingIdentifier(uid, identifier)


def _context(instance: str) -> sr.ObservationContext:
    """Name the software as the observer, no person."""
    device = sr.DeviceObserverIdentifyingAttributes(
        generate_uid(entropy_srcs=[NAME, "observer", instance]), name=NAME, manufacturer_name=NAME, model_name=NAME
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _version() -> str:
    return software_versions()["mmccd_auto"]
