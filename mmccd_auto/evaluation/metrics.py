"""Voxelwise figures of a score map and of a mask, and how figures of many cases are pooled and summed up.

The ranking figures (AUPRC, AUROC, best Dice) come from one table of counts per distinct score, so that ties are treated
alike everywhere and cases can be pooled without keeping their voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

POOLING_BINS = 2**16
"""Distinct scores that a case brings into the pooled figures; cases with more are rounded in their last bits."""

BOOTSTRAP_RESAMPLES = 2000
BOOTSTRAP_SEED = 20230816
INTERVAL = 0.95

_SIGN_BIT = np.uint32(0x80000000)
_KEY_BITS = 32


@dataclass(frozen=True)
class ScoreCounts:
    """How many normal and abnormal voxels have each score, in ascending order of the score.

    Scores are held as whole numbers ("keys") that sort as the float32 scores do, so that rounding a score is dropping its
    last bits: bins are then 2**-k wide relative to the score itself, wherever the scores lie, and the bins of two cases
    are the same bins.

    Attributes
    ----------
    keys : uint32 [n], ascending and distinct
    positives : int64 [n], abnormal voxels with this score
    negatives : int64 [n], normal voxels with this score
    dropped_bits : low bits of the keys that were set to 0; 0 means that the scores are exact
    """

    keys: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    dropped_bits: int = 0

    @property
    def scores(self) -> np.ndarray:
        """The lower edge of each bin, float32 [n]: ``score >= scores[i]`` selects bin i and all above it."""
        bits = np.where(self.keys & _SIGN_BIT, self.keys ^ _SIGN_BIT, ~self.keys)
        return bits.astype(np.uint32).view(np.float32)

    def rounded(self, dropped_bits: int) -> ScoreCounts:
        """Return the same counts with ``dropped_bits`` low bits of the keys set to 0."""
        if dropped_bits <= self.dropped_bits:
            return self
        return _grouped(_drop(self.keys, dropped_bits), self.positives, self.negatives, dropped_bits)

    def limited(self, bins: int = POOLING_BINS) -> ScoreCounts:
        """Return the same counts in at most ``bins`` bins, rounded no more than that takes."""
        for dropped_bits in range(self.dropped_bits, _KEY_BITS):
            if np.count_nonzero(np.diff(_drop(self.keys, dropped_bits))) < bins:
                return self.rounded(dropped_bits)
        raise ValueError(f"{len(self.keys)} scores can't be held in {bins} bins")


def count_scores(scores: np.ndarray, abnormal: np.ndarray) -> ScoreCounts:
    """Count the voxels of each distinct score.

    Parameters
    ----------
    scores : any shape, finite; taken as float32
    abnormal : bool, same shape

    Raises
    ------
    ValueError
        If a score is NaN or infinite, or the shapes differ.

    Examples
    --------
    Of four voxels the two abnormal ones have the highest and the third highest score:

    >>> counts = count_scores(np.array([0.9, 0.7, 0.4, 0.1]), np.array([True, False, True, False]))
    >>> round(average_precision(counts), 3)
    0.833
    >>> roc_auc(counts)
    0.75
    >>> dice, threshold = best_dice(counts)
    >>> round(dice, 3), round(threshold, 3)
    (0.8, 0.4)
    """
    if scores.shape != abnormal.shape:
        raise ValueError(f"scores of shape {scores.shape} and labels of shape {abnormal.shape}")
    if not np.all(np.isfinite(scores)):
        raise ValueError("scores that are NaN or infinite can't be ranked")
    abnormal = abnormal.ravel().astype(bool)
    return _grouped(_sort_keys(scores.ravel()), abnormal, ~abnormal, 0)


def pool_counts(counts: Sequence[ScoreCounts]) -> ScoreCounts:
    """Return the counts of all voxels of several cases, rounded as much as the most rounded of them."""
    dropped_bits = max(item.dropped_bits for item in counts)
    rounded = [item.rounded(dropped_bits) for item in counts]
    return _grouped(
        np.concatenate([item.keys for item in rounded]),
        np.concatenate([item.positives for item in rounded]),
        np.concatenate([item.negatives for item in rounded]),
        dropped_bits,
    )


def average_precision(counts: ScoreCounts) -> float | None:
    """Compute the area under the precision-recall curve as average precision.

    Sum of precision x step in recall, over distinct scores.

    The same sum as scikit-learn's ``average_precision_score``; without interpolation. None without abnormal voxels.
    """
    true, false = _selected(counts)
    if true.size == 0 or true[-1] == 0:
        return None
    precision = true / (true + false)
    return float(np.sum(precision * counts.positives[::-1]) / true[-1])


def roc_auc(counts: ScoreCounts) -> float | None:
    """Compute the area under the ROC curve.

    The chance that an abnormal voxel scores above a normal one, ties counting one half.

    None where abnormal or normal voxels are absent.
    """
    positives, negatives = int(counts.positives.sum()), int(counts.negatives.sum())
    if positives == 0 or negatives == 0:
        return None
    below = np.cumsum(counts.negatives) - counts.negatives
    return float(np.sum(counts.positives * (below + 0.5 * counts.negatives)) / positives / negatives)


def best_dice(counts: ScoreCounts) -> tuple[float, float] | None:
    """Compute the best Dice over all thresholds, and its threshold (abnormal = score at or above it).

    This is an oracle: the threshold is chosen with the labels of the very voxels it is judged on. Of equal thresholds the
    highest is given. None without abnormal voxels, where every threshold is equally meaningless.
    """
    true, false = _selected(counts)
    if true.size == 0 or true[-1] == 0:
        return None
    dice = 2 * true / (true + false + true[-1])
    best = int(np.argmax(dice))
    return float(dice[best]), float(counts.scores[::-1][best])


def ranking_figures(counts: ScoreCounts) -> dict[str, float | None]:
    """Return ``auprc``, ``auroc``, ``best_dice`` and ``best_dice_threshold``; None where undefined."""
    dice, threshold = best_dice(counts) or (None, None)
    return {
        "auprc": average_precision(counts),
        "auroc": roc_auc(counts),
        "best_dice": dice,
        "best_dice_threshold": threshold,
    }


@dataclass(frozen=True)
class OverlapCounts:
    """Voxels of a mask against a reference: both, mask only, reference only, neither."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        return OverlapCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )


