"""How a model was made and calibrated, in tables for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmccd_auto.core.wording import counted
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.inference.scores.control import mean_r2
from mmccd_auto.inference.scores.found_rates import EVERYBODY, found_rates
from mmccd_auto.inference.scores.scoring import Scoring
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.plans.plan import Plan
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity
from mmccd_auto.trained.portable.model_card import ModelCard
from mmccd_auto.trained.portable.model_card import rows as card_rows


def model_sections(
    identity: ModelIdentity,
    plan: Plan,
    scoring: Scoring,
    settings: InferenceSettings,
    fingerprint: DatasetFingerprint | None,
    further: Sequence[str] = (),
) -> tuple[Section, ...]:
    """Return the tables on the model, its training, its calibration and the settings of the maps.

    Parameters
    ----------
    identity, plan, scoring, settings : of the predictor
    fingerprint : of the training scans; None where the model folder has none
    further : other modalities that the model can use
    """
    return (
        _model_section(identity, plan, further),
        _training_section(plan, fingerprint),
        _calibration_section(scoring),
        _settings_section(settings),
    )


def card_section(card: ModelCard) -> Section:
    """Return the card that came with a model, as its maker described it."""
    described = (("Made on", card.made_on), ("Licence", card.licence or "not stated"))
    lines = tuple((name[:1].upper() + name[1:], value) for name, value in card_rows(card))
    return Section("Model card", (*described, *lines), " ".join(text for text in (card.description, *card.limits) if text))


def _model_section(identity: ModelIdentity, plan: Plan, further: Sequence[str]) -> Section:
    beside = f"and, where a case has them, {' and '.join(further)}" if further else "alone"
    rows = (
        ("Model", identity.model),
        ("Trained on", identity.dataset),
        ("Examines", f"{identity.input_modality} {beside} (modality cycle {identity.configuration})"),
        ("Folds averaged", ", ".join(identity.folds)),
        ("Plan", f"{identity.plans}, by {plan.planner}"),
        ("Network's view", f"{plan.patch_size[0]} x {plan.patch_size[1]} pixels of {plan.target_spacing:.3g} mm"),
        ("Slices", identity.slice_axis),
        ("Weights (SHA-256)", ", ".join(f"{fold}: {value[:12]}" for fold, value in identity.weights_sha256.items())),
    )
    return Section("Model", rows)


def _training_section(plan: Plan, fingerprint: DatasetFingerprint | None) -> Section:
    training = plan.training
    rows = [
        ("Planned training", f"{training.num_epochs} epochs of {training.iterations_per_epoch} steps"),
        ("Batch", counted(training.batch_size, "slice")),
        ("Modalities", ", ".join(plan.modalities)),
    ]
    if fingerprint is not None:
        people = {one.subject for one in fingerprint.cases.values()}
        rows.insert(
            0, ("Scans of healthy tissue", f"{len(fingerprint.cases)} of {counted(len(people), 'person', 'people')}")
        )
    note = "" if fingerprint is not None else "The model folder does not say what the training scans were like."
    return Section("Training", tuple(rows), note)


def _calibration_section(scoring: Scoring) -> Section:
    if not scoring.calibrated:
        return Section("Calibration", (("Calibrated", f"no: {scoring.source}"),))
    calibrations = list(scoring.calibrations.values())
    slices = sum(one.slices for one in calibrations[0].subjects)
    rows = [
        ("Score", f"{scoring.score}; 1 % of healthy tissue exceeds 1"),
        ("Healthy people", f"{scoring.healthy_people} ({counted(slices, 'slice')})"),
        ("Source", scoring.source),
        ("Least lesion volume", f"{scoring.least_lesion_mm3:.3g} mm³, {scoring.least_source}"),
    ]
    explained = mean_r2([one.reconstruction_r2 for one in calibrations])
    if explained is not None:
        rows.append(("Healthy tissue explained (R2)", f"{explained:.3f} by the reconstruction; 0 by a constant"))
    if scoring.threshold is not None:
        rows.append(("Threshold", f"{scoring.threshold:.3g}"))
    if scoring.false_positive_rate is not None:
        rows.append(("False-alarm rate, promised", f"{100 * scoring.false_positive_rate:.3g} % of healthy tissue"))
        rows.append(("False-alarm rate, found", _found(calibrations, scoring.false_positive_rate, scoring.score)))
    note = "Found: on each healthy person with the threshold that the other ones give."
    limits = " ".join(dict.fromkeys(text for one in calibrations for text in one.limits))
    return Section("Calibration", tuple(rows), f"{note} {limits}".strip())


def _found(calibrations: Sequence[Calibration], rate: float, score: str) -> str:
    """Write which share of healthy people's tissue exceeds the threshold of a promised rate, over all folds."""
    found = [found_rates(one.subjects, [rate], score).get(EVERYBODY) for one in calibrations]
    shares = [100 * rate * ratio for one in found if one for ratio in one[0].ratios]
    if not shares:
        return "unknown: there is one healthy person only"
    people = max(len(one.subjects) for one in calibrations)
    return f"{np.mean(shares):.3g} % on average, {max(shares):.3g} % in the worst of {people} people"


def _settings_section(settings: InferenceSettings) -> Section:
    rows = tuple((name.replace("_", " "), str(value)) for name, value in settings.to_json().items())
    return Section("Settings of the maps", rows)
