"""The fingerprint of a dataset: what planning needs to know of its scans, measured once."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from annotated_types import Len

from mmccd_auto.core.disk.parts import Part
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import CaseName, DatasetName, ModalityName
from mmccd_auto.core.processes.executor import Outcome, Workers, run_cases
from mmccd_auto.core.records import JsonObject, dataclass_from_json, read_record
from mmccd_auto.core.tuples import pair, triple
from mmccd_auto.datasets.dataset import Dataset
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.io import read_geometry, read_volume
from mmccd_auto.imaging.labels import LabelValues, read_brain_mask, read_label
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.orientation import slice_axis_first, to_canonical
from mmccd_auto.imaging.true_zero import find_true_zero, without_offset
from mmccd_auto.imaging.volume import Geometry, Triple, Volume
from mmccd_auto.plans import measures
from mmccd_auto.plans.case_fingerprint import (
    IN_PLANE_XYZ,
    CaseFingerprint,
    ModalityFingerprint,
    Percentile,
    SlicesFingerprint,
)
from mmccd_auto.plans.plan import SLICE_AXES, SliceAxis

FINGERPRINT_FILE = "dataset_fingerprint.json"
CASES_FOLDER = "dataset_fingerprint"
VERSION = 4
REMEDY = "measure again with mmccd_plan_and_preprocess --overwrite, or copy the file again"


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFingerprint:
    """All cases of a dataset and their summary.

    Attributes
    ----------
    dataset : DatasetXXX_Name
    modalities : channel names in channel order
    cases : by name
    failed : sentence by name of each case that could not be used
    summary : medians and ranges over the cases, for people; see :func:`summarise`
    """

    dataset: DatasetName
    modalities: Annotated[tuple[ModalityName, ...], Len(1)]
    cases: dict[CaseName, CaseFingerprint]
    failed: dict[str, str]
    summary: JsonObject

    @classmethod
    def of_cases(
        cls,
        dataset: str,
        modalities: tuple[str, ...],
        cases: Mapping[str, CaseFingerprint],
        failed: Mapping[str, str] | None = None,
    ) -> DatasetFingerprint:
        """Return a fingerprint with its summary."""
        return cls(dataset, tuple(modalities), dict(cases), dict(failed or {}), summarise(cases.values(), modalities))

    def save(self, path: str | Path) -> None:
        """Write dataset_fingerprint.json."""
        save_json(dataclasses.asdict(self), path)

    @classmethod
    def load(cls, path: str | Path) -> DatasetFingerprint:
        """Read dataset_fingerprint.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
        return read_record(cls, path, REMEDY)


def fingerprint_dataset(
    dataset: Dataset, output: str | Path, processes: Workers, overwrite: bool = False
) -> DatasetFingerprint:
    """Measure every training case and write dataset_fingerprint.json.

    Each case's result is kept in a folder beside ``output``; a later call measures again only cases whose files changed
    in name, size or time of modification.

    Parameters
    ----------
    dataset : whose training cases are measured
    output : path of dataset_fingerprint.json
    processes : workers; 0 works in this process
    overwrite : measure again what is already there

    Raises
    ------
    MMCCDError
        If the dataset has no training case or none could be measured. A case that fails is listed in ``failed``.
    """
    output = Path(output)
    outcomes = measure_cases(dataset, output, processes, overwrite)
    cases = {outcome.case: outcome.result for outcome in outcomes if outcome.result is not None}
    failed = {outcome.case: outcome.error for outcome in outcomes if outcome.error is not None}
    if not cases:
        first = next(iter(failed.values()))
        raise MMCCDError(f"none of the {len(failed)} cases of {dataset.name} can be used; the first: {first}")
    fingerprint = DatasetFingerprint.of_cases(dataset.name, dataset.modalities, cases, failed)
    fingerprint.save(output)
    return fingerprint