def count_overlap(mask: np.ndarray, reference: np.ndarray) -> OverlapCounts:
    """Count agreement of two bool arrays of one shape.

    Examples
    --------
    >>> counts = count_overlap(np.array([True, True, False]), np.array([True, False, False]))
    >>> figures = overlap_figures(counts)
    >>> round(figures["dice"], 3), figures["sensitivity"], figures["precision"]
    (0.667, 1.0, 0.5)
    """
    both = int(np.count_nonzero(mask & reference))
    masked, abnormal = int(np.count_nonzero(mask)), int(np.count_nonzero(reference))
    return OverlapCounts(both, masked - both, abnormal - both, mask.size - masked - abnormal + both)


def overlap_figures(counts: OverlapCounts) -> dict[str, float | None]:
    """Return ``dice``, ``jaccard``, ``sensitivity``, ``precision`` and ``masked_share``; None where undefined.

    Mask and reference both empty: Dice and Jaccard are 1. A sensitivity without abnormal voxels and a precision without
    masked voxels are undefined.
    """
    true, false, missed = counts.true_positive, counts.false_positive, counts.false_negative
    empty = true + false + missed == 0
    return {
        "dice": 1.0 if empty else 2 * true / (2 * true + false + missed),
        "jaccard": 1.0 if empty else true / (true + false + missed),
        "sensitivity": _ratio(true, true + missed),
        "precision": _ratio(true, true + false),
        "masked_share": _ratio(true + false, true + false + missed + counts.true_negative),
    }


def dice_of_oracle(dice: float | None, best_dice: float | None) -> float | None:
    """Compute the Dice of a mask as a share of the best Dice over all thresholds.

    How much of what the map can do its mask does.

    At 1 no other threshold would have done better; a mask that is more than a threshold may exceed 1. None where either is
    undefined or the best Dice is 0.
    """
    return None if dice is None or not best_dice else dice / best_dice


