"""Voxelwise figures against scikit-learn, loops and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from mmccd_auto.evaluation.metrics import (
    BOOTSTRAP_RESAMPLES,
    BOOTSTRAP_SEED,
    OverlapCounts,
    PairedDifference,
    average_precision,
    best_dice,
    bootstrap_interval,
    count_overlap,
    count_scores,
    dice_of_oracle,
    overlap_figures,
    paired_difference,
    pool_counts,
    ranking_figures,
    roc_auc,
    summarise_cases,
)
from mmccd_auto.evaluation.surface_distances import distance_figures, surface_distances


def _map(seed: int, voxels: int, share_of_zeros: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores spread over orders of magnitude, abnormal voxels higher, some exactly 0."""
    generator = np.random.default_rng(seed)
    abnormal = generator.random(voxels) < 0.02
    scores = np.exp(2 * generator.standard_normal(voxels) + 3 * abnormal).astype(np.float32)
    scores[generator.random(voxels) < share_of_zeros] = 0
    return scores, abnormal


def _dice_by_loop(scores: np.ndarray, abnormal: np.ndarray) -> tuple[float, float]:
    found = []
    for threshold in np.unique(scores):
        mask = scores >= threshold
        found.append((2 * np.sum(mask & abnormal) / (mask.sum() + abnormal.sum()), threshold))
    return max(found)


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.7])
def test_ranking_figures_are_those_of_scikit_learn(share_of_zeros: float) -> None:
    scores, abnormal = _map(1, 5000, share_of_zeros)
    counts = count_scores(scores, abnormal)
    assert average_precision(counts) == pytest.approx(average_precision_score(abnormal, scores), abs=1e-12)
    assert roc_auc(counts) == pytest.approx(roc_auc_score(abnormal, scores), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    scores=arrays.arrays(np.float32, 40, elements=st.integers(-3, 3).map(float)),
    abnormal=arrays.arrays(bool, 40),
)
def test_ties_and_negative_scores(scores: np.ndarray, abnormal: np.ndarray) -> None:
    counts = count_scores(scores, abnormal)
    if not abnormal.any():
        assert ranking_figures(counts) == dict.fromkeys(["auprc", "auroc", "best_dice", "best_dice_threshold"])
        return
    assert average_precision(counts) == pytest.approx(average_precision_score(abnormal, scores))
    assert best_dice(counts) == pytest.approx(_dice_by_loop(scores, abnormal))
    if abnormal.all():
        assert roc_auc(counts) is None
    else:
        assert roc_auc(counts) == pytest.approx(roc_auc_score(abnormal, scores))


def test_equal_scores_tell_nothing() -> None:
    abnormal = np.arange(100) < 10
    figures = ranking_figures(count_scores(np.full(100, 0.3, np.float32), abnormal))
    assert figures["auprc"] == pytest.approx(0.1)
    assert figures["auroc"] == pytest.approx(0.5)
    assert figures["best_dice"] == pytest.approx(20 / 110)


def test_perfect_and_inverted_ranking() -> None:
    scores = np.arange(100, dtype=np.float32)
    perfect = ranking_figures(count_scores(scores, scores >= 90))
    assert perfect == {"auprc": 1.0, "auroc": 1.0, "best_dice": 1.0, "best_dice_threshold": 90.0}
    assert roc_auc(count_scores(-scores, scores >= 90)) == 0.0


def test_best_dice_is_that_of_a_loop_over_all_thresholds() -> None:
    scores, abnormal = _map(2, 2000, 0.3)
    dice, threshold = best_dice(count_scores(scores, abnormal))
    assert (dice, threshold) == pytest.approx(_dice_by_loop(scores, abnormal))
    mask = scores >= np.float32(threshold)
    assert 2 * np.sum(mask & abnormal) / (mask.sum() + abnormal.sum()) == pytest.approx(dice)


