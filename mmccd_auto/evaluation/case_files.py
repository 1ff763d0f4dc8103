"""Which files belong to one case of an evaluation; everything that is missing is reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Len

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import OTHERS_ALLOWED, read_record
from mmccd_auto.datasets.dataset import DATASET_FILE, read_label_values
from mmccd_auto.imaging.labels import LabelValues

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl")
ANOMALY_ENDING = "_anomaly.nii.gz"
MASK_ENDING = "_mask.nii.gz"
SCAN_ENDING = "_scan.nii.gz"
BRAIN_ENDING = "_brain.nii.gz"
CONTROL_ENDING = "_control.nii.gz"


@dataclass(frozen=True)
class _PredictionRecord:
    """What an evaluation needs of CASE.json."""

    __pydantic_config__: ClassVar[Any] = OTHERS_ALLOWED
    input_file: Annotated[str, Len(1)] | None
    input_modality: Annotated[str, Len(1)]


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes
    ----------
    reference : labels, nonzero = abnormal
    anomaly : predicted score
    mask : predicted mask, None where the prediction had no threshold
    image : the scan that was predicted
    modality : of that scan
    brain_mask : None where the brain is found from the scan
    control : the same score without a network, None where the prediction wasn't asked for it
    """

    case: str
    reference: Path
    anomaly: Path
    mask: Path | None
    image: Path
    modality: str
    brain_mask: Path | None
    control: Path | None = None


def find_case_files(
    reference: Path, prediction: Path, images: Path | None = None, brain_masks: Path | None = None
) -> tuple[list[CaseFiles], list[str]]:
    """Match labels and predictions by case name.

    The scan is the ``input_file`` of CASE.json, looked up in ``images``; where that isn't given, in the folder ``imagesXX``
    beside the reference ``labelsXX``. Of a DICOM series it is CASE_scan.nii.gz among the predictions. The brain mask is
    CASE.nii.gz in ``brain_masks``, else CASE_brain.nii.gz among the predictions, else None.

    Returns
    -------
    the cases in order of their names, and the predictions that have no reference (they are not evaluated)

    Raises
    ------
    MMCCDError
        If a folder is missing or holds no volumes, or if any case lacks a file: one error with a line for each case.
    """
    cases, unmatched = find_compared_files(reference, {"": prediction}, images, brain_masks)
    return [files[""] for files in cases.values()], unmatched[""]


def find_compared_files(
    reference: Path, predictions: Mapping[str, Path], images: Path | None = None, brain_masks: Path | None = None
) -> tuple[dict[str, dict[str, CaseFiles]], dict[str, list[str]]]:
    """Match labels and the predictions of several methods, each in its own folder, as :func:`find_case_files` does.

    Parameters
    ----------
    reference, images, brain_masks : as there
    predictions : method -> folder

    Returns
    -------
    case -> method -> files, in order of the cases' names; method -> its predictions that have no reference

    Raises
    ------
    MMCCDError
        As there; a case must be complete in every folder.
    """
    for folder in (reference, *predictions.values(), images, brain_masks):
        if folder is not None and not folder.is_dir():
            raise MMCCDError(f"{folder} is not a folder: check the path.")
    labels = _volumes(reference)
    if not labels:
        raise MMCCDError(f"{reference} holds no labels: it should hold one CASE.nii.gz for each predicted case.")
    if images is None:
        images = _beside(reference)
    found: dict[str, dict[str, CaseFiles]] = {case: {} for case in sorted(labels)}
    problems: dict[str, list[str]] = {}
    for case, of_methods in found.items():
        for method, folder in predictions.items():
            try:
                of_methods[method] = _case_files(case, labels[case], folder, images, brain_masks)
            except MMCCDError as error:
                problems.setdefault(case, []).append(str(error))
    raise_together(problems, len(labels))
    return found, {method: sorted(_predicted(folder) - labels.keys()) for method, folder in predictions.items()}