def measure_cases(
    dataset: Dataset, output: Path, processes: Workers, overwrite: bool = False, part: Part | None = None
) -> list[Outcome[CaseFingerprint]]:
    """Measure training cases and keep the result of each in a folder beside ``output``, where a later call finds it.

    Parameters
    ----------
    part : of the cases; None measures all
    others : as of :func:`fingerprint_dataset`

    Raises
    ------
    MMCCDError
        If the dataset has no training case.
    """
    names = dataset.training_cases()
    if not names:
        raise MMCCDError(f"{dataset.folder / 'imagesTr'} holds no case: put the training scans there.")
    arguments = []
    names = names if part is None else part.of(names)
    for case in names:
        files = {modality: dataset.channel_file(case, modality) for modality in dataset.available_modalities(case)}
        masks = (dataset.label_file(case), dataset.brain_mask_file(case))
        inputs = _CaseInputs(case, dataset.subject(case), files, *masks, dataset.label_values)
        record = output.parent / CASES_FOLDER / f"{case}.json"
        arguments.append((case, (inputs, record, overwrite)))
    return run_cases(_measure_or_load, arguments, processes, "fingerprint")


def fingerprint_case(
    case: str,
    subject: str,
    files: Mapping[str, Path],
    label_file: Path | None = None,
    brain_mask_file: Path | None = None,
    label_values: LabelValues | None = None,
) -> CaseFingerprint:
    """Measure one case.

    Parameters
    ----------
    case : name, for errors
    subject : whose scan it is
    files : modality -> file
    label_file : abnormal voxels; None: the case counts as healthy
    brain_mask_file : 1 in the brain; None: the volumes are brain-extracted
    label_values : what the label's values mean; None knows 0 and 1

    Raises
    ------
    MMCCDError
        If a file can't be read, the skull is on and no mask is given, a modality is constant inside its brain, or the label
        or mask isn't on the scan's grid.
    """
    if not files:
        raise MMCCDError(f"case {case} has no image file: add its channels or remove it.")
    given = _given_mask(brain_mask_file, next(iter(files.values())))
    scans = {modality: _measure_scan(file, given, brain_mask_file) for modality, file in files.items()}
    first = next(iter(scans.values()))
    canonical, brains = first.canonical, {modality: scan.brain for modality, scan in scans.items()}
    one_grid = all(not canonical.differences(scan.canonical) for scan in scans.values())
    overlaps = [measures.dice(*pair) for pair in itertools.combinations(brains.values(), 2)] if one_grid else []
    brain = _common(brains) if one_grid else first.brain
    label = _given_label(label_file, next(iter(files.values())), label_values or LabelValues())
    anomaly = np.zeros_like(brain) if label is None else label
    return CaseFingerprint(
        subject=subject,
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(first.original.direction),
        size=canonical.size,
        spacing=canonical.spacing,
        slice_axis=measures.coarsest_axis(canonical.spacing),
        brain_box=measures.brain_box(brain, canonical.spacing),
        brain_volume=float(np.count_nonzero(brain) * canonical.voxel_volume / 1000),
        mask_given=given is not None,
        one_grid=one_grid,
        brain_overlap=min(overlaps) if overlaps else None,
        slices={axis: _measure_slices(brain, anomaly, canonical.spacing, axis) for axis in SLICE_AXES},
        modalities={modality: scan.measured for modality, scan in scans.items()},
    )


@dataclass(frozen=True)
class _MeasuredScan:
    """One modality of a case.

    Attributes
    ----------
    measured : its intensities
    brain : canonical bool [z, y, x]
    canonical, original : where it lies, turned to LPS and as it is stored
    """

    measured: ModalityFingerprint
    brain: np.ndarray
    canonical: Geometry
    original: Geometry


