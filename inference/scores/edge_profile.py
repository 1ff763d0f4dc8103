"""Whether the edge of the brain lights up all around: leftover skull or dura, or the brightness of a coil, and no lesion.

A scan's score is told by distance from the brain's edge, and by sectors of its circumference, slice by slice, and compared
with the same of the healthy people that a model is calibrated on. A rim is spread over much of the circumference and over
many slices, and shallow; a lesion at the cortex is local, and a large one is deep as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval, Len
from scipy import ndimage

from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.healthy_error import weighted_quantile

DISTANCE_EDGES_MM = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0)
RIM_MM = 4.0
DEPTH_MM = (9.0, 20.0)
"""Where a lesion that reaches the edge is lit, too, and a rim isn't."""
DEEP_SHARE = 0.5
"""Of the rim's score: where the depth below has more, it is no rim."""
SECTORS = 24
LEAST_SECTION = 0.25
"""Of the largest section; in smaller ones everything is near the edge."""
LIT_RATE = 0.01
"""Of healthy people's sectors, that are lit."""
LIT_SECTORS = 0.3
LIT_SLICES = 0.2
LEAST_AROUND, LEAST_OVER = 0.25, 0.12
"""Lit parts of the circumference and of the slices, that make a rim."""
Share = Annotated[float, Interval(ge=0, le=1)]
Amount = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class EdgeProfile:
    """How one scan scores at the brain's edge.

    Attributes
    ----------
    score_by_distance : mean score of each class of DISTANCE_EDGES_MM, mm in the slice from the nearest pixel outside the
        brain; 0 for a class without a pixel
    rim_score : mean score of the outermost RIM_MM, of the sectors' means
    around : share of the circumference that is lit, and dark below, in LIT_SLICES of the slices or more
    over : share of the slices in which LIT_SECTORS of the circumference or more are lit and dark below
    """

    score_by_distance: Annotated[tuple[Amount, ...], Len(len(DISTANCE_EDGES_MM) + 1, len(DISTANCE_EDGES_MM) + 1)]
    rim_score: Amount
    around: Share
    over: Share


@dataclass(frozen=True)
class HealthyEdge:
    """How healthy people score at the brain's edge, in calibration.json.

    Attributes
    ----------
    distance_edges_mm : between the classes of distance
    lit : mean score of the outermost RIM_MM of a sector, which 1 % of the healthy people's sectors exceed
    people : a profile each, in the order of the calibration's subjects
    """

    distance_edges_mm: tuple[Amount, ...]
    lit: Amount
    people: Annotated[tuple[EdgeProfile, ...], Len(1)]


@dataclass(frozen=True)
class EdgeFinding:
    """What is told of a scan's edge, in CASE.json.

    Attributes
    ----------
    profile : of the scan
    usual_rim, rim : largest mean score of a healthy person, and that of the scan, in the outermost RIM_MM
    is_rim : whether the edge lights up all around
    """

    profile: EdgeProfile
    usual_rim: float
    rim: float
    is_rim: bool

    @property
    def warning(self) -> str:
        """In plain words; empty where there is no rim."""
        if not self.is_rim:
            return ""
        around = f"{100 * self.profile.around:.0f} % of its circumference"
        return (
            f"the outermost {RIM_MM:g} mm of the brain light up around {around} (mean score {self.rim:.2g}, of healthy "
            f"people {self.usual_rim:.2g} at most): rather skull or dura that was left, or the brightness of a coil, than a "
            "lesion, and what is marked there is doubtful; look at the brain's outline, and give a right brain mask, or "
            "leave the rim out with --trim_edge"
        )


@dataclass(frozen=True)
class _Sectors:
    """Mean scores by slice and sector, float64 [S, SECTORS]; nan where there is no pixel."""

    rim: np.ndarray
    depth: np.ndarray


def fit_healthy_edge(cases: Sequence[CaseMaps], scores: Sequence[np.ndarray]) -> HealthyEdge:
    """Measure how healthy people score at the brain's edge; every person counts the same.

    Parameters
    ----------
    cases : at least one, with brain in their slices
    scores : of these, in units, float32 [S, H, W] each
    """
    pairs = list(zip(scores, cases, strict=True))
    sectors = [_sectors(score, case.brain, case.spacing) for score, case in pairs]
    members: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        members.setdefault(case.subject, []).append(number)
    values, weights = [], []
    for numbers in members.values():
        own = np.concatenate([sectors[number].rim[np.isfinite(sectors[number].rim)] for number in numbers])
        values.append(own)
        weights.append(np.full(len(own), 1 / max(1, len(own))))
    whole = np.concatenate(values)
    lit = weighted_quantile(whole, np.concatenate(weights), 1 - LIT_RATE) if len(whole) else 0.0
    people = tuple(
        _joined([_profile(sectors[one], scores[one], cases[one].brain, cases[one].spacing, lit) for one in numbers])
        for numbers in members.values()
    )
    return HealthyEdge(DISTANCE_EDGES_MM, float(lit), people)


