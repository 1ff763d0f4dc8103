"""Steps and strips of a model, chosen by experiment as soon as its first fold is trained."""

from __future__ import annotations

import logging
from pathlib import Path

from mmccd_auto.inference.choice.compare import SEEDS, best_of, choice_of, try_choices
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON
from mmccd_auto.trained.inference_choice import InferenceChoice, PlannedInference, load_choice
from mmccd_auto.trained.model_folder import INFERENCE_FILE, ModelFolder

PER_KIND = 1
"""Synthetic anomalies of each kind after a training."""
logger = logging.getLogger(__name__)


def choose_steps(model_folder: str | Path, trial: SyntheticTrial, seeds: int = SEEDS) -> InferenceChoice:
    """Find the cheapest steps and strips that show synthetic anomalies as well as any that were tried, and write them.

    The anomalies are in healthy held-out slices, the figure is a mean over some seeds (see
    :func:`mmccd_auto.inference.choice.compare.best_of`), and the table goes with them into MODEL/inference.json.

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
    tried = try_choices(model, trial, scores=[planned.score], seeds=seeds)
    choice = choice_of(best_of(tried), tried, PlannedInference.of(planned), loaded.weights_sha256)
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
    logger.info("%s\n%s", model.path / INFERENCE_FILE, describe_choice(choice))
    return choice


def _is_outdated(known: InferenceChoice, loaded: FoldModel, source: str) -> bool:
    """Check whether a choice is to be made again now that ``loaded`` is trained, whose slices are ``source`` to it."""
    trained_longer = known.fold == loaded.fold and known.weights_sha256 not in ("", loaded.weights_sha256)
    return trained_longer or (known.source == TRAINED_ON and source == HELD_OUT)


def describe_choice(choice: InferenceChoice) -> str:
    """Write the table of what was tried, the cheapest first, and what was chosen."""
    lines = [f"{'steps':>6} {'stride':>7} {'at once':>8} {'evaluations':>12} {'AUPRC':>6}  by seed"]
    chosen = (choice.sampling_steps, choice.strip_stride, choice.strips_per_pass)
    for one in choice.tried:
        mark = "  chosen" if (one.sampling_steps, one.strip_stride, one.strips_per_pass) == chosen else ""
        seeds = " ".join(f"{value:.3f}" for value in one.by_seed)
        lines.append(
            f"{one.sampling_steps:>6} {one.strip_stride:>4} px {one.strips_per_pass:>8} {one.evaluations_per_slice:>12.1f} "
            f"{one.auprc:>6.3f}  {seeds}{mark}"
        )
    return "\n".join(lines)
