"""Choose steps, strips and models without labels: what mmccd_find_best_configuration does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.datasets.dataset import find_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.choice.compare import Tried, best_single, choice_of, try_choices
from mmccd_auto.inference.choice.decide import decide_choice, decide_models, is_choice
from mmccd_auto.inference.choice.ensembles import TriedEnsemble, try_ensembles
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.held_out.calibrate import calibrate_model, is_calibrated
from mmccd_auto.inference.held_out.validation_maps import count_validation_slices
from mmccd_auto.inference.maps.fold_model import choose_folds
from mmccd_auto.inference.options import MAX_SLICES, PER_KIND, PredictionOptions
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.preprocessing.slices import load_case_records
from mmccd_auto.preprocessing.subject_numbers import load_subject_numbers
from mmccd_auto.trained.inference_choice import PlannedInference, chosen_plan, load_choice
from mmccd_auto.trained.kept_choices import keep_choices, restore_choices
from mmccd_auto.trained.model_folder import (
    BEST_FILE,
    ModelFolder,
    find_models,
    load_best,
    preprocessed_folder,
)
from mmccd_auto.trained.select import fitting

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestConfiguration:
    """What mmccd_find_best_configuration found.

    Attributes
    ----------
    best : by model, what was chosen for it
    models : by input modality, what predicts scans of it: the best model, or an ensemble that is more than 1 % better
    default_modality : the input modality that the plan takes by default
    tried : everything, model by model
    ensembles : that were tried
    decisions : by model and by input modality, why it is so
    """

    best: dict[str, Tried]
    models: dict[str, tuple[str, ...]]
    default_modality: str
    tried: tuple[Tried, ...]
    ensembles: tuple[TriedEnsemble, ...]
    decisions: dict[str, str] = field(default_factory=dict)


def find_best_configuration(
    folders: Folders,
    dataset: int | str,
    options: PredictionOptions,
    device: torch.device,
    per_kind: int = PER_KIND,
    max_slices: int = MAX_SLICES,
) -> BestConfiguration:
    """Choose steps, strips and score for every trained model, and among the models, without labels and without training.

    Synthetic anomalies are put into healthy slices that the models were not trained on. What finds them best, at the least
    cost, is written into MODEL/inference.json, and the models are calibrated for it. Then pairs of models of one input
    modality, and all of them, are tried as ensembles. The best of each input modality is named in best_configuration.json
    of the dataset's results: both files are what mmccd_predict obeys.

    What was chosen before stays unless something else finds more beyond chance, by the same anomalies; and before anything
    is changed, what is there is kept, see :func:`restore_configuration`.

    Parameters
    ----------
    folders : preprocessed and results are used
    dataset : number or name
    options : which models (configuration, trainer, plans; None takes all) and the folder of own trainers
    device : to compute on
    per_kind : synthetic anomalies of each kind
    max_slices : healthy slices of one fold

    Raises
    ------
    MMCCDError
        If the dataset has no trained model, or its slices aren't here.
    """
    results = find_dataset(folders.results, dataset, "results")
    models = fitting(find_models(folders.results, results.name), options)
    if not models:
        raise MMCCDError(f"{results} holds no trained model of this -c, -tr and -p: run mmccd_train first.")
    # Whatever can be wrong is looked for before the hours of work, and before anything is written.
    work = [(model, choose_folds(model, options.folds)[0], preprocessed_folder(folders, model)) for model in models]
    trials = {
        model.path.resolve().name: SyntheticTrial(fold, preprocessed, device, per_kind, max_slices, options.extensions)
        for model, fold, preprocessed in work
    }
    with folder_lock(results, "the best configuration"):
        kept = _KeptOnce(results, find_models(folders.results, results.name))
        result = _find_best(results, models, trials, kept, max_slices)
        kept.keep_before(result.models != _kept_choices(results, kept.models))
        save_json(asdict(_without_names(result, work)), results / BEST_FILE)
    return result


def restore_configuration(folders: Folders, dataset: int | str) -> list[str]:
    """Undo what the last :func:`find_best_configuration` that changed anything has changed.

    Choices, calibrations, and which model predicts.

    Returns
    -------
    names, below the dataset's results, of the files that were put back or removed

    Raises
    ------
    MMCCDError
        If nothing was changed, or the files can't be written.
    """
    results = find_dataset(folders.results, dataset, "results")
    with folder_lock(results, "the best configuration"):
        return restore_choices(results, find_models(folders.results, results.name))


class _KeptOnce:
    """Keeps a dataset's choices before the first of them is changed."""

    def __init__(self, results: Path, models: Sequence[ModelFolder]) -> None:
        self.results, self.models, self.done = results, models, False

    def keep_before(self, change: bool) -> None:
        """Keep everything, unless that was done or nothing is to change."""
        if change and not self.done:
            path = keep_choices(self.results, self.models)
            logger.info("what was chosen before is kept in %s (--restore puts it back)", path)
            self.done = True


