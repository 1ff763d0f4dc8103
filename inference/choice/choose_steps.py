"""Steps and strips of a model, chosen by experiment as soon as its first fold is trained."""

from __future__ import annotations

import logging
from pathlib import Path

from mmccd_auto.core.wording import counted
from mmccd_auto.inference.choice.compare import SEEDS, choice_of
from mmccd_auto.inference.choice.race import Race, race_steps
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON
from mmccd_auto.trained.inference_choice import InferenceChoice, PlannedInference, TriedRung, load_choice
from mmccd_auto.trained.model_folder import INFERENCE_FILE, ModelFolder

PER_KIND = 1
"""Synthetic anomalies of each kind after a training."""
logger = logging.getLogger(__name__)


def choose_steps(model_folder: str | Path, trial: SyntheticTrial, seeds: int = SEEDS) -> InferenceChoice:
    """Find the cheapest steps and strips than which no dearer ones show more of synthetic anomalies, and write them.

    The anomalies are in healthy held-out slices, "more" is beyond the interval of the paired difference over people and
    seeds, and losers are given up early, see :mod:`mmccd_auto.inference.choice.elimination`. The table goes with the
    choice into MODEL/inference.json.

    Without labels, and with the planned score. What was chosen before, after another fold or by
    mmccd_find_best_configuration, stays: all folds of a model predict alike. It is chosen again where this fold's choice was
    that of a shorter training, or where it had been made on slices that a model was trained on and this fold has others.

    Parameters
    ----------
    model_folder : TRAINER__PLANS__CONFIGURATION
    trial : the fold that was trained just now, and the slices that anomalies are put into
    seeds : of the noise and of the anomalies

    Returns
    -------
    what is in inference.json

    Raises
    ------
    MMCCDError
        If the fold isn't trained, or there is no healthy slice.
    """
    model = ModelFolder(Path(model_folder))
    known = load_choice(model)
    loaded = trial.load(model)
    if known is not None and not _is_outdated(known, loaded, trial.source(model, loaded)):
        return known
    planned = model.plan.configuration(model.configuration)
    race = race_steps(model, trial, planned.score, seeds)
    choice = choice_of(race.chosen, race.tried, PlannedInference.of(planned), loaded.weights_sha256, race.given_up)
    if choice.source == TRAINED_ON:
        logger.warning(
            "%s: no healthy slice was held out, so that steps and strips are chosen on training slices.", model.path
        )
    if known is not None:
        choice.save(model)
        logger.warning("steps and strips were chosen again: run mmccd_calibrate if other folds are trained.")
    elif not choice.save_unless_chosen(model):
        # Another fold, trained at the same time, was first.
        return load_choice(model) or choice
    _tell(model, choice, race)
    return choice


def _tell(model: ModelFolder, choice: InferenceChoice, race: Race) -> None:
    """Tell what was chosen, from what, and how long it took."""
    logger.info("%s\n%s", model.path / INFERENCE_FILE, describe_choice(choice))
    tried = {(one.sampling_steps, one.strip_stride, one.strips_per_pass) for one in choice.tried}
    for rung, reason in race.given_up.items():
        if rung not in tried:
            logger.info("%s, strip stride %d px: not tried, %s", counted(rung[0], "step"), rung[1], reason)
    logger.info("steps and strips: %s", race.describe_time())


def _is_outdated(known: InferenceChoice, loaded: FoldModel, source: str) -> bool:
    """Check whether a choice is to be made again now that ``loaded`` is trained, whose slices are ``source`` to it."""
    trained_longer = known.fold == loaded.fold and known.weights_sha256 not in ("", loaded.weights_sha256)
    return trained_longer or (known.source == TRAINED_ON and source == HELD_OUT)


def describe_choice(choice: InferenceChoice) -> str:
    """Write the table of what was tried, the cheapest first, with the difference of each to what was chosen."""
    lines = [
        f"{'steps':>6} {'stride':>7} {'at once':>8} {'evaluations':>12} {'AUPRC':>6}  "
        f"{'difference and its interval':<31}by seed"
    ]
    chosen = (choice.sampling_steps, choice.strip_stride, choice.strips_per_pass)
    for one in choice.tried:
        is_chosen = (one.sampling_steps, one.strip_stride, one.strips_per_pass) == chosen
        seeds = " ".join(f"{value:.3f}" for value in one.by_seed)
        lines.append(
            f"{one.sampling_steps:>6} {one.strip_stride:>4} px {one.strips_per_pass:>8} {one.evaluations_per_slice:>12.1f} "
            f"{one.auprc:>6.3f}  {'chosen' if is_chosen else _difference(one):<31}{seeds}"
            + (", given up" if one.given_up else "")
        )
    return "\n".join(lines)


def _difference(line: TriedRung) -> str:
    if line.interval is None:
        return "not known"
    return f"{line.difference:+.3f} ({line.interval[0]:+.3f} to {line.interval[1]:+.3f})"
