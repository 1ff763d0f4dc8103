"""Scores that mean the same in every case: units, thresholds and lesion sizes from healthy slices alone, without labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval, Le, Len

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import FoldName
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import SCORES, check_rate
from mmccd_auto.inference.scores.control import JOINED, Control, fit_joined_units, joined_scores, mean_r2, reconstruction_r2
from mmccd_auto.inference.scores.edge_profile import HealthyEdge
from mmccd_auto.inference.scores.false_alarm_rate import EDGES, exceeded_shares, histogram, threshold_for
from mmccd_auto.inference.scores.healthy_error import Divisor, HealthyError
from mmccd_auto.inference.scores.masks import component_volumes
from mmccd_auto.inference.scores.score_units import ScoreUnits, fit_units, needed_units
from mmccd_auto.inference.scores.signed_scores import adjacent_runs
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, ModelFolder

RATES = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""False-positive rates for which false components are measured."""
TOP_SHARE = 0.01
ENOUGH_PEOPLE = 10
"""Fewer healthy people give no percentile, and can't raise the least lesion volume beyond the one below."""
LARGEST_LEAST_LESION_OF_FEW = 100.0
AGE_RANGE = 10.0
"""Years to both sides: people of this age make a percentile by age, where they are ENOUGH_PEOPLE."""
REMEDY = "make it again with mmccd_calibrate"
SliceSource = Literal["healthy validation slices", "healthy training slices", "slices of the user's own healthy scans"]
HELD_OUT: SliceSource = "healthy validation slices"
TRAINED_ON: SliceSource = "healthy training slices"
OWN_SCANS: SliceSource = "slices of the user's own healthy scans"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HealthySubject:
    """How one healthy subject's slices score.

    Attributes
    ----------
    subject : whom they show
    slices, pixels : that were scored
    histograms : by score, counts of pixels in classes of calibrated units, see mmccd_auto.inference.scores.false_alarm_rate
    largest_component_mm3 : by false-positive rate ("0.005"), of the mask of the combined score; 0 where nothing is masked
    case_score : see :func:`case_score`
    reconstruction_r2 : see :func:`mmccd_auto.inference.scores.control.reconstruction_r2`; None where it isn't known
    age : whole years, 90 for 90 and more; None where it isn't known
    """

    subject: str
    slices: Annotated[int, Ge(1)]
    pixels: Annotated[int, Ge(1)]
    histograms: dict[str, Annotated[tuple[Annotated[int, Ge(0)], ...], Len(len(EDGES) + 1, len(EDGES) + 1)]]
    largest_component_mm3: dict[str, Annotated[float, Ge(0)]]
    case_score: Annotated[float, Ge(0)]
    reconstruction_r2: Annotated[float, Le(1)] | None = None
    age: Annotated[float, Interval(ge=0, le=90)] | None = None