def _measure_scan(file: Path, given: np.ndarray | None, brain_mask_file: Path | None) -> _MeasuredScan:
    """Measure one modality inside its brain: the given one (canonical bool [z, y, x]), or the one that is found."""
    volume = read_volume(file)
    turned = to_canonical(volume)
    turned = without_offset(turned, find_true_zero(with_zeros(turned)))
    if given is not None and given.shape != turned.array.shape:
        raise MMCCDError(f"{brain_mask_file} is not on the grid of {file}: resample one onto the other.")
    report = examine_brain(with_zeros(turned).array, turned.geometry.spacing)
    if given is None and not report.usable:
        raise MMCCDError(f"{file} {report.reason}")
    brain = report.mask if given is None else given
    turned = settle_non_finite(turned, brain, str(file))
    for warning in turned.warnings:
        logger.warning("%s: %s", file, warning)
    measured = _measure_modality(turned, brain, report.skull, file)
    return _MeasuredScan(measured, brain, turned.geometry, volume.geometry)


def _common(brains: Mapping[str, np.ndarray]) -> np.ndarray:
    """Find where every modality has brain; the first one's brain where they don't meet at all."""
    common = np.logical_and.reduce(list(brains.values()))
    return common if common.any() else next(iter(brains.values()))


def _given_mask(file: Path | None, image_file: Path) -> np.ndarray | None:
    """Compute the brain mask of a file, canonical bool [z, y, x]; None without a file."""
    if file is None:
        return None
    mask = read_brain_mask(file)
    _check_grid(file, mask.geometry, image_file)
    return to_canonical(mask).array > 0


def _given_label(file: Path | None, image_file: Path, values: LabelValues) -> np.ndarray | None:
    """Find where a label isn't normal, canonical bool [z, y, x]; None without a file."""
    if file is None:
        return None
    label = read_label(file, values).not_normal()
    _check_grid(file, label.geometry, image_file)
    return to_canonical(label).array > 0


def _check_grid(file: Path, geometry: Geometry, image_file: Path) -> None:
    """Check that a label or mask lies on the grid of the image."""
    differences = geometry.differences(read_geometry(image_file))
    if differences:
        raise MMCCDError(f"{file} is not on the grid of {image_file} ({differences[0]}): resample one onto the other.")


def _measure_modality(volume: Volume, brain: np.ndarray, skull: bool, file: Path) -> ModalityFingerprint:
    values = volume.array[brain]
    if values.min() == values.max():
        raise MMCCDError(f"{file} has one constant value inside the brain: it is no scan; fix or leave out the file.")
    spacing = volume.geometry.spacing
    axis = measures.coarsest_axis(spacing)
    found = np.percentile(values, measures.PERCENTILES)
    box = bounding_box_to_slice(get_bbox_from_mask(brain))
    changes = measures.without_slow_changes(volume.array[box], brain[box], spacing)
    return ModalityFingerprint(
        percentiles={key: float(value) for key, value in zip(get_args(Percentile), found, strict=True)},
        mean=float(values.mean(dtype=np.float64)),
        standard_deviation=float(values.std(dtype=np.float64)),
        noise_sigma=measures.noise_sigma(slice_axis_first(volume.array[box], axis), slice_axis_first(brain[box], axis)),
        correlation_length=triple(
            measures.correlation_length(changes, brain[box], axis, edge) for axis, edge in enumerate(spacing[::-1])
        ),
        depth_profile=measures.depth_profile(volume.array, brain, spacing),
        skull="present" if skull else "stripped",
    )


def _measure_slices(brain: np.ndarray, anomaly: np.ndarray, spacing: Triple, axis: SliceAxis) -> SlicesFingerprint:
    slices = slice_axis_first(brain, axis)
    pixels = slices.sum(axis=(1, 2))
    abnormal = slice_axis_first(anomaly, axis).sum(axis=(1, 2))
    return SlicesFingerprint(
        with_brain=int(np.count_nonzero(pixels)),
        healthy=int(np.count_nonzero(measures.healthy_slices(pixels, abnormal))),
        mean_section=measures.mean_section(slices, pair(spacing[index] for index in IN_PLANE_XYZ[axis])),
    )