def test_negative_zero_is_zero() -> None:
    counts = count_scores(np.array([-0.0, 0.0, 1.0], np.float32), np.array([True, False, False]))
    assert counts.scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_cannot_be_ranked(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        count_scores(np.array([0.0, value], np.float32), np.array([True, False]))


def test_pooling_few_scores_is_exact() -> None:
    maps = [_map(seed, 3000, 0.5) for seed in range(3)]
    pooled = pool_counts([count_scores(*item).limited() for item in maps])
    scores, abnormal = (np.concatenate(parts) for parts in zip(*maps, strict=True))
    assert pooled.dropped_bits == 0
    assert average_precision(pooled) == pytest.approx(average_precision_score(abnormal, scores), abs=1e-12)
    assert roc_auc(pooled) == pytest.approx(roc_auc_score(abnormal, scores), abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_pooling_many_scores_stays_within_a_thousandth(sign: int, offset: float) -> None:
    maps = [_map(seed, 200_000, 0.4) for seed in range(3)]
    maps = [(sign * (scores + np.float32(offset)), abnormal) for scores, abnormal in maps]
    limited = [count_scores(*item).limited() for item in maps]
    pooled = pool_counts(limited)
    scores, abnormal = (np.concatenate(parts) for parts in zip(*maps, strict=True))
    assert max(len(counts.keys) for counts in limited) <= 2**16
    assert pooled.dropped_bits > 0
    assert average_precision(pooled) == pytest.approx(average_precision_score(abnormal, scores), abs=1e-3)
    assert roc_auc(pooled) == pytest.approx(roc_auc_score(abnormal, scores), abs=1e-3)
    exact_dice, _ = best_dice(count_scores(scores, abnormal))
    dice, threshold = best_dice(pooled)
    assert dice == pytest.approx(exact_dice, abs=1e-3)
    mask = scores >= np.float32(threshold)
    assert 2 * np.sum(mask & abnormal) / (mask.sum() + abnormal.sum()) == pytest.approx(dice, abs=1e-9)


def test_pooling_cases_of_different_rounding() -> None:
    fine, coarse = count_scores(*_map(0, 500)), count_scores(*_map(1, 500)).limited(50)
    pooled = pool_counts([fine, coarse])
    assert fine.dropped_bits == 0 < coarse.dropped_bits == pooled.dropped_bits
    assert len(coarse.keys) <= 50
    assert pooled.positives.sum() == fine.positives.sum() + coarse.positives.sum()
    assert pooled.negatives.sum() == fine.negatives.sum() + coarse.negatives.sum()


def test_pooling_counts_healthy_cases() -> None:
    scores, abnormal = _map(3, 1000)
    alone = count_scores(scores, abnormal)
    healthy = count_scores(np.full(1000, scores.max(), np.float32), np.zeros(1000, bool))
    assert roc_auc(pool_counts([alone, healthy])) < roc_auc(alone)


def test_overlap_counts_by_hand() -> None:
    mask = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    reference = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    counts = count_overlap(mask, reference)
    assert counts == OverlapCounts(2, 1, 2, 3)
    expected = {"dice": 4 / 7, "jaccard": 2 / 5, "sensitivity": 0.5, "precision": 2 / 3, "masked_share": 3 / 8}
    assert overlap_figures(counts) == pytest.approx(expected)
    assert counts + counts == OverlapCounts(4, 2, 4, 6)


@pytest.mark.parametrize(
    ("mask", "reference", "expected"),
    [
        (0, 0, {"dice": 1.0, "jaccard": 1.0, "sensitivity": None, "precision": None, "masked_share": 0.0}),
        (3, 0, {"dice": 0.0, "jaccard": 0.0, "sensitivity": None, "precision": 0.0, "masked_share": 0.3}),
        (0, 3, {"dice": 0.0, "jaccard": 0.0, "sensitivity": 0.0, "precision": None, "masked_share": 0.0}),
    ],
)
def test_overlap_of_empty_masks(mask: int, reference: int, expected: dict) -> None:
    voxels = np.arange(10)
    assert overlap_figures(count_overlap(voxels < mask, voxels < reference)) == expected


def _brute_force_surface(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    padded = np.pad(mask, 1)
    points = []
    for z, y, x in np.argwhere(padded):
        neighbours = [(z + 1, y, x), (z - 1, y, x), (z, y + 1, x), (z, y - 1, x), (z, y, x + 1), (z, y, x - 1)]
        if not all(padded[neighbour] for neighbour in neighbours):
            points.append((z * spacing[2], y * spacing[1], x * spacing[0]))
    return np.array(points)


def test_surface_distances_are_those_of_brute_force() -> None:
    spacing = (0.7, 1.3, 4.0)
    grid = np.indices((9, 14, 16))
    first = sum((axis - centre) ** 2 for axis, centre in zip(grid, (4, 6, 7), strict=True)) < 16
    second = (sum((axis - centre) ** 2 for axis, centre in zip(grid, (6, 8, 9), strict=True)) < 20) | (grid[2] == 0)
    points = [_brute_force_surface(mask, spacing) for mask in (first, second)]
    distances = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    forth, back = surface_distances(first, second, spacing)
    np.testing.assert_allclose(np.sort(forth), np.sort(distances.min(axis=1)))
    np.testing.assert_allclose(np.sort(back), np.sort(distances.min(axis=0)))
    figures = distance_figures(first, second, spacing)
    assert figures["assd_mm"] == pytest.approx(np.concatenate([distances.min(axis=1), distances.min(axis=0)]).mean())
    directed = [np.percentile(distances.min(axis=axis), 95) for axis in (0, 1)]
    assert figures["hd95_mm"] == pytest.approx(max(directed))


def test_distance_of_two_voxels_follows_the_spacing() -> None:
    for axis, expected in ((0, 9.0), (1, 6.0), (2, 3.0)):
        first, second = np.zeros((2, 5, 5, 5), bool)
        first[0, 0, 0] = True
        second[tuple(3 if index == axis else 0 for index in range(3))] = True
        assert distance_figures(first, second, (1.0, 2.0, 3.0)) == {"assd_mm": expected, "hd95_mm": expected}


def test_distances_of_empty_masks() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert distance_figures(empty, empty, (1, 1, 1)) == {"assd_mm": 0.0, "hd95_mm": 0.0}
    assert distance_figures(empty, full, (1, 1, 1)) == {"assd_mm": None, "hd95_mm": None}
    assert distance_figures(full, empty, (1, 1, 1)) == {"assd_mm": None, "hd95_mm": None}
    assert distance_figures(full, full, (1, 1, 1)) == {"assd_mm": 0.0, "hd95_mm": 0.0}


def test_summary_leaves_out_undefined_figures_and_counts_them() -> None:
    summary = summarise_cases(
        [{"dice": 0.2, "auprc": None}, {"dice": 0.6, "auprc": 0.5}, {"dice": 0.4}], ["dice", "auprc", "x"]
    )
    assert summary.cases == {"dice": 3, "auprc": 1, "x": 0}
    assert summary.mean == {"dice": pytest.approx(0.4), "auprc": 0.5, "x": None}
    assert summary.median == {"dice": pytest.approx(0.4), "auprc": 0.5, "x": None}
    low, high = summary.interval["dice"]
    assert 0.2 <= low < 0.4 < high <= 0.6
    assert summary.interval["auprc"] is None


def test_bootstrap_interval_covers_the_mean_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.03)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values[:1]) is None


@pytest.mark.parametrize(
    ("dice", "best", "expected"), [(0.3, 0.6, 0.5), (0.0, 0.6, 0.0), (0.0, 0.0, None), (1.0, None, None), (None, 0.6, None)]
)
def test_dice_of_oracle(dice: float | None, best: float | None, expected: float | None) -> None:
    assert dice_of_oracle(dice, best) == expected


def test_paired_difference_resamples_the_same_cases_of_both() -> None:
    generator = np.random.default_rng(5)
    hardness = generator.normal(0, 10, 30)
    first, other = hardness + generator.normal(1, 0.1, 30), hardness + generator.normal(0, 0.1, 30)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(0, 30, (BOOTSTRAP_RESAMPLES, 30))
    resampled = [first[cases].mean() - other[cases].mean() for cases in drawn]
    found = paired_difference(first.tolist(), other.tolist())
    assert found.mean == pytest.approx(np.mean(first) - np.mean(other))
    assert found.interval == pytest.approx(tuple(np.quantile(resampled, (0.025, 0.975))))
    assert found.interval[1] - found.interval[0] < 0.2 < bootstrap_interval(first)[1] - bootstrap_interval(first)[0]


def test_paired_difference_is_over_the_cases_that_both_define() -> None:
    found = paired_difference([0.9, None, 0.5, 0.7, 0.6], [0.5, 0.2, 0.4, None, 0.3])
    assert found.cases == 3
    assert found.mean == pytest.approx(0.8 / 3)
    # One resample in 27 holds the smallest difference three times: more than the 2.5 % below the interval.
    assert found.interval == pytest.approx((0.1, 0.4))
    assert paired_difference([0.9, None], [0.5, 0.1]) == PairedDifference(pytest.approx(0.4), None, 1)
    assert paired_difference([None], [0.5]) == PairedDifference(None, None, 0)
