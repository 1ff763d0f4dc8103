"""The arithmetic of planning: sizes that fit one another, strips, and the order of modalities."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmccd_auto.imaging.contrasts import contrast, lesions_expected_dark
from mmccd_auto.plans.plan import LesionSign


@dataclass(frozen=True)
class Resolution:
    """A named size of plan: the folder name of what is made by it, and the longest patch edge (px)."""

    plans_name: str
    largest_edge: int


@dataclass(frozen=True)
class Rung:
    """A step of the quality ladder: how often a pixel is hidden per direction, and sampling steps per strip."""

    times_hidden: int
    steps: int


RESOLUTIONS = {
    "standard": Resolution("mmccdPlans", 128),
    "lowres": Resolution("mmccdPlans_lowres", 64),
    "fullres": Resolution("mmccdPlans_fullres", 256),
}
DEFAULT_PLANS = RESOLUTIONS["standard"].plans_name
LADDER = tuple(Rung(*rung) for rung in ((8, 100), (8, 50), (8, 25), (4, 25), (4, 10), (2, 10), (2, 5), (2, 2), (2, 1)))
MULTIPLIERS = {3: (1, 2, 3), 4: (1, 2, 3, 4), 5: (1, 1, 2, 3, 4), 6: (1, 1, 2, 2, 4, 4)}
PATCH_EDGES = (256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32)
BOTTOM_EDGE_LONGER, BOTTOM_EDGE_SHORTER = 8, 4
LARGEST_ATTENTION_EDGE = 32
SMALLEST_STRIP = 2
INPUT_PREFERENCE = ("FLAIR", "T2", "T1C", "T1")
PARTNER_PREFERENCE = ("T1", "T2", "T1C", "FLAIR")


def rounded_up(size: float, divisor: int) -> int:
    """Compute the smallest multiple of ``divisor`` that is at least ``size`` (up to rounding of floats)."""
    return max(1, math.ceil(size / divisor - 1e-6)) * divisor


def network_levels(extent: tuple[float, float]) -> int:
    """Choose the levels of a U-Net for slices of about ``extent`` px: the most, of 3..6, that leave enough at the bottom.

    With both edges rounded up to the divisor of so many levels, the longer edge must be at least 8 px and the shorter at
    least 4 px (nnU-Net's limit) at the deepest level.
    """
    for levels in sorted(MULTIPLIERS, reverse=True):
        divisor = 2 ** (levels - 1)
        bottom = sorted(rounded_up(edge, divisor) // divisor for edge in extent)
        if bottom[1] >= BOTTOM_EDGE_LONGER and bottom[0] >= BOTTOM_EDGE_SHORTER:
            return levels
    return min(MULTIPLIERS)


def lesion_sign(modality: str) -> LesionSign:
    """How most lesions differ from healthy tissue on a modality."""
    return "darker" if lesions_expected_dark(modality) else "brighter"


def attention_edges(patch_size: tuple[int, int], levels: int) -> tuple[int, ...]:
    """Compute the longer edge of the feature maps that are small enough for self-attention (32 px), from large to small."""
    edges = (max(patch_size) >> level for level in range(levels))
    return tuple(edge for edge in edges if edge <= LARGEST_ATTENTION_EDGE)


def strip_width_and_stride(spacing: float, times_hidden: int, width_mm: float = 30.0) -> tuple[int, int]:
    """Strip width and stride (px): about ``width_mm``, and about ``times_hidden`` strides.

    The width is the whole number of strides nearest to ``width_mm``, so that every pixel is hidden equally often.

    Parameters
    ----------
    spacing : mm per pixel
    times_hidden : how often a pixel shall be hidden per direction
    width_mm : the paper's 16 px of 1.875 mm
    """
    width = max(float(SMALLEST_STRIP), width_mm / spacing)
    stride = max(1, round(width / times_hidden))
    return max(SMALLEST_STRIP, stride * max(1, round(width / stride))), stride


def preference(modality: str, order: tuple[str, ...]) -> int:
    """Rank of a modality in an order of preference; unknown ones come last."""
    kind = contrast(modality)
    return order.index(kind) if kind in order else len(order)
