"""Normalisation schemes against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.preprocessing.normalisation import SCHEMES, find_scheme, normalise, register


@pytest.fixture
def volume() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    brain = np.zeros((10, 20, 20), dtype=bool)
    brain[2:8, 4:16, 4:16] = True
    array = np.where(brain, generator.gamma(6, 50, brain.shape), 0)
    return array, brain


def test_percentile_anchors(volume) -> None:
    array, brain = volume
    normalised, parameters = normalise(array, brain, "percentile", "a")
    low, high = np.percentile(array[brain], (2, 90))
    assert np.allclose(normalised[brain], np.minimum(6 * (array[brain] - low) / (high - low) - 3, 15), atol=1e-4)
    assert parameters["shift"] == pytest.approx(low)


def test_percentile_ignores_offset_and_gain(volume) -> None:
    array, brain = volume
    expected, _ = normalise(array, brain, "percentile", "a")
    found, _ = normalise(np.where(brain, 7 * array - 4000, 0), brain, "percentile", "a")
    assert np.allclose(found, expected, atol=1e-4)


def test_bias_corrected_anchors_do_not_follow_a_lesion(volume) -> None:
    array, brain = volume
    normalised, _ = normalise(array, brain, "bias_corrected", "a")
    low, high = np.percentile(array[brain], (2, 75))
    assert np.allclose(normalised[brain], np.minimum(5 * (array[brain] - low) / (high - low) - 3, 15), atol=1e-4)
    lesion = array.copy()
    lesion[2:8, 4:8, 4:7] = 3 * array.max()
    moved = {name: normalise(lesion, brain, name, "a")[1]["scale"] for name in ("percentile", "bias_corrected")}
    still = {name: normalise(array, brain, name, "a")[1]["scale"] for name in moved}
    changes = {name: abs(moved[name] / still[name] - 1) for name in moved}
    assert changes["bias_corrected"] < 0.5 * changes["percentile"]


def test_official_is_the_published_formula_unclipped(volume) -> None:
    array, brain = volume
    array[5, 5, 5] = 1e5
    normalised, _ = normalise(array, brain, "official", "a")
    ninetieth = np.percentile(array[array > 0], 90)
    assert np.allclose(normalised[brain], 6 * array[brain] / ninetieth - 3, rtol=1e-5)
    assert normalised.max() > 100


def test_zscore(volume) -> None:
    array, brain = volume
    normalised, _ = normalise(array, brain, "zscore", "a")
    assert normalised[brain].mean() == pytest.approx(0, abs=1e-4)
    assert normalised[brain].std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("scheme", ["percentile", "zscore"])
def test_bright_voxels_are_clipped(volume, scheme: str) -> None:
    array, brain = volume
    array[5, 5, 5] = 1e5
    assert normalise(array, brain, scheme, "a")[0].max() == 15


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_background_is_exactly_minus_three(volume, scheme: str) -> None:
    array, brain = volume
    array[~brain] = 12345
    normalised, _ = normalise(array, brain, scheme, "a")
    assert normalised.dtype == np.float32
    assert (normalised[~brain] == -3).all()


@pytest.mark.parametrize("scheme", ["percentile", "zscore"])
def test_no_contrast_is_named(volume, scheme: str) -> None:
    _, brain = volume
    with pytest.raises(MMCCDError, match="case_1: T1 has no contrast"):
        normalise(np.where(brain, 5.0, 0.0), brain, scheme, "case_1: T1")


def test_official_needs_positive_values(volume) -> None:
    _, brain = volume
    with pytest.raises(MMCCDError, match="no contrast"):
        normalise(np.where(brain, -5.0, 0.0), brain, "official", "a")


def test_unknown_scheme_lists_what_there_is() -> None:
    with pytest.raises(MMCCDError, match=r"no normalisation scheme nyul: choose one of .*percentile"):
        find_scheme("nyul")


def test_a_new_scheme_is_found_by_name(volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmccd_auto.preprocessing.normalisation.SCHEMES", dict(SCHEMES))
    array, brain = volume

    @register("identity")
    def identity(voxels: np.ndarray) -> dict[str, float]:
        return {"shift": -3.0, "scale": 1.0}

    normalised, _ = normalise(array, brain, "identity", "a")
    assert np.allclose(normalised[brain], array[brain], rtol=1e-6)