@dataclass(frozen=True)
class Calibration:
    """calibration.json: what healthy tissue scores.

    Attributes
    ----------
    settings : by which the maps were made
    score : how errors became scores
    source : HELD_OUT, TRAINED_ON or OWN_SCANS
    weights_sha256 : of the checkpoint of each fold that it is for
    healthy_error : by place
    units : by score, the value that healthy tissue exceeds in 1 % of its pixels; maps are divided by it. Where the plan
        smooths twice also those of each sign, "fine" and "coarse"; where it joins them with the control, also "joined"
    subjects : one entry each; every subject counts the same
    limits : what so few people can't say, in sentences for a reader of the file; empty where they are enough
    control : what the same slices score without a network; None where it wasn't fitted
    first_look : what turns the errors of the first fit into the scores by which tissue is left out of the second one, see
        mmccd_auto.inference.scores.second_fit; None: the maps were made with one fit
    edge : how healthy people score at the brain's edge; None where it wasn't measured
    further : by the name of a subset of further modalities ("T1 + T2"), what healthy tissue scores where these are used
        beside the input; empty for models of the input modality alone
    """

    settings: JsonObject
    score: ScorePlan
    source: SliceSource
    weights_sha256: dict[FoldName, str]
    healthy_error: HealthyError
    units: dict[str, Divisor]
    subjects: Annotated[tuple[HealthySubject, ...], Len(1)]
    limits: tuple[str, ...] = ()
    control: Control | None = None
    first_look: ScoreUnits | None = None
    edge: HealthyEdge | None = None
    further: dict[str, Calibration] = field(default_factory=dict)

    @property
    def reconstruction_r2(self) -> float | None:
        """Which share of the healthy tissue's variance the reconstruction explains, mean over the subjects.

        None where it isn't known.
        """
        return mean_r2([subject.reconstruction_r2 for subject in self.subjects])

    @property
    def fits(self) -> int:
        """How often the bias field and the intensity scale of the scans were fitted."""
        return 1 if self.first_look is None else 2

    @property
    def few_people(self) -> bool:
        """Whether there are too few healthy people for a percentile and for a large least lesion volume."""
        return len(self.subjects) < ENOUGH_PEOPLE

    def scores(self, case: CaseMaps) -> dict[str, np.ndarray]:
        """Make all SCORES of the slices of a case in units, float32 [S, H, W] each; 0 outside the brain.

        Parameters
        ----------
        case : by the weights and settings that the calibration is for
        """
        return joined_scores(case, self, self.control)

    def threshold(self, rate: float, score: str = "combined") -> float:
        """Compute the score, in calibrated units, that the share ``rate`` of healthy pixels exceeds."""
        check_rate(rate)
        return threshold_for(rate, exceeded_shares([subject.histograms[score] for subject in self.subjects]))

    def pixels_above(self, rate: float) -> float:
        """Count on how many false-positive pixels a threshold for ``rate`` rests."""
        return rate * sum(subject.pixels for subject in self.subjects)

    def least_lesion_mm3(self, rate: float) -> float:
        """Compute the volume that the largest false component of a mask exceeds in half of the healthy subjects.

        For rates beyond RATES that of the nearest one. Fewer than ENOUGH_PEOPLE can't raise it above
        LARGEST_LEAST_LESION_OF_FEW: one odd brain among two or three would hide real lesions.
        """
        usual = self.usual_false_component_mm3(rate)
        return min(usual, LARGEST_LEAST_LESION_OF_FEW) if self.few_people else usual

    def usual_false_component_mm3(self, rate: float) -> float:
        """Work as :meth:`least_lesion_mm3`, whatever the number of people."""
        rates = RATES[::-1]
        volumes = [np.median([one.largest_component_mm3[f"{rate:g}"] for one in self.subjects]) for rate in rates]
        return float(np.interp(math.log(rate), np.log(rates), volumes))

    def of_age(self, age: float | None) -> tuple[HealthySubject, ...]:
        """Select those whose age differs by AGE_RANGE at most; none where they are fewer than ENOUGH_PEOPLE."""
        if age is None:
            return ()
        found = tuple(one for one in self.subjects if one.age is not None and abs(one.age - age) <= AGE_RANGE)
        return found if len(found) >= ENOUGH_PEOPLE else ()

    def healthy_percentile(self, score: float, age: float | None = None) -> float | None:
        """Compute the share of healthy people, in percent, whose case score is below ``score``; None for too few of them.

        Those of about the same age count alone where the age is known and they are enough.
        """
        if self.few_people:
            return None
        people = self.of_age(age) or self.subjects
        return 100 * float(np.mean([subject.case_score < score for subject in people]))

    def differences(self, settings: InferenceSettings, score: ScorePlan) -> list[str]:
        """Describe in what settings and the planned score differ from the calibrated ones (the preset's name aside).

        "NAME VALUE against VALUE".
        """
        wanted = settings.to_json() | asdict(score)
        there = self.settings | asdict(self.score) | {"fits": self.fits}
        return [
            f"{name} {value} against {there.get(name)}"
            for name, value in wanted.items()
            if name != "preset" and value != there.get(name)
        ]


def load_calibration(path: Path) -> Calibration | None:
    """Read calibration.json; None where there is none.

    Raises
    ------
    MMCCDError
        If the file isn't one of this version; the message names the entry.
    """
    if not path.is_file():
        return None
    calibration = read_record(Calibration, path, REMEDY)
    problem = next(filter(None, map(_problem, (calibration, *calibration.further.values()))), None)
    if problem is not None:
        raise MMCCDError(f"{path}: {problem}: {REMEDY}.")
    return calibration


def _problem(calibration: Calibration) -> str | None:
    """Describe what a calibration lacks, or the first histogram without a pixel; None where it can be used."""
    parts: list[tuple[str, Calibration | Control | ScoreUnits, ScorePlan]] = [("", calibration, calibration.score)]
    if calibration.control is not None:
        parts.append(("control.", calibration.control, calibration.score))
    if calibration.first_look is not None:
        parts.append(("first_look.", calibration.first_look, calibration.first_look.score))
    joined = [JOINED] if calibration.score.control_weight > 0 else []
    if joined and calibration.control is None:
        return "the entry control is missing"
    for where, part, score in parts:
        lacking = [
            name for name in (*needed_units(score), *(joined if part is calibration else ())) if name not in part.units
        ]
        if lacking:
            return f"the entry {where}units.{lacking[0]} is missing"
    for number, subject in enumerate(calibration.subjects):
        where = f"subjects[{number}]"
        lacking = [f"histograms.{name}" for name in SCORES if name not in subject.histograms]
        lacking += [f"largest_component_mm3.{rate:g}" for rate in RATES if f"{rate:g}" not in subject.largest_component_mm3]
        if lacking:
            return f"the entry {where}.{lacking[0]} is missing"
        empty = [name for name in SCORES if not any(subject.histograms[name])]
        if empty:
            return f"{where}.histograms.{empty[0]} counts no pixel at all"
    return None