def find_rim(
    score: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float], healthy: Sequence[HealthyEdge]
) -> EdgeFinding:
    """Decide whether the edge of the brain lights up all around, which no lesion does.

    Parameters
    ----------
    score : in units, float32 [S, H, W], mean of the folds
    brain : bool [S, H, W], not empty
    spacing : mm between slices, rows and columns
    healthy : of the folds' calibrations, at least one
    """
    lit = float(np.mean([one.lit for one in healthy]))
    profile = _profile(_sectors(score, brain, spacing), score, brain, spacing, lit)
    people = [person for one in healthy for person in one.people]
    usual, rim = max(one.rim_score for one in people), profile.rim_score
    spread = profile.around >= LEAST_AROUND and profile.over >= LEAST_OVER
    unusual = profile.around > max(one.around for one in people) and profile.over > max(one.over for one in people)
    return EdgeFinding(profile, usual, rim, spread and unusual and rim > usual)


def _profile(
    sectors: _Sectors, score: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float], lit: float
) -> EdgeProfile:
    known = np.isfinite(sectors.rim)
    shallow = known & (sectors.rim > lit) & (np.nan_to_num(sectors.depth) < DEEP_SHARE * np.nan_to_num(sectors.rim))
    used = known.any(axis=1)
    rim = around = over = 0.0
    if used.any():
        rim = float(np.mean(sectors.rim[known]))
        count = np.maximum(known[used].sum(axis=0), 1)
        around = float(np.mean(shallow[used].sum(axis=0) >= np.maximum(LIT_SLICES * count, 1)))
        over = float(np.mean(shallow[used].sum(axis=1) >= LIT_SECTORS * known[used].sum(axis=1)))
    return EdgeProfile(_score_by_distance(score, brain, spacing), rim, around, over)


def _score_by_distance(score: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, ...]:
    sums, counts = np.zeros(len(DISTANCE_EDGES_MM) + 1), np.zeros(len(DISTANCE_EDGES_MM) + 1)
    for values, inside in zip(score, brain, strict=True):
        classes = np.digitize(_distance(inside, spacing)[inside], DISTANCE_EDGES_MM)
        sums += np.bincount(classes, values[inside].astype(np.float64), minlength=len(sums))
        counts += np.bincount(classes, minlength=len(sums))
    return tuple(round(float(one), 4) for one in sums / np.maximum(counts, 1))


def _joined(profiles: Sequence[EdgeProfile]) -> EdgeProfile:
    """Take the largest of everything of one person's several scans."""
    by_distance = tuple(float(one) for one in np.max([one.score_by_distance for one in profiles], axis=0))
    largest = (max(getattr(one, name) for one in profiles) for name in ("rim_score", "around", "over"))
    return EdgeProfile(by_distance, *largest)


def _distance(brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Measure mm in the slice to the nearest pixel outside the brain, the slice's border included; float64 [H, W]."""
    return ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing[1:])[1:-1, 1:-1]


def _sectors(score: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> _Sectors:
    """Compute mean scores near the edge and below it, by slice and by sector about the slice's middle."""
    areas = brain.sum(axis=(1, 2))
    shape = (len(brain), SECTORS)
    rim, depth = np.full(shape, np.nan), np.full(shape, np.nan)
    for number in np.flatnonzero(areas >= LEAST_SECTION * max(1, areas.max(initial=0))):
        inside = brain[number]
        distance, values = _distance(inside, spacing), score[number]
        rows, columns = np.nonzero(inside)
        angle = np.arctan2((rows - rows.mean()) * spacing[1], (columns - columns.mean()) * spacing[2])
        sector = np.minimum(((angle + np.pi) / (2 * np.pi) * SECTORS).astype(int), SECTORS - 1)
        near, rim_mm = distance[inside], max(RIM_MM, *spacing[1:])
        for target, chosen in ((rim, near <= rim_mm * (1 + 1e-6)), (depth, (near > DEPTH_MM[0]) & (near <= DEPTH_MM[1]))):
            counts = np.bincount(sector[chosen], minlength=SECTORS)
            sums = np.bincount(sector[chosen], values[inside][chosen].astype(np.float64), minlength=SECTORS)
            target[number] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return _Sectors(rim, depth)


def describe_edge(finding: EdgeFinding) -> Mapping[str, object]:
    """Give what CASE.json tells of it."""
    return {
        "rim": finding.is_rim,
        "rim_score": round(finding.rim, 4),
        "healthy_rim_score": round(finding.usual_rim, 4),
        "around": round(finding.profile.around, 4),
        "over": round(finding.profile.over, 4),
        "distance_edges_mm": list(DISTANCE_EDGES_MM),
        "score_by_distance": list(finding.profile.score_by_distance),
    }
