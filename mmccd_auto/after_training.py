"""What is done with trained models before they predict, as functions that a notebook can call too."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mmccd_auto.core.locks import folder_lock
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets import find_dataset
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import save_json
from mmccd_auto.inference.calibrate import calibrate_model
from mmccd_auto.inference.calibration import Calibration
from mmccd_auto.inference.chosen import PlannedInference
from mmccd_auto.inference.compare_choices import Tried, best_of, best_single, choice_of, try_choices
from mmccd_auto.inference.compare_ensembles import TriedEnsemble, best_members, try_ensembles
from mmccd_auto.inference.fold_models import choose_folds
from mmccd_auto.inference.synthetic_trial import SyntheticTrial
from mmccd_auto.inference.validation_maps import MAX_SLICES
from mmccd_auto.model_choice import PredictionOptions, choose_model, fitting
from mmccd_auto.paths import Folders
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.training.fold_folder import plan_differences
from mmccd_auto.training.model_folder import BEST_FILE, ModelFolder, find_models, load_best

logger = logging.getLogger(__name__)
PER_KIND = 4
OF_THE_SLICES = ("slice_axis", "target_spacing", "patch_size", "normalisation")


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
    """

    best: dict[str, Tried]
    models: dict[str, tuple[str, ...]]
    default_modality: str
    tried: tuple[Tried, ...]
    ensembles: tuple[TriedEnsemble, ...]


def calibrate(
    folders: Folders,
    options: PredictionOptions,
    device: torch.device,
    max_slices: int = MAX_SLICES,
) -> Calibration:
    """Calibrate a trained model anew: after its plans.json was edited, for instance, or a training was continued.

    Parameters
    ----------
    folders : preprocessed and results are used
    options : which model; ``folds`` names the folds whose healthy slices are sent through the cycle again
    device : to compute on
    max_slices : healthy slices of one fold

    Raises
    ------
    MMCCDError
        If there is no such model, its dataset isn't preprocessed here, or it has no healthy slice.
    """
    model = choose_model(folders, options)
    with folder_lock(model.path, "a calibration"):
        return calibrate_model(
            model.path,
            preprocessed_folder(folders, model),
            options.folds,
            device=device,
            max_slices=max_slices,
            extensions=options.extensions,
        )


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
    everything = find_models(folders.results, results.name)
    chosen = _kept_choices(results, everything)
    tried: list[Tried] = []
    best: dict[str, Tried] = {}
    for model, fold, preprocessed in work:
        found = try_choices(model, SyntheticTrial(fold, preprocessed, device, per_kind, max_slices, options.extensions))
        name = model.path.resolve().name
        best[name] = best_of(found)
        choice_of(best[name], found, PlannedInference.of(model.plan.configuration(model.configuration))).save(model)
        calibrate_model(model.path, preprocessed, device=device, max_slices=max_slices, extensions=options.extensions)
        tried += found
    ensembles: list[TriedEnsemble] = []
    modalities = list(dict.fromkeys(model.input_modality for model in models))
    for modality in modalities:
        candidates = [model for model in models if model.input_modality == modality]
        single = best_single([best[model.path.resolve().name] for model in candidates])
        lines: list[TriedEnsemble] = []
        members = _comparable(candidates, best, single)
        if len(members) > 1:
            logger.info("%s: ensembles of %d models of %s", modality, len(members), members[0].plans_name)
            preprocessed = preprocessed_folder(folders, members[0])
            trial = SyntheticTrial(single.fold, preprocessed, device, per_kind, max_slices, options.extensions)
            lines = try_ensembles(members, best, trial)
        ensembles += lines
        if modality in chosen and len(candidates) < sum(one.input_modality == modality for one in everything):
            logger.warning(
                "not every model of %s was tried: %s stays what predicts it.", modality, " + ".join(chosen[modality])
            )
            continue
        chosen[modality] = best_members(single, lines)
    planned = models[0].plan.configuration().input_modality
    default = planned if planned in chosen else modalities[0]
    result = BestConfiguration(best, chosen, default, tuple(tried), tuple(ensembles))
    save_json(asdict(result), results / BEST_FILE)
    return result


def describe_best(found: BestConfiguration) -> str:
    """A line per model, the best first, for the terminal."""
    lines = [
        f"{'AUPRC':>6} {'published':>9} {'evaluations':>11}  model: steps, stride, strips at once, smoothing, other sign"
    ]
    for name, best in sorted(found.best.items(), key=lambda item: -item[1].auprc):
        published = max(one.auprc for one in found.tried if one.model == name and one.published)
        lines.append(
            f"{best.auprc:>6.3f} {published:>9.3f} {best.evaluations_per_slice:>11.0f}  {name}: {best.sampling_steps}, "
            f"{best.strip_stride} px, {best.strips_per_pass}, {best.score.smoothing_mm:g} mm, x {best.score.other_weight:g}"
        )
    lines += [
        f"{one.auprc:>6.3f} {'':>9} {one.evaluations_per_slice:>11.0f}  mean of {' + '.join(one.models)}"
        for one in sorted(found.ensembles, key=lambda one: -one.auprc)
    ]
    for modality, models in found.models.items():
        default = ", and by default" if modality == found.default_modality else ""
        lines.append(f"mmccd_predict takes {' + '.join(models)} for {modality}{default}")
    return "\n".join(lines)


def _comparable(models: Sequence[ModelFolder], best: Mapping[str, Tried], single: Tried) -> list[ModelFolder]:
    """The models that were tried on the same slices as the best one, itself among them."""
    plans_name = next(model.plans_name for model in models if model.path.resolve().name == single.model)
    tried = [(model, best[model.path.resolve().name]) for model in models if model.plans_name == plans_name]
    return [model for model, one in tried if (one.fold, one.source, one.cases) == (single.fold, single.source, single.cases)]


def _kept_choices(results: Path, models: Sequence[ModelFolder]) -> dict[str, tuple[str, ...]]:
    """What was chosen before, by modality, where all of its models are still there: a run that is narrowed to one modality
    leaves the others."""
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


def preprocessed_folder(folders: Folders, model: ModelFolder) -> Path:
    """Where the slices are that a model was trained on.

    Raises
    ------
    MMCCDError
        If they aren't there, or were made anew by another plan.
    """
    path = folders.preprocessed / model.plan.dataset_name / model.plans_name
    if not path.is_dir():
        raise MMCCDError(f"{path} does not exist: preprocess {model.plan.dataset_name} first, or say where it is.")
    if (path / PLANS_FILE).is_file():
        differences = plan_differences(model.plan, Plan.load(path / PLANS_FILE), OF_THE_SLICES)
        if differences:
            raise MMCCDError(
                f"{path} holds slices of another plan than {model.path} was trained by ({'; '.join(differences)}): "
                "preprocess with the model's plan, or train anew."
            )
    return path


def describe_calibration(calibration: Calibration, rates: Sequence[float] = (0.05, 0.01, 0.005, 0.001)) -> str:
    """Thresholds by false-positive rate, for the terminal."""
    lines = [f"calibrated on {calibration.source} of {counted(len(calibration.subjects), 'subject')}"]
    lines += [
        f"  {rate:<6g} of healthy tissue scores above {calibration.threshold(rate):.3g}; lesions count from "
        f"{calibration.least_lesion_mm3(rate):.0f} mm3"
        for rate in rates
    ]
    return "\n".join(lines)
