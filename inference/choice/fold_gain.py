"""What the networks of a trained fold add to a score without any: synthetic anomalies in its healthy held-out slices."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval, Le

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.wording import counted
from mmccd_auto.evaluation.baselines import CONTROL, INTENSITY, SMOOTHED_INTENSITY, SMOOTHING_MM
from mmccd_auto.imaging.contrasts import lesions_expected_dark
from mmccd_auto.inference.choice.paired_difference import PairedDifference, paired_difference
from mmccd_auto.inference.choice.synthetic_check import (
    AlteredMaps,
    alter_cases,
    auprc_of_each,
    maps_of_altered,
    mean_by_kind,
)
from mmccd_auto.inference.held_out.calibrate import folds_with_maps
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps
from mmccd_auto.inference.maps.engine import MapMaker
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import DEFAULT_SCORE, MapOptions
from mmccd_auto.inference.scores.calibration import Calibration, SliceSource, load_calibration
from mmccd_auto.inference.scores.control import control_scores, mean_r2, r2_by_subject, scan_of
from mmccd_auto.inference.scores.signed_scores import smooth_in_brain
from mmccd_auto.preprocessing.slices import load_case_records
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, GAIN_FILE, ModelFolder

MAP = "map"
SEED = 1000
"""Of the first drawing: not one of those by which steps and strips were chosen."""
REMEDY = "remove the file, and run mmccd_train again"
Share = Annotated[float, Interval(ge=0, le=1)]
Difference = Annotated[float, Interval(ge=-1, le=1)]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldGain:
    """gain.json: how well a fold's map, its control without a network and the intensity find synthetic anomalies.

    Attributes
    ----------
    settings : by which the maps were made
    source : "healthy validation slices" or "healthy training slices"
    weights_sha256 : of the checkpoint
    drawings, anomalies : of synthetic anomalies: how often they were drawn, and how many they are
    people : whose slices they were put into
    reconstruction_r2 : see :func:`mmccd_auto.inference.scores.control.reconstruction_r2`, of the fold's own slices, mean
        over the people; None where it isn't known
    auprc : "map", "control", "smoothed intensity" and "intensity": mean over the kinds of anomalies
    by_kind : the same for each kind
    gain : AUPRC of the map less that of the control, mean over the anomalies
    interval : 95 % interval of the gain by Student's t; None for a single anomaly
    """

    settings: JsonObject
    source: SliceSource
    weights_sha256: str
    drawings: Annotated[int, Ge(1)]
    anomalies: Annotated[int, Ge(1)]
    people: Annotated[int, Ge(1)]
    reconstruction_r2: Annotated[float, Le(1)] | None
    auprc: dict[str, Share]
    by_kind: dict[str, dict[str, Share]]
    gain: Difference
    interval: tuple[float, float] | None


def load_gain(path: Path) -> FoldGain | None:
    """Read gain.json; None where there is none.

    Raises
    ------
    MMCCDError
        If the file isn't one of this version.
    """
    return read_record(FoldGain, path, REMEDY) if path.is_file() else None


def fold_gain(
    model_folder: str | Path,
    fold: str,
    preprocessed: str | Path,
    device: torch.device,
    *,
    drawings: int = 1,
    extensions: Sequence[str | Path] = (),
) -> FoldGain:
    """Measure what a trained fold's networks add, by its own healthy slices and calibration, and write fold_K/gain.json.

    The slices are those that the fold is calibrated on; what was measured for the same weights and settings is kept. Where
    the calibration has two fits, the anomalies are put into the slices that the second fit of the healthy scan gave, and
    aren't fitted again with them: what a fit loses of an anomaly isn't measured here.

    Parameters
    ----------
    model_folder : TRAINER__PLANS__CONFIGURATION
    fold : trained and calibrated
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET
    device : to compute on
    drawings : of synthetic anomalies, one of each kind each time
    extensions : folders with the user's own trainers

    Raises
    ------
    MMCCDError
        If the fold isn't trained, has no calibration with a control or no maps of healthy slices, or no anomaly can be made.
    """
    model, preprocessed = ModelFolder(Path(model_folder)), Path(preprocessed)
    calibration = load_calibration(model.fold(fold) / CALIBRATION_FILE)
    fits = MapOptions(fits=None if calibration is None else calibration.fits)
    settings = make_settings(chosen_plan(model), model.configuration, options=fits)
    weights, known = model.weights_sha256(fold), load_gain(model.fold(fold) / GAIN_FILE)
    # Earlier versions knew one fit only, and didn't say so.
    if known is not None and (known.weights_sha256, {"fits": 1} | known.settings) == (weights, settings.to_json()):
        return known
    record = folds_with_maps(model, settings, preprocessed).get(fold)
    if calibration is None or calibration.control is None or record is None:
        raise MMCCDError(f"{model.fold(fold)} has no control, or no maps of healthy slices: run mmccd_calibrate.")
    healthy = load_validation_maps(model, fold, record, preprocessed)
    maker = MapMaker(load_fold(model, fold, device, extensions).cycle, settings, device, model.plan.patch_size)
    altered = _altered_maps(maker, model.input_modality, healthy, preprocessed, drawings)
    by_kind, gain = _gain(altered, calibration, model.input_modality)
    found = FoldGain(
        settings=settings.to_json(),
        source=record.source,
        weights_sha256=weights,
        drawings=drawings,
        anomalies=len(altered),
        people=len({case.subject for case in healthy}),
        reconstruction_r2=mean_r2(list(r2_by_subject(healthy).values())),
        auprc={name: float(np.mean(list(kinds.values()))) for name, kinds in by_kind.items()},
        by_kind=by_kind,
        gain=gain.mean,
        interval=(gain.low, gain.high) if math.isfinite(gain.low) else None,
    )
    save_json(asdict(found), model.fold(fold) / GAIN_FILE)
    return found


def _gain(
    altered: Sequence[AlteredMaps], calibration: Calibration, modality: str
) -> tuple[dict[str, dict[str, float]], PairedDifference]:
    """Compute the AUPRC of each score for each kind of anomaly, and the gain of the map over the control."""
    each = _auprc_of_each(altered, calibration, modality)
    by_kind = {name: mean_by_kind(altered, values) for name, values in each.items()}
    return by_kind, paired_difference(each[MAP], each[CONTROL])


def describe_gain(found: FoldGain) -> str:
    """Write it as a table for the terminal."""
    width = max(map(len, found.auprc))
    between = "" if found.interval is None else f" ({found.interval[0]:+.3f} to {found.interval[1]:+.3f})"
    explained = "not known" if found.reconstruction_r2 is None else f"{found.reconstruction_r2:.3f}"
    return "\n".join(
        [
            f"what the networks add, by {counted(found.anomalies, 'synthetic anomaly', 'synthetic anomalies')} in "
            f"{found.source} of {counted(found.people, 'person', 'people')} (AUPRC, mean over the kinds)",
            *(f"  {name:<{width}}  {value:.3f}" for name, value in found.auprc.items()),
            f"  gain over the control, which is the same score without a network: {found.gain:+.3f}{between}",
            f"  R2 of the reconstruction of these slices: {explained} (a constant: 0)",
        ]
    )


def _altered_maps(
    maker: MapMaker, modality: str, healthy: Sequence[CaseMaps], preprocessed: Path, drawings: int
) -> list[AlteredMaps]:
    """Return the maps of the slices with anomalies in them, of all drawings."""
    records, two_fits = load_case_records(preprocessed), maker.settings.fits > 1
    altered = [
        one
        for draw in range(drawings)
        for one in alter_cases(healthy, modality, preprocessed, records, 1, SEED + draw, two_fits)
    ]
    return maps_of_altered(altered, maker, "gain over the control")


def _auprc_of_each(altered: Sequence[AlteredMaps], calibration: Calibration, modality: str) -> Mapping[str, list[float]]:
    """Compute for each score the AUPRC of each anomaly, in their order."""
    if calibration.control is None:
        raise ValueError("the calibration holds no control without a network")
    sign = np.float32(-1 if lesions_expected_dark(modality) else 1)
    score, control = calibration.score, calibration.control
    intensity = [sign * scan_of(one.case) for one in altered]
    smoothed = [
        smooth_in_brain(values, one.case.brain, one.case.indices, one.case.spacing, SMOOTHING_MM)
        for one, values in zip(altered, intensity, strict=True)
    ]
    scores = {
        MAP: [calibration.scores(one.case)[DEFAULT_SCORE] for one in altered],
        CONTROL: [control_scores(one.case, control, score)[DEFAULT_SCORE] for one in altered],
        SMOOTHED_INTENSITY: smoothed,
        INTENSITY: intensity,
    }
    return {name: auprc_of_each(altered, values) for name, values in scores.items()}
