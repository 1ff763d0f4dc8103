"""A case's mask and score as DICOM objects that refer to the images of the scan: Segmentation and Parametric Map."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.versions import software_versions
from mmccd_auto.dicom.writing.identity import DicomIdentity
from mmccd_auto.dicom.writing.score_meaning import ScoreMeaning
from mmccd_auto.dicom.writing.source_images import DicomSource, read_patient, read_source
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.trained.identity import ModelIdentity

NAME = "mmccd_auto"
MASK_SERIES_NUMBER = 9001
SCORE_SERIES_NUMBER = 9002
# The straightening of skewed grids by image_io moves a voxel by up to half of its smallest edge, too.
LARGEST_OFFSET = 0.5
_RED = CIELabColor(53.24, 80.09, 67.2)
_YELLOW = CIELabColor(97.14, -21.55, 94.48)


def write_segmentation(
    mask: Volume,
    source_files: Sequence[Path],
    path: Path,
    identity: DicomIdentity | None,
    model: ModelIdentity,
    meaning: ScoreMeaning,
    candidates: Volume | None = None,
) -> None:
    """Write a mask as a DICOM Segmentation (binary, every slice) that refers to the scan's images.

    Equal runs give the same object but for dates and times. An empty mask is written as a segment without voxels.

    Parameters
    ----------
    mask : [z, y, x], a voxel above 0 is abnormal; on the scan's grid, its axes in any order and direction
    source_files : the images of the scan: single-frame files in any order, or one multi-frame file
    path : of the object
    identity : a pseudonym; the patient's name, number, birth date, study number and all else that says who it is are then
        left out, and the numbers (UIDs) of study, frame of reference and images are replaced, so that the object can't be
        filed with the scan. None files it with the patient: the attributes in ``dicom_source.FILED_BY`` are copied from the
        scan, and the object shares its study and names its images
    model : that made the mask
    meaning : of the score that the mask was made from, and its threshold, kept with the segment
    candidates : on the grid of ``mask``; they become a second segment. None writes one segment

    Raises
    ------
    MMCCDError
        If an image is missing or can't be read, the images aren't one scan, the mask lies elsewhere, or the object can't
        be written.
    """
    source = read_source(source_files, identity)
    array = (_on_source_grid(mask, source, "mask") > 0).astype(np.uint8)
    description = _describe(model) | meaning.parameters()
    segments = [_segment(1, "Abnormal tissue", _RED, description)]
    if candidates is not None:
        array[_on_source_grid(candidates, source, "candidates") > 0] = 2
        segments.append(_segment(2, "Candidate below the least lesion volume", _YELLOW, description))
    segmentation = Segmentation(
        pixel_array=array,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        # A slice without a finding differs from one that nobody looked at.
        omit_empty_frames=False,
        series_number=MASK_SERIES_NUMBER,
        series_description=f"{NAME} anomaly mask",
        content_label="ANOMALY_MASK",
        content_description="Abnormal tissue, found automatically; for research",
        **_common(source, array, "anomaly mask", identity, description),
    )
    _write(segmentation, identity, source_files, path)


def _segment(number: int, label: str, colour: CIELabColor, description: dict[str, str]) -> SegmentDescription:
    """Describe one kind of marked tissue."""
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=NAME, family=codes.DCM.ArtificialIntelligence, version=_version(), source=NAME, parameters=description
        ),
        anatomic_regions=[codes.SCT.Brain],
        display_color=colour,
    )


def write_parametric_map(
    score: Volume,
    source_files: Sequence[Path],
    path: Path,
    identity: DicomIdentity | None,
    model: ModelIdentity,
    meaning: ScoreMeaning,
) -> None:
    """Write the anomaly score as a DICOM Parametric Map (float32) that refers to the scan's images.

    Parameters
    ----------
    score : [z, y, x]; on the scan's grid, its axes in any order and direction
    source_files, path, identity, model : as for :func:`write_segmentation`
    meaning : which quantity the score is, in which unit, and the threshold of the mask

    Raises
    ------
    MMCCDError
        As :func:`write_segmentation` does, and if a score isn't finite.
    """
    source = read_source(source_files, identity)
    array = np.ascontiguousarray(_on_source_grid(score, source, "score"), dtype=np.float32)
    if not np.isfinite(array).all():
        raise MMCCDError(f"{path} would hold values that are not finite: look at the scan and at the training.")
    low, high = min(0.0, float(array.min())), float(array.max())
    shown = float(f"{high:.4g}") if high > 0 else 1.0
    parametric_map = ParametricMap(
        pixel_array=array,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="ANOMALY_SCORE",
                lut_explanation=meaning.explanation,
                unit=meaning.unit,
                value_range=(low, max(1.0, high)),
                quantity_definition=meaning.quantity,
            )
        ],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=shown / 2, window_width=shown)],
        series_number=SCORE_SERIES_NUMBER,
        series_description=f"{NAME} anomaly score",
        content_label="ANOMALY_SCORE",
        content_description="Anomaly score, higher is less like healthy tissue; for research",
        **_common(source, array, "anomaly score", identity, _describe(model) | meaning.parameters()),
    )
    # What many viewers show of a coded quantity is its label alone; comments they show whole.
    parametric_map.ImageComments = meaning.comment
    _order_frames(parametric_map, source)
    # The standard doesn't ask for it, but dcmqi, by which 3D Slicer reads parametric maps, crashes without it.
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [highdicom.sr.CodedConcept.from_code(codes.SCT.Brain)]
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    _write(parametric_map, identity, source_files, path)


def _order_frames(parametric_map: ParametricMap, source: DicomSource) -> None:
    """Put the frames in order along the right-handed normal (row x column); each keeps its pixels, place and references.

    Any order is right by the standard, since each frame gives its place. But dcmqi, by which 3D Slicer reads parametric
    maps, expects this one and shows the others upside down; highdicom writes the opposite.
    """
    groups = list(parametric_map.PerFrameFunctionalGroupsSequence)
    first, last = (np.array(groups[end].PlanePositionSequence[0].ImagePositionPatient, dtype=float) for end in (0, -1))
    if (last - first) @ np.cross(source.orientation[:3], source.orientation[3:]) >= 0:
        return
    groups.reverse()
    for number, group in enumerate(groups, 1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]
    parametric_map.PerFrameFunctionalGroupsSequence = groups
    frames = np.frombuffer(parametric_map.FloatPixelData, dtype="<f4").reshape(len(groups), -1)
    parametric_map.FloatPixelData = frames[::-1].tobytes()


def _on_source_grid(volume: Volume, source: DicomSource, what: str) -> np.ndarray:
    """Compute the array of ``volume`` as [plane, row, column] of the scan.

    Every plane's corners must lie where its image lies.
    """
    geometry = volume.geometry
    stored = highdicom.Volume.from_components(
        np.transpose(volume.array),
        spacing=geometry.spacing,
        position=geometry.origin,
        direction=_orthonormal(np.reshape(geometry.direction, (3, 3))).tolist(),
        coordinate_system="PATIENT",
    )
    alignment = source.directions().T @ stored.direction
    axes = [int(axis) for axis in np.argmax(np.abs(alignment), axis=1)]
    elsewhere = MMCCDError(
        f"The {what} does not lie on the grid of the DICOM images: give the images that its scan was converted from."
    )
    if sorted(axes) != [0, 1, 2]:
        raise elsewhere
    turned = stored.permute_spatial_axes(axes)
    against = [row for row, axis in enumerate(axes) if alignment[row, axis] < 0]
    turned = turned.flip_spatial(against) if against else turned
    if turned.spatial_shape != source.shape:
        raise elsewhere
    corners, positions = source.corners()
    offsets = turned.map_indices_to_reference(corners) - positions
    if np.linalg.norm(offsets, axis=1).max() > LARGEST_OFFSET * min(geometry.spacing):
        raise elsewhere
    return turned.array


def _orthonormal(matrix: np.ndarray) -> np.ndarray:
    """Compute the nearest matrix of right-angled unit vectors: headers hold rounded numbers, and highdicom refuses those."""
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def _common(
    source: DicomSource, array: np.ndarray, what: str, identity: DicomIdentity | None, description: dict[str, str]
) -> dict[str, Any]:
    """Return the arguments that both kinds of object share."""
    # A changed content needs a new number, or an archive that holds the old object refuses the new one.
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    case = ["patient"] if identity is None else ["pseudonym", identity.patient_id, identity.patient_name]
    series = [source.images[0].SeriesInstanceUID, what, *case]
    text = ", ".join(f"{name} {value}" for name, value in description.items())
    return {
        "source_images": source.images,
        "plane_positions": source.plane_positions(),
        "plane_orientation": source.plane_orientation(),
        "pixel_measures": source.pixel_measures(),
        "series_instance_uid": generate_uid(entropy_srcs=[NAME, "series", *series]),
        "sop_instance_uid": generate_uid(entropy_srcs=[NAME, "instance", *series, content, text, _version()]),
        "instance_number": 1,
        "manufacturer": NAME,
        "manufacturer_model_name": NAME,
        "software_versions": _version(),
        "device_serial_number": description["weights"],
        "contributing_equipment": [
            highdicom.ContributingEquipment(
                manufacturer=NAME,
                purpose_of_reference=codes.DCM.ProcessingEquipment,
                manufacturer_model_name=NAME,
                software_versions=_version(),
                contribution_description=f"Trained model: {text}"[:1024],
            )
        ],
    }


def _describe(model: ModelIdentity) -> dict[str, str]:
    weights = hashlib.sha256("".join(sorted(model.weights_sha256.values())).encode()).hexdigest()
    return {
        "model": model.model,
        "dataset": model.dataset,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "input_modality": model.input_modality,
        "slice_axis": model.slice_axis,
        "folds": " ".join(model.folds),
        "weights": weights[:16],
    }


def _version() -> str:
    return software_versions()["mmccd_auto"]


def _write(result: Dataset, identity: DicomIdentity | None, source_files: Sequence[Path], path: Path) -> None:
    if identity is None:
        filed_by = read_patient(source_files[0])
    else:
        filed_by = {"PatientID": identity.patient_id, "PatientName": identity.patient_name or identity.patient_id}
    result.SpecificCharacterSet = "ISO_IR 192"
    result.ContentCreatorName = ""
    result.BodyPartExamined = "BRAIN"
    for keyword, value in filed_by.items():
        # An archive finds the patient by the very text of the scan, even where that is against the standard.
        element = DataElement(keyword, dictionary_VR(keyword), value, validation_mode=pydicom.config.IGNORE)
        result.add(element)
    # highdicom draws this number by chance.
    organization = generate_uid(entropy_srcs=[NAME, "dimensions", result.SOPInstanceUID])
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    with atomic_path(path) as temporary:
        result.save_as(temporary, enforce_file_format=True)