def _find_best(
    results: Path,
    models: Sequence[ModelFolder],
    trials: Mapping[str, SyntheticTrial],
    kept: _KeptOnce,
    max_slices: int,
) -> BestConfiguration:
    """Choose for every model and among them; the models' choices and calibrations are written."""
    chosen, decisions = _kept_choices(results, kept.models), {}
    tried: list[Tried] = []
    best: dict[str, Tried] = {}
    for model in models:
        name = model.path.resolve().name
        found, best[name], decisions[name] = _choose_for(model, trials[name], kept, max_slices)
        tried += found
    ensembles: list[TriedEnsemble] = []
    modalities = list(dict.fromkeys(model.input_modality for model in models))
    for modality in modalities:
        candidates = [model for model in models if model.input_modality == modality]
        single = best_single([best[model.path.resolve().name] for model in candidates])
        members = _comparable(candidates, best, single)
        lines: list[TriedEnsemble] = []
        if len(members) > 1:
            logger.info("%s: ensembles of %d models of %s", modality, len(members), members[0].plans_name)
            lines = try_ensembles(members, best, trials[single.model])
        ensembles += lines
        if modality in chosen and len(candidates) < sum(one.input_modality == modality for one in kept.models):
            logger.warning(
                "not every model of %s was tried: %s stays what predicts it.", modality, " + ".join(chosen[modality])
            )
            continue
        comparable = {model.path.resolve().name: best[model.path.resolve().name] for model in members}
        chosen[modality], decisions[modality] = decide_models(single, lines, comparable, chosen.get(modality))
    planned = models[0].plan.configuration().input_modality
    default = planned if planned in chosen else modalities[0]
    return BestConfiguration(best, chosen, default, tuple(tried), tuple(ensembles), decisions)


def _choose_for(
    model: ModelFolder, trial: SyntheticTrial, kept: _KeptOnce, max_slices: int
) -> tuple[list[Tried], Tried, str]:
    """Return what was tried for a model, the line that counts, and why; a new choice is written, and calibrated for.

    Never on fewer slices of a fold than its calibration rests on, and not where it fits already.
    """
    before = chosen_plan(model).configuration(model.configuration) if load_choice(model) is not None else None
    found = try_choices(model, trial, before=before)
    line, reason = decide_choice(found, before)
    if before is None or not is_choice(line, before):
        kept.keep_before(True)
        choice_of(line, found, PlannedInference.of(model.plan.configuration(model.configuration))).save(model)
    slices = {fold: count_validation_slices(model, fold, trial.preprocessed) for fold in model.folds()}
    if not all(is_calibrated(model, fold) for fold in model.folds()):
        kept.keep_before(True)
        calibrate_model(
            model.path,
            trial.preprocessed,
            device=trial.device,
            max_slices=max(max_slices, *slices.values()),
            extensions=trial.extensions,
        )
    return found, line, reason


def _without_names(result: BestConfiguration, work: Sequence[tuple[ModelFolder, str, Path]]) -> BestConfiguration:
    """Return the result with numbers for the cases: the file may be handed on with the models."""
    numbers: dict[str, str] = {}
    for preprocessed in {preprocessed for _, _, preprocessed in work}:
        people = {case: record.subject for case, record in load_case_records(preprocessed).items()}
        numbers |= load_subject_numbers(preprocessed.parent, people).cases

    def of(one: Tried) -> Tried:
        return replace(one, cases=tuple(numbers[case] for case in one.cases))

    return replace(
        result, best={name: of(one) for name, one in result.best.items()}, tried=tuple(of(one) for one in result.tried)
    )


def _smoothing(score: ScorePlan) -> str:
    fine = "" if score.fine_smoothing_mm is None else f"{score.fine_smoothing_mm:g} and "
    return f"{fine}{score.smoothing_mm:g}"


def describe_best(found: BestConfiguration) -> str:
    """Write a line per model, the best first, for the terminal."""
    lines = [
        f"{'AUPRC':>6} {'published':>9} {'evaluations':>11}  model: steps, stride, strips at once, smoothing, other sign"
    ]
    for name, best in sorted(found.best.items(), key=lambda item: -item[1].auprc):
        published = max(one.auprc for one in found.tried if one.model == name and one.published)
        lines.append(
            f"{best.auprc:>6.3f} {published:>9.3f} {best.evaluations_per_slice:>11.0f}  {name}: {best.sampling_steps}, "
            f"{best.strip_stride} px, {best.strips_per_pass}, {_smoothing(best.score)} mm, x {best.score.other_weight:g}"
        )
    lines += [
        f"{one.auprc:>6.3f} {'':>9} {one.evaluations_per_slice:>11.0f}  mean of {' + '.join(one.models)}"
        for one in sorted(found.ensembles, key=lambda one: -one.auprc)
    ]
    for modality, models in found.models.items():
        default = ", and by default" if modality == found.default_modality else ""
        reason = f": {found.decisions[modality]}" if modality in found.decisions else ""
        lines.append(f"mmccd_predict takes {' + '.join(models)} for {modality}{default}{reason}")
    lines += [f"{name}: {found.decisions[name]}" for name in found.best if name in found.decisions]
    return "\n".join(lines)


def _comparable(models: Sequence[ModelFolder], best: Mapping[str, Tried], single: Tried) -> list[ModelFolder]:
    """Return the models that were tried on the same slices as the best one, itself among them."""
    plans_name = next(model.plans_name for model in models if model.path.resolve().name == single.model)
    tried = [(model, best[model.path.resolve().name]) for model in models if model.plans_name == plans_name]
    return [model for model, one in tried if (one.fold, one.source, one.cases) == (single.fold, single.source, single.cases)]


def _kept_choices(results: Path, models: Sequence[ModelFolder]) -> dict[str, tuple[str, ...]]:
    """Return what was chosen before, by modality, where all of its models are still there.

    A run that is narrowed to one modality leaves the others.
    """
    path = results / BEST_FILE
    if not path.is_file():
        return {}
    try:
        found = load_best(path).models
    except MMCCDError as error:
        logger.warning("%s It is written again.", error)
        return {}
    there = {model.path.resolve().name for model in models}
    return {modality: names for modality, names in found.items() if there.issuperset(names)}
