"""The threshold of the masks, from healthy slices alone: no labels are needed, and it is the same for every scan."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json, save_json
from mmccd_auto.inference.engine import anomaly_maps
from mmccd_auto.inference.fold_models import FoldModel, load_fold
from mmccd_auto.inference.settings import InferenceSettings, make_settings
from mmccd_auto.plans.plan import dataclass_from_json
from mmccd_auto.plans.splits import SPLITS_FILE, cases_of_fold
from mmccd_auto.preprocessing.slices import CaseRecord, load_case_records, read_slices
from mmccd_auto.training.fold_folder import CALIBRATION_FILE
from mmccd_auto.training.model_folder import ModelFolder, fold_folder

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)
VALIDATION_SLICES, TRAINING_SLICES = "healthy validation slices", "healthy training slices"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """calibration.json: how a fold scores healthy brain.

    Attributes
    ----------
    settings : by which the maps were made
    source : "healthy validation slices" or "healthy training slices"
    cases, slices, pixels : that were scored
    quantiles : of the score in the brain, by their probability
    false_positive_rate : share of healthy brain that the threshold lets through
    threshold : a voxel is marked where its score is above it
    weights_sha256 : of the checkpoint
    """

    settings: dict[str, Any]
    source: str
    cases: tuple[str, ...]
    slices: int
    pixels: int
    quantiles: dict[str, float]
    false_positive_rate: float
    threshold: float
    weights_sha256: str

    def differences(self, settings: InferenceSettings) -> list[str]:
        """In what settings differ from the calibrated ones (the preset's name aside): "NAME VALUE against VALUE"."""
        now = settings.to_json()
        return [
            f"{name} {value} against {self.settings.get(name)}"
            for name, value in now.items()
            if name != "preset" and value != self.settings.get(name)
        ]


def load_calibration(model_folder: Path, fold: str) -> Calibration | None:
    """calibration.json of a fold; None where there is none."""
    path = fold_folder(model_folder, fold) / CALIBRATION_FILE
    return dataclass_from_json(Calibration, load_json(path), str(path)) if path.is_file() else None


def calibrate_fold(
    model_folder: Path,
    fold: int | str,
    preprocessed: Path,
    *,
    device: torch.device,
    max_slices: int = 48,
    false_positive_rate: float = 0.005,
    extensions: Sequence[str | Path] = (),
) -> Path:
    """Score healthy slices that the fold was not trained on, and derive the mask's threshold: a quantile of these scores.

    Where there are no such slices (fold ``all``, or no healthy validation slice) training slices are taken instead.

    Parameters
    ----------
    model_folder : TRAINER__PLANS__CONFIGURATION
    fold : 0..4 or "all"
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    device : where to compute
    max_slices : at most so many slices, spread evenly over the cases and over the height of the brain
    false_positive_rate : share of healthy brain that is let through, above 0 and below 1
    extensions : folders with the user's own trainers

    Returns
    -------
    path of fold_K/calibration.json

    Raises
    ------
    MMCCDError
        If the fold isn't trained, or there is no healthy slice at all.
    """
    if not 0 < false_positive_rate < 1:
        raise MMCCDError(f"false_positive_rate {false_positive_rate} must lie between 0 and 1.")
    model = ModelFolder(Path(model_folder))
    loaded = load_fold(model, str(fold), device, extensions)
    settings = make_settings(model.plan, model.configuration)
    modality = model.plan.configuration(model.configuration).input_modality
    records, source = _records(Path(preprocessed), loaded.fold, modality)
    chosen = choose_healthy_slices(records, max_slices)
    scores = _healthy_scores(model, loaded, Path(preprocessed), records, chosen, settings, device)
    calibration = Calibration(
        settings=settings.to_json(),
        source=source,
        cases=tuple(chosen),
        slices=sum(len(indices) for indices in chosen.values()),
        pixels=len(scores),
        quantiles={str(q): float(value) for q, value in zip(QUANTILES, np.quantile(scores, QUANTILES), strict=True)},
        false_positive_rate=false_positive_rate,
        threshold=float(np.quantile(scores, 1 - false_positive_rate)),
        weights_sha256=loaded.weights_sha256,
    )
    path = model.fold(loaded.fold) / CALIBRATION_FILE
    save_json(asdict(calibration), path)
    logger.info(
        "%s: threshold %.4g, from %d %s of %d cases", path, calibration.threshold, calibration.slices, source, len(chosen)
    )
    return path


def calibrated_threshold(
    model: ModelFolder, folds: Sequence[FoldModel], settings: InferenceSettings
) -> tuple[float | None, str]:
    """The mask's threshold for maps made with ``settings``.

    Calibrations that belong to other weights than the loaded ones (after more training, for instance) are left out.

    Returns
    -------
    the mean of the folds' thresholds, None where no fold is calibrated; and in words where it comes from
    """
    found: dict[str, Calibration] = {}
    for one in folds:
        calibration = load_calibration(model.path, one.fold)
        if calibration is not None and calibration.weights_sha256 == one.weights_sha256:
            found[one.fold] = calibration
        elif calibration is not None:
            logger.warning("fold %s: calibration.json belongs to other weights and is not used.", one.fold)
    if not found:
        reason = f"no calibration of fold {', '.join(one.fold for one in folds)}"
        logger.warning("%s: %s, so maps are written without masks; --threshold gives one.", model.path, reason)
        return None, reason
    sources = sorted({calibration.source for calibration in found.values()})
    source = f"calibrated on {' and '.join(sources)} of fold {', '.join(found)}"
    differences = list(dict.fromkeys(text for calibration in found.values() for text in calibration.differences(settings)))
    if differences:
        source += f", with other settings ({'; '.join(differences)})"
        logger.warning("the threshold was %s: it may not fit these maps.", source)
    return float(np.mean([calibration.threshold for calibration in found.values()])), source


def choose_healthy_slices(records: Mapping[str, CaseRecord], max_slices: int) -> dict[str, list[int]]:
    """Healthy slices by case, as equally many of each case as there are, spread evenly over the height.

    Parameters
    ----------
    records : by case
    max_slices : altogether; where there are more cases than that, cases are taken evenly from their list
    """
    healthy = {case: [item.index for item in record.slices if item.healthy] for case, record in sorted(records.items())}
    healthy = {case: indices for case, indices in healthy.items() if indices}
    cases = [list(healthy)[place] for place in _spread(len(healthy), max_slices)]
    quota = dict.fromkeys(cases, 0)
    left = min(max_slices, sum(len(healthy[case]) for case in cases))
    while left:
        for case in cases:
            if left and quota[case] < len(healthy[case]):
                quota[case] += 1
                left -= 1
    return {case: [healthy[case][place] for place in _spread(len(healthy[case]), quota[case])] for case in cases}


def _spread(length: int, count: int) -> list[int]:
    """``count`` places of ``length``, in the middles of equal parts."""
    count = min(count, length)
    return [int((part + 0.5) * length / count) for part in range(count)]


def _records(preprocessed: Path, fold: str, modality: str) -> tuple[dict[str, CaseRecord], str]:
    """The cases to calibrate on, and what they are to the fold."""
    records = {case: record for case, record in load_case_records(preprocessed).items() if modality in record.modalities}
    splits = preprocessed.parent / SPLITS_FILE
    split = cases_of_fold(load_json(splits) if splits.is_file() else [], list(records), fold)
    sides = {side: {case: records[case] for case in split[side] if case in records} for side in ("val", "train")}
    if fold != "all" and _have_healthy(sides["val"]):
        return sides["val"], VALIDATION_SLICES
    if not _have_healthy(sides["train"]):
        raise MMCCDError(
            f"{preprocessed}: fold {fold} has no healthy slice with {modality} to calibrate on: preprocess the dataset "
            "again."
        )
    logger.warning(
        "fold %s has no healthy slices that it was not trained on: its threshold comes from training slices, and may be too "
        "low for new scans.",
        fold,
    )
    return sides["train"], TRAINING_SLICES


def _have_healthy(records: Mapping[str, CaseRecord]) -> bool:
    return any(item.healthy for record in records.values() for item in record.slices)


def _healthy_scores(
    model: ModelFolder,
    loaded: FoldModel,
    preprocessed: Path,
    records: Mapping[str, CaseRecord],
    chosen: Mapping[str, list[int]],
    settings: InferenceSettings,
    device: torch.device,
) -> np.ndarray:
    """The scores of all brain pixels of the chosen slices, float32 [pixels]."""
    modality = model.plan.configuration(model.configuration).input_modality
    scores = []
    for number, (case, indices) in enumerate(chosen.items(), start=1):
        image, brain, _ = read_slices(preprocessed, records[case], indices)
        maps = anomaly_maps(
            loaded.cycle,
            image[records[case].modalities.index(modality)],
            brain,
            settings,
            case,
            device,
            model.plan.patch_size,
            slice_indices=indices,
            description=f"calibration, case {number}/{len(chosen)}",
        )
        scores.append(maps.squared[brain])
    return np.concatenate(scores)
