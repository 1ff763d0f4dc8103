"""All cases of a raw dataset, in parallel; an interrupted run continues where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.parts import Part
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import Outcome, Workers, run_cases
from mmccd_auto.datasets.dataset import Dataset
from mmccd_auto.datasets.letter_case import check_apart
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.labels import read_brain_mask, read_label
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import FORMAT_VERSION, CaseRecord, case_record_path, remove_case, write_case
from mmccd_auto.preprocessing.stored_samples import has_samples


def preprocess_dataset(
    dataset: Dataset,
    plan: Plan,
    output: str | Path,
    processes: Workers,
    overwrite: bool = False,
    part: Part | None = None,
) -> list[Outcome[CaseRecord]]:
    """Preprocess the training cases.

    A case whose CASE.json says that it was made from the same files (by name, size and time of modification) by the same
    settings is left as it is; of any other, what there is goes before it is made again, so that cases of two plans never
    lie side by side.

    Parameters
    ----------
    output : $mmccd_preprocessed/DATASET/PLANS
    processes : workers; 0 works in this process; or a cluster
    overwrite : make every case again
    part : of the cases; None makes all

    Returns
    -------
    for every case its record, or the sentence that says why there is none

    Raises
    ------
    MMCCDError
        If the folder's disk takes the names of two cases for one.
    """
    output = Path(output)
    usable = dataset.training_cases()
    output.mkdir(parents=True, exist_ok=True)
    # Those of other parts, too, whose slices a case would be written over.
    check_apart(usable, output)
    unusable = sorted(set(dataset.cases("Tr")) - set(usable))
    if part is not None:
        usable, unusable = part.of(usable), part.of(unusable)
    for case in unusable:
        # Whose health was stated otherwise before.
        remove_case(output, case)
    layout = dataset.layout()
    arguments = [(case, (layout, plan, case, output, overwrite, dataset.subject(case))) for case in usable]
    outcomes = run_cases(preprocess_one, arguments, processes, "preprocessing")
    return [_still_there(outcome, output) for outcome in outcomes]


def preprocess_one(
    dataset: Dataset, plan: Plan, case: str, output: Path, overwrite: bool = False, subject: str | None = None
) -> CaseRecord:
    """Preprocess one training case with the modalities it has, unless that was done before.

    Parameters
    ----------
    dataset : its layout is enough, where ``subject`` is given
    output : $mmccd_preprocessed/DATASET/PLANS
    subject : whose scan it is; None asks the dataset

    Raises
    ------
    MMCCDError
        If the case can't be read or used, or the result can't be written.
    """
    files = _raw_files(dataset, plan, case)
    settings = preprocessing_settings(plan)
    sources = {path.relative_to(dataset.folder).as_posix(): _file_state(path) for path in files.values() if path is not None}
    if not overwrite:
        existing = _existing(output, case)
        if existing is not None and (existing.settings, existing.sources) == (settings, sources):
            return existing
    remove_case(output, case)
    label, brain_mask = files.pop("label"), files.pop("brain mask")
    preprocessed = preprocess_case(
        case,
        # What is odd about the files was said when they were measured.
        {name: read_volume(path, warn=False) for name, path in files.items() if path is not None},
        plan,
        label=None if label is None else read_label(label, dataset.label_values).not_normal(),
        brain_mask=None if brain_mask is None else read_brain_mask(brain_mask),
    )
    return write_case(output, preprocessed, subject or dataset.subject(case), settings, sources)


def preprocessing_settings(plan: Plan) -> dict[str, Any]:
    """Return the entries of a plan that preprocessed slices depend on, as JSON holds them."""
    return {
        "format": FORMAT_VERSION,
        "modalities": list(plan.modalities),
        "slice_axis": plan.slice_axis,
        "target_spacing": plan.target_spacing,
        "patch_size": list(plan.patch_size),
        "divisor": plan.network.divisor,
        "normalisation": dict(plan.normalisation),
        "zero": "taken off",
    }


def _still_there(outcome: Outcome[CaseRecord], output: Path) -> Outcome[CaseRecord]:
    """Return the outcome of a case; a failure where what was written has been removed since."""
    if outcome.error is not None or _existing(output, outcome.case) is not None:
        return outcome
    return Outcome(
        outcome.case,
        None,
        f"{outcome.case}: {case_record_path(output, outcome.case)} or its slices were removed while other cases were "
        "preprocessed: run the same command again.",
    )


def _raw_files(dataset: Dataset, plan: Plan, case: str) -> dict[str, Path | None]:
    """Return the files by modality, and under "label" and "brain mask" what there is of these."""
    available = [name for name in dataset.available_modalities(case) if name in plan.modalities]
    files: dict[str, Path | None] = {name: dataset.channel_file(case, name) for name in available}
    return {**files, "label": dataset.label_file(case), "brain mask": dataset.brain_mask_file(case)}


def _file_state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _existing(output: Path, case: str) -> CaseRecord | None:
    """Return the record of a complete case; None where there is none, or one of another version that must be made again."""
    path = case_record_path(output, case)
    if not path.is_file():
        return None
    try:
        record = CaseRecord.load(path)
    except MMCCDError:
        return None
    whole = all((output / item.file).is_file() for item in record.slices) and has_samples(output / record.case)
    return record if whole else None
