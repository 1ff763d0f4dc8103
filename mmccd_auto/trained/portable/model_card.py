"""The card of a model that travels: what it was trained on, how it is calibrated and what it found, in figures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Interval, Le, Len, Predicate

from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import (
    ConfigurationName,
    DatasetName,
    FoldName,
    ModalityName,
    ModelName,
    PlansName,
    PortableName,
    TrainerName,
)
from mmccd_auto.core.records import Expected, read_record
from mmccd_auto.core.wording import counted, in_words
from mmccd_auto.plans.plan import SamplingSteps, SliceAxis, StripsPerPass, StripStride
from mmccd_auto.trained.portable.portable_fold import Count, Sha256
from mmccd_auto.trained.portable.safetensors_weights import REMEDY
from mmccd_auto.trained.portable.short_texts import LongText, ShortText

CARD_FILE = "model_card.json"
CARD_TEXT_FILE = "MODEL_CARD.md"
CARD_FORMAT = 1
NOT_A_DEVICE = "Research software: not a medical device. A map shows what the training scans' healthy tissue can't explain."
Share = Annotated[float, Interval(ge=0, le=1)]
Amount = Annotated[float, Ge(0)]
Day = Annotated[
    str,
    Predicate(lambda value: len(value) == 10 and value.replace("-", "").isdecimal() and value[4::3] == "--"),
    Expected("a day such as 2026-11-26"),
]


@dataclass(frozen=True)
class ModelCard:
    """model_card.json: one model folder described. What is not known is null.

    Attributes
    ----------
    format : of this file
    name, model : of the export, and of the model folder in it
    made_on : day of the export
    description, licence : as its maker gave them; empty where nothing was given
    input_modality, translation_modality : of the modality cycle; only the first is needed for prediction
    method, trainer, plans, configuration, dataset : which training it was
    slice_axis, pixel_mm, patch_size : what the networks see
    people, scans : of the dataset that the folds were trained on, all folds together
    modalities : of the training scans, with the number of scans that have each
    healthy_slices, people_of_fold : by fold, what it was trained on
    voxel_mm_smallest, voxel_mm_median, voxel_mm_largest : of the training scans, along x, y, z (LPS)
    ages : of the people, in words; empty where its maker didn't say
    iterations, training_hours : by fold
    sampling_steps, strip_stride, strips_per_pass : by which it predicts
    synthetic_auprc : by fold, how well synthetic lesions are found in healthy slices, without labels
    calibrated_on : healthy people whom its scores are calibrated on; 0: it isn't calibrated
    calibration_source : "healthy validation slices" or "healthy training slices"; empty where it isn't calibrated
    promised_false_alarm_rate : share of healthy tissue in the mask, by default
    found_false_alarm_rate : mean share in the mask of each of these people when the others alone set the threshold; null for
        fewer than two
    least_lesion_mm3 : smaller parts of the mask are candidates, by default
    limits : what the figures can't say, in sentences
    versions : of the software that trained it
    weights_sha256 : by fold, as CASE.json names it
    reconstruction_r2 : share of the variance of healthy tissue, which ``calibration_source`` names, that the reconstruction
        explains, mean over people
    gain_over_control : by fold, how much more of synthetic lesions is found (AUPRC) than by the same score without a
        network
    """

    format: Annotated[int, Interval(ge=CARD_FORMAT, le=CARD_FORMAT)]
    name: PortableName
    model: ModelName
    made_on: Day
    description: LongText
    licence: ShortText
    input_modality: ModalityName
    translation_modality: ModalityName
    method: ShortText
    trainer: TrainerName
    plans: PlansName
    configuration: ConfigurationName
    dataset: DatasetName
    slice_axis: SliceAxis
    pixel_mm: Annotated[float, Gt(0)]
    patch_size: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]
    people: Count | None
    scans: Count | None
    modalities: dict[ModalityName, Count]
    healthy_slices: dict[FoldName, Count | None]
    people_of_fold: dict[FoldName, Count | None]
    voxel_mm_smallest: tuple[Amount, Amount, Amount] | None
    voxel_mm_median: tuple[Amount, Amount, Amount] | None
    voxel_mm_largest: tuple[Amount, Amount, Amount] | None
    ages: ShortText
    iterations: Annotated[dict[FoldName, Count], Len(1)]
    training_hours: dict[FoldName, Amount | None]
    sampling_steps: SamplingSteps
    strip_stride: StripStride
    strips_per_pass: StripsPerPass
    synthetic_auprc: dict[FoldName, Share | None]
    calibrated_on: Count
    calibration_source: ShortText
    promised_false_alarm_rate: Share | None
    found_false_alarm_rate: Share | None
    least_lesion_mm3: Amount | None
    limits: Annotated[tuple[ShortText, ...], Len(0, 32)]
    versions: dict[ShortText, ShortText]
    weights_sha256: dict[FoldName, Sha256] = field(default_factory=dict)
    reconstruction_r2: Annotated[float, Le(1)] | None = None
    gain_over_control: dict[FoldName, Annotated[float, Interval(ge=-1, le=1)] | None] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write model_card.json into a model folder."""
        save_json(asdict(self), Path(folder) / CARD_FILE)