def fit_calibration(
    cases: Sequence[CaseMaps],
    score: ScorePlan,
    settings: dict[str, Any],
    source: SliceSource,
    weights_sha256: Mapping[str, str],
    first_look: ScoreUnits | None = None,
) -> Calibration:
    """Calibrate on healthy slices; every subject counts the same.

    Parameters
    ----------
    cases : at least one, with brain in their slices
    score : how errors become scores
    settings, source, weights_sha256, first_look : see :class:`Calibration`
    """
    fitted, control = fit_joined_units(cases, fit_units(cases, score))
    subjects = _by_subject(cases, [joined_scores(case, fitted, control) for case in cases])
    return Calibration(
        dict(settings),
        score,
        source,
        dict(weights_sha256),
        fitted.healthy_error,
        fitted.units,
        subjects,
        limits_of(len(subjects)),
        control,
        first_look=first_look,
    )


def limits_of(people: int) -> tuple[str, ...]:
    """Describe what a calibration on so many healthy people can't say, in sentences; empty where they are enough."""
    if people >= ENOUGH_PEOPLE:
        return ()
    told = f"{too_few(people)}, {ENOUGH_PEOPLE} are needed"
    return (
        f"The least lesion volume is {LARGEST_LEAST_LESION_OF_FEW:g} mm3 at most: {told}.",
        f"No percentile of healthy people is given: {told}.",
    )


def too_few(people: int) -> str:
    """Say that so many healthy people are too few."""
    return f"too few healthy people ({people})"


def case_score(values: np.ndarray) -> float:
    """Compute how anomalous a whole case is.

    The mean of the highest 1 % of ``values``, the scores of all its brain pixels.
    """
    count = max(1, round(TOP_SHARE * len(values)))
    return float(np.partition(values, len(values) - count)[-count:].mean())


def _by_subject(cases: Sequence[CaseMaps], scaled: Sequence[Mapping[str, np.ndarray]]) -> tuple[HealthySubject, ...]:
    members: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        members.setdefault(case.subject, []).append(number)

    def pixels(subject: str, name: str) -> np.ndarray:
        return np.concatenate([scaled[number][name][cases[number].healthy] for number in members[subject]])

    histograms = {one: {name: histogram(pixels(one, name)) for name in SCORES} for one in members}
    shares = exceeded_shares([one["combined"] for one in histograms.values()])
    thresholds = {f"{rate:g}": threshold_for(rate, shares) for rate in RATES}
    return tuple(
        HealthySubject(
            subject=subject,
            slices=sum(len(cases[number].indices) for number in numbers),
            pixels=sum(int(cases[number].healthy.sum()) for number in numbers),
            histograms=histograms[subject],
            largest_component_mm3={
                rate: max(_largest_component(cases[number], scaled[number]["combined"], threshold) for number in numbers)
                for rate, threshold in thresholds.items()
            },
            case_score=case_score(pixels(subject, "combined")),
            reconstruction_r2=reconstruction_r2([cases[number] for number in numbers]),
        )
        for subject, numbers in members.items()
    )


def _largest_component(case: CaseMaps, score: np.ndarray, threshold: float) -> float:
    """Measure the largest component in mm3; slices that aren't neighbours don't touch."""
    volume = float(np.prod(case.spacing))
    mask = (score > threshold) & case.healthy
    return max((*component_volumes(mask[run], volume)[:1].tolist(), 0.0)[0] for run in adjacent_runs(case.indices))


def calibration_of(model: ModelFolder, fold: FoldModel) -> Calibration | None:
    """Return the calibration of a loaded fold; None where there is none, or it belongs to other weights (which is said)."""
    calibration = load_calibration(model.fold(fold.fold) / CALIBRATION_FILE)
    if calibration is not None and calibration.weights_sha256.get(fold.fold) != fold.weights_sha256:
        logger.warning("fold %s: calibration.json belongs to other weights and is not used; mmccd_calibrate.", fold.fold)
        return None
    return calibration