def find_label_values(reference: Path) -> LabelValues:
    """Return what the values of the labels in a folder mean: by the dataset.json in it or beside it, else 0 and 1 alone.

    Raises
    ------
    MMCCDError
        If there is a dataset.json whose labels can't be read.
    """
    for place in (reference / DATASET_FILE, reference.resolve().parent / DATASET_FILE):
        if place.is_file():
            return read_label_values(place)
    return LabelValues()


def raise_together(problems: Mapping[str, Sequence[str]], cases: int) -> None:
    """Raise one MMCCDError that lists all ``problems`` (case -> sentences), one a line; do nothing where there are none."""
    if problems:
        told = dict.fromkeys(problem for of_case in problems.values() for problem in of_case)
        lines = "\n".join(f"  - {problem}" for problem in told)
        raise MMCCDError(f"{len(problems)} of {cases} cases can't be evaluated, so there are no figures:\n{lines}")


def _predicted(folder: Path) -> set[str]:
    return {case.removesuffix("_anomaly") for case in _volumes(folder) if case.endswith("_anomaly")}


def _case_files(case: str, label: Path, prediction: Path, images: Path | None, brain_masks: Path | None) -> CaseFiles:
    anomaly = prediction / f"{case}{ANOMALY_ENDING}"
    if not anomaly.is_file():
        raise MMCCDError(f"{case} has a reference ({label}) but no prediction ({anomaly}): predict it first.")
    record_file = prediction / f"{case}.json"
    record = read_record(_PredictionRecord, record_file, "predict the case again with mmccd_predict")
    mask = prediction / f"{case}{MASK_ENDING}"
    return CaseFiles(
        case=case,
        reference=label,
        anomaly=anomaly,
        mask=mask if mask.is_file() else None,
        image=_find_image(case, record, record_file, images),
        modality=record.input_modality,
        brain_mask=_find_brain_mask(case, record_file, brain_masks),
        control=_first_file([prediction / f"{case}{CONTROL_ENDING}"]),
    )


def _beside(reference: Path) -> Path | None:
    """Name the folder of scans beside one of labels: imagesTs for labelsTs."""
    folder = reference.resolve()
    images = folder.with_name(folder.name.replace("labels", "images", 1))
    return images if images != folder and images.is_dir() else None


def _find_image(case: str, record: _PredictionRecord, record_file: Path, images: Path | None) -> Path:
    scan = record_file.parent / f"{case}{SCAN_ENDING}"
    if record.input_file is None:
        if scan.is_file():
            return scan
        raise MMCCDError(f"{scan}, the scan of {case}, does not exist: predict the case again with mmccd_predict.")
    named = Path(record.input_file)
    found = _first_file([*_places(named, images), named, record_file.parent / named])
    if found is None:
        place = named if images is None else f"{named} (looked for in {images})"
        raise MMCCDError(f"{place}, the scan of {case} that {record_file} names, does not exist: say with -i where it is.")
    return found


def _find_brain_mask(case: str, record_file: Path, brain_masks: Path | None) -> Path | None:
    if brain_masks is not None:
        given = _volumes(brain_masks).get(case)
        if given is None:
            raise MMCCDError(f"{case} has no brain mask in {brain_masks}: add {case}.nii.gz, or leave out --brain_masks.")
        return given
    return _first_file([record_file.parent / f"{case}{BRAIN_ENDING}"])


def _places(named: Path, folder: Path | None) -> list[Path]:
    """Find where in a folder a file that a record names may be: with as much of its path as exists there."""
    if folder is None:
        return []
    parts = named.relative_to(named.anchor).parts
    return [folder.joinpath(*parts[start:]) for start in range(len(parts))]


def _first_file(candidates: list[Path]) -> Path | None:
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _volumes(folder: Path) -> dict[str, Path]:
    """Return case name -> volume, for every volume of ``folder`` that isn't hidden or unfinished."""
    found = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in VOLUME_ENDINGS if path.name.endswith(ending)), None)
        if ending is not None and not path.name.startswith("."):
            found[path.name.removesuffix(ending)] = path
    return found