@dataclass(frozen=True)
class _CaseInputs:
    """What a case is measured by, see :func:`fingerprint_case`."""

    case: str
    subject: str
    files: dict[str, Path]
    label_file: Path | None
    brain_mask_file: Path | None
    label_values: LabelValues


def _measure_or_load(inputs: _CaseInputs, record: Path, overwrite: bool) -> CaseFingerprint:
    """Give the case's fingerprint from its record if that was made from the same files, else measured and recorded."""
    files = (*inputs.files.values(), inputs.label_file, inputs.brain_mask_file)
    key = {
        "version": VERSION,
        "subject": inputs.subject,
        "modalities": list(inputs.files),
        "files": [_file_state(file) for file in files if file is not None],
    }
    if record.exists() and not overwrite:
        try:
            content = read_record(JsonObject, record)
            if content.get("made_from") == key:
                return dataclass_from_json(CaseFingerprint, content.get("fingerprint"), str(record))
        except MMCCDError as error:
            logger.warning("%s The case is measured again.", error)
    fingerprint = fingerprint_case(
        inputs.case, inputs.subject, inputs.files, inputs.label_file, inputs.brain_mask_file, inputs.label_values
    )
    save_json({"made_from": key, "fingerprint": dataclasses.asdict(fingerprint)}, record)
    return fingerprint


def _file_state(file: Path) -> list[str | int]:
    try:
        state = file.stat()
    except OSError as error:
        raise MMCCDError(f"{file} can't be read ({error.strerror or error}): check who may read it.") from error
    return [file.name, state.st_size, state.st_mtime_ns]


def summarise(cases: Iterable[CaseFingerprint], modalities: Iterable[str]) -> dict[str, Any]:
    """Return the medians and ranges over the cases, ready for JSON."""
    cases = list(cases)
    overlaps = [case.brain_overlap for case in cases if case.brain_overlap is not None]
    return {
        "cases": len(cases),
        "subjects": len({case.subject for case in cases}),
        "orientation": dict(Counter(case.orientation for case in cases)),
        "slice_axis": dict(Counter(case.slice_axis for case in cases)),
        "size_xyz": _range([case.size for case in cases]),
        "spacing_xyz_mm": _range([case.spacing for case in cases]),
        "brain_box_zyx_mm": _range([case.brain_box for case in cases]),
        "brain_volume_ml": _range([case.brain_volume for case in cases]),
        "cases_not_on_one_grid": sum(not case.one_grid for case in cases),
        "smallest_brain_overlap": min(overlaps, default=None),
        "brain_mask_given": sum(case.mask_given for case in cases),
        "slices": {
            axis: {
                "with_brain_per_case": _range([case.slices[axis].with_brain for case in cases]),
                "healthy_in_all": sum(case.slices[axis].healthy for case in cases),
            }
            for axis in SLICE_AXES
        },
        "modalities": {
            name: _summarise_modality([c.modalities[name] for c in cases if name in c.modalities]) for name in modalities
        },
    }


def _summarise_modality(found: list[ModalityFingerprint]) -> dict[str, Any]:
    if not found:
        return {"cases": 0}
    return {
        "cases": len(found),
        "skull": dict(Counter(one.skull for one in found)),
        "median_percentiles": {
            key: float(np.median([one.percentiles[key] for one in found])) for key in found[0].percentiles
        },
        "noise_to_p90": _range([one.noise_sigma / max(abs(one.percentiles["90"]), 1e-12) for one in found]),
        "correlation_length_zyx_mm": _range([one.correlation_length for one in found]),
    }


def _range(values: list[Any]) -> dict[str, Any]:
    """Compute the percentiles 0, 50, 99 and 100 over the cases (each component for itself)."""
    return {
        name: np.percentile(values, q, axis=0).tolist()
        for name, q in zip(("min", "median", "p99", "max"), (0, 50, 99, 100), strict=True)
    }