def load_card(folder: str | Path) -> ModelCard:
    """Read the model_card.json of a model folder.

    Raises
    ------
    MMCCDError
        If it is missing, or an entry isn't what it must be.
    """
    return read_record(ModelCard, Path(folder) / CARD_FILE, REMEDY)


def card_text(cards: tuple[ModelCard, ...]) -> str:
    """Write the cards of an export's models as Markdown."""
    first = cards[0]
    parts = [f"# {first.name}", first.description or "No description was given."]
    parts += [f"Licence: {first.licence or 'not stated; ask the maker before you use it'}. Exported on {first.made_on}."]
    if len(cards) > 1:
        parts += [f"The maps of {counted(len(cards), 'model')} are averaged: each is described below."]
    for card in cards:
        table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows(card))]
        parts += [f"## {card.model}", "\n".join(table)]
        parts += ["\n".join(f"- {text}" for text in (*card.limits, NOT_A_DEVICE))]
    return "\n\n".join(parts) + "\n"


def rows(card: ModelCard) -> list[tuple[str, str]]:
    """Name and value of each line of a card, in words."""
    return [
        ("examines", f"{card.input_modality} (trained together with {card.translation_modality})"),
        ("trained on", _training_data(card)),
        ("modalities of the scans", ", ".join(f"{name}: {count}" for name, count in card.modalities.items()) or "not known"),
        ("voxels of the scans", _voxels(card)),
        ("ages", card.ages or "not stated"),
        (
            "networks see",
            f"{card.slice_axis} slices, {' x '.join(map(str, card.patch_size))} px of {card.pixel_mm:g} mm",
        ),
        ("training", f"{card.trainer} ({card.method}): {_by_fold(card.iterations, '{} iterations')}; {_hours(card)}"),
        (
            "prediction",
            f"{counted(card.sampling_steps, 'step')}, strips every {card.strip_stride} px, {card.strips_per_pass} at once",
        ),
        ("synthetic lesions found (AUPRC, no labels)", _by_fold(card.synthetic_auprc, "{:.3f}")),
        ("gain over the same score without a network (AUPRC)", _by_fold(card.gain_over_control, "{:+.3f}")),
        (
            "reconstruction of healthy tissue (R2)",
            "not known" if card.reconstruction_r2 is None else f"{card.reconstruction_r2:.3f}; a constant has 0",
        ),
        ("calibration", _calibration(card)),
        ("software", ", ".join(f"{name} {version}" for name, version in card.versions.items()) or "not known"),
        ("weights (SHA-256)", _by_fold(card.weights_sha256, "{}")),
    ]


def _training_data(card: ModelCard) -> str:
    people = "people: not known" if card.people is None else counted(card.people, "person", "people")
    scans = "" if card.scans is None else f", {counted(card.scans, 'scan')}"
    return f"{people}{scans}; healthy slices: {_by_fold(card.healthy_slices, '{}')}"


def _voxels(card: ModelCard) -> str:
    if card.voxel_mm_median is None:
        return "not known"
    shown = [_edges(one) for one in (card.voxel_mm_median, card.voxel_mm_smallest, card.voxel_mm_largest)]
    return f"{shown[0]} mm (median; from {shown[1]} to {shown[2]})"


def _edges(spacing: tuple[float, float, float] | None) -> str:
    return " x ".join(f"{edge:.3g}" for edge in spacing or ())


def _hours(card: ModelCard) -> str:
    known = [hours for hours in card.training_hours.values() if hours is not None]
    return f"{in_words(3600 * math.fsum(known))} for {counted(len(known), 'fold')}" if known else "time not known"


def _by_fold(values: dict, form: str) -> str:
    """Write a value a fold, "fold 0: 0.412, fold 1: 0.399"."""
    told = [f"fold {fold}: {'not known' if value is None else form.format(value)}" for fold, value in values.items()]
    return ", ".join(told) or "not known"


def _calibration(card: ModelCard) -> str:
    if not card.calibrated_on:
        return "none: its maps hold the squared error, without masks"
    found = "not known (one person)"
    if card.found_false_alarm_rate is not None:
        found = f"{100 * card.found_false_alarm_rate:.2g} % where each is left out of the threshold"
    promised = "" if card.promised_false_alarm_rate is None else "; promised false alarms "
    if card.promised_false_alarm_rate is not None:
        promised += f"{100 * card.promised_false_alarm_rate:.2g} % of healthy tissue, found {found}"
    least = "" if card.least_lesion_mm3 is None else f"; lesions count from {card.least_lesion_mm3:.0f} mm3"
    return f"{counted(card.calibrated_on, 'healthy person', 'healthy people')}, {card.calibration_source}{promised}{least}"