def gain(figure: float | None, control: float | None) -> float | None:
    """Compute how much a figure exceeds that of the control; None where either is undefined."""
    return None if figure is None or control is None else figure - control


@dataclass(frozen=True)
class CaseSummary:
    """Figures over cases; each over the cases in which the figure is defined.

    Attributes
    ----------
    cases : figure -> number of cases in which it is defined
    mean, median : figure -> value, None where no case defines it
    interval : figure -> bounds of the bootstrap interval of the mean, None with fewer than two cases
    """

    cases: dict[str, int]
    mean: dict[str, float | None]
    median: dict[str, float | None]
    interval: dict[str, tuple[float, float] | None]


def summarise_cases(cases: Sequence[Mapping[str, float | None]], figures: Sequence[str]) -> CaseSummary:
    """Compute the mean, median and the percentile bootstrap interval of the mean over cases.

    It is seeded: the same figures each time.
    """
    values = {name: np.array([case[name] for case in cases if case.get(name) is not None], dtype=float) for name in figures}
    return CaseSummary(
        cases={name: len(found) for name, found in values.items()},
        mean={name: float(found.mean()) if found.size else None for name, found in values.items()},
        median={name: float(np.median(found)) if found.size else None for name, found in values.items()},
        interval={name: bootstrap_interval(found) for name, found in values.items()},
    )


def bootstrap_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Compute the 95 % interval of the mean of ``values`` [n]: 2000 resamples of the cases, percentile method.

    None for n < 2.

    With a handful of cases the interval is too narrow, as every bootstrap is; it says what these cases can say.
    """
    if len(values) < 2:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    means = values[generator.integers(0, len(values), (BOOTSTRAP_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedDifference:
    """How much one method exceeds another over the cases in which both have the figure.

    Attributes
    ----------
    mean : of the differences, None where there is no such case
    interval : bounds of the bootstrap interval of the mean, None with fewer than two cases
    cases : number of these cases
    """

    mean: float | None
    interval: tuple[float, float] | None
    cases: int


def paired_difference(first: Sequence[float | None], other: Sequence[float | None]) -> PairedDifference:
    """Return the mean over cases of ``first - other``, with its bootstrap interval over cases.

    See :func:`bootstrap_interval`.

    Cases are resampled, so that each resample holds the same cases of both methods: what makes a case hard for both cancels.

    Parameters
    ----------
    first, other : a figure of the same cases in the same order; None where it is undefined
    """
    pairs = [(one, another) for one, another in zip(first, other, strict=True) if one is not None and another is not None]
    values = np.array([one - another for one, another in pairs], dtype=float)
    return PairedDifference(float(values.mean()) if pairs else None, bootstrap_interval(values), len(pairs))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _sort_keys(scores: np.ndarray) -> np.ndarray:
    """Compute whole numbers in the order of the float32 ``scores``; -0.0 and 0.0 are one score."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN_BIT, ~bits, bits | _SIGN_BIT)


def _drop(keys: np.ndarray, bits: int) -> np.ndarray:
    return (keys >> np.uint32(bits)) << np.uint32(bits)


def _grouped(keys: np.ndarray, positives: np.ndarray, negatives: np.ndarray, dropped_bits: int) -> ScoreCounts:
    """Sum the counts of equal keys."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if keys.size else np.zeros(0, dtype=int)
    return ScoreCounts(
        keys[starts],
        np.add.reduceat(positives[order], starts, dtype=np.int64) if keys.size else np.zeros(0, dtype=np.int64),
        np.add.reduceat(negatives[order], starts, dtype=np.int64) if keys.size else np.zeros(0, dtype=np.int64),
        dropped_bits,
    )


def _selected(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """Compute the abnormal and normal voxels at or above each score, from the highest score down."""
    return np.cumsum(counts.positives[::-1]), np.cumsum(counts.negatives[::-1])
