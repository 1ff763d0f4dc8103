"""What is written of a score: units, thresholds, percentiles, and the wishes that can't be obeyed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps, SliceMaps
from mmccd_auto.inference.options import MapOptions, ScoreOptions
from mmccd_auto.inference.scores.calibration import Calibration, fit_calibration
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.inference.scores.scoring import Scoring, choose_fits
from mmccd_auto.plans.plan import ScorePlan


def people(count: int) -> Calibration:
    """A calibration on people whose errors are normal."""
    cases = []
    for number in range(count):
        random = np.random.default_rng(number)
        brain = np.ones((2, 12, 12), dtype=bool)
        error = random.standard_normal(brain.shape).astype(np.float32)
        maps = SliceMaps(error**2, error, random.uniform(-3, 3, brain.shape).astype(np.float32), brain.astype(np.float32), 0)
        cases.append(CaseMaps(f"c{number}", f"p{number}", (3, 4), (2.0, 2.0, 2.0), maps, brain))
    return fit_calibration(cases, ScorePlan(), {}, "healthy validation slices", {"0": "a"})


def aged(calibration: Calibration, *ages: float | None) -> Calibration:
    subjects = [replace(one, age=age) for one, age in zip(calibration.subjects, ages, strict=True)]
    return replace(calibration, subjects=tuple(subjects))


def scoring(*calibrations: Calibration, score: str = "combined") -> Scoring:
    return Scoring(score, {str(number): one for number, one in enumerate(calibrations)}, 0.005, 2.0, 0.0, "", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "best"}, "no score best: choose one of combined"),
        ({"false_positive_rate": 0.0}, "a false-positive rate of 0.0 is impossible"),
        ({"false_positive_rate": 0.01, "threshold": 1.0}, "not both"),
        ({"threshold": float("inf")}, "the threshold inf is no score"),
        ({"least_lesion_mm3": -1.0}, "the least lesion volume -1.0 is impossible"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(MMCCDError, match=words):
        ScoreOptions(**options)


def test_without_a_calibration_the_score_has_no_units() -> None:
    found = Scoring("squared", {}, None, None, 0.0, "no calibration", "none")
    assert not found.calibrated
    assert not found.has_control
    assert found.healthy_percentile(1.0) is None
    content = found.to_json()
    assert content["score_unit"] == "squared normalised intensity"
    assert (content["healthy_people"], content["healthy_percentile_note"]) == (None, "not calibrated")


@pytest.mark.parametrize(
    ("count", "score", "note"),
    [
        (10, "combined", ""),
        (9, "combined", "too few healthy people (9) to say"),
        (10, "brighter", "known for the score combined only"),
    ],
)
def test_a_percentile_needs_ten_people_and_the_usual_score(count: int, score: str, note: str) -> None:
    found = scoring(people(count), score=score)
    assert found.percentile_note == note
    assert found.healthy_people == count
    assert (found.healthy_percentile(1e9) is None) == bool(note)


def test_the_percentile_is_the_mean_over_the_folds() -> None:
    calibration = people(10)
    scores = sorted(one.case_score for one in calibration.subjects)
    middle = (scores[4] + scores[5]) / 2
    assert scoring(calibration).healthy_percentile(middle) == pytest.approx(50)
    assert scoring(calibration, calibration).healthy_percentile(middle) == pytest.approx(50)
    assert scoring(calibration).healthy_percentile(scores[-1] + 1) == pytest.approx(100)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (None, ""),
        (45.0, ""),
        (25.1, ""),
        (60.0, ""),
        (20.0, "the person is 20 years old"),
        (80.0, "are 30 to 60: what is usual"),
    ],
)
def test_a_person_far_beyond_the_healthy_ages_is_warned_of(age: float | None, words: str) -> None:
    found = scoring(aged(people(3), 30.0, 45.0, 60.0))
    warning = found.age_warning(age)
    assert bool(warning) == (age is not None and not 25 <= age <= 65)
    assert words in warning
    assert scoring(aged(people(3), 30.0, None, 60.0)).age_warning(99.0) == ""


def test_scans_are_fitted_as_often_as_for_the_calibration(tiny_plan) -> None:
    settings = make_settings(tiny_plan)
    once = people(2)
    twice = replace(once, first_look=ScoreUnits(once.score, once.healthy_error, once.units))
    assert (once.fits, twice.fits) == (1, 2)
    assert choose_fits(settings, None, {"0": twice}, "m") == (settings, "")
    for calibrations in ({"0": once}, {"0": twice, "1": once}, {"0": None}):
        chosen, note = choose_fits(settings, None, calibrations, "m")
        assert chosen.fits == 1
        assert note
    with pytest.raises(MMCCDError, match="m: a second fit needs a calibration that was made with it"):
        choose_fits(settings, 2, {"0": once}, "m")
    asked = make_settings(tiny_plan, options=MapOptions(fits=1))
    assert choose_fits(asked, 1, {"0": twice}, "m")[0].fits == 1
