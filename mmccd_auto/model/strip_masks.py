"""The strips that hide a band of the slice, across rows or columns.

Their grid, which are hidden together, their masks, and those of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmccd_auto.core.devices import sent_to

Coverage = Literal["even", "published"]
ROWS, COLUMNS = 0, 1
GAP_IN_WIDTHS = 1
"""Tissue that stays in sight between two strips that are hidden together, at least; in strip widths."""


@dataclass(frozen=True)
class Strip:
    """A hidden band of a slice, truncated at the slice's border.

    Attributes
    ----------
    axis : ROWS (0) hides rows start .. start+width-1, COLUMNS (1) hides such columns
    start : px, may be negative
    """

    axis: int
    start: int


def strip_starts(size: int, width: int, stride: int, coverage: Coverage = "even") -> list[int]:
    """Find where the strips of one direction start.

    "published" is the paper's grid 0, stride, ... below ``size`` (64 starts at 128 px and stride 2): the first pixel is
    hidden by one strip only, inner ones by width / stride. "even" begins before the border, so that every pixel is
    hidden exactly width / stride times, or, where the stride does not divide the width, that number rounded up or down.

    Parameters
    ----------
    size : px of the slice along the direction in which strips move
    width : px of a strip
    stride : px between two starts, 1..width (a larger one would leave gaps)

    Raises
    ------
    ValueError
        If a number is out of range or the coverage unknown.

    Examples
    --------
    >>> strip_starts(12, width=4, stride=2)  # pixel 0 is hidden by the strips from -2 and 0
    [-2, 0, 2, 4, 6, 8, 10]
    >>> strip_starts(12, width=4, stride=2, coverage="published")
    [0, 2, 4, 6, 8, 10]
    """
    if size < 1 or width < 1 or not 1 <= stride <= width:
        raise ValueError(f"strips {width} px wide with a stride of {stride} px can't cover {size} px")
    if coverage == "published":
        return list(range(0, size, stride))
    if coverage == "even":
        return list(range(-((width - 1) // stride) * stride, size, stride))
    raise ValueError(f"unknown strip coverage {coverage!r}: 'even' or 'published'")


def all_strips(
    shape: tuple[int, int],
    width: int,
    stride: int,
    coverage: Coverage = "even",
    brain: np.ndarray | Tensor | None = None,
) -> list[Strip]:
    """Return every strip of the test grid, rows first, then columns.

    Parameters
    ----------
    shape : (rows, columns) px of the slice
    width, stride, coverage : as in :func:`strip_starts`
    brain : bool [H, W] of ``shape``; strips that hide no brain pixel are left out, since their errors would count nowhere

    Raises
    ------
    ValueError
        As :func:`strip_starts`, or if ``brain`` has another shape.
    """
    grid = [Strip(axis, start) for axis in (ROWS, COLUMNS) for start in strip_starts(shape[axis], width, stride, coverage)]
    if brain is None:
        return grid
    inside = brain.detach().cpu().numpy() if isinstance(brain, Tensor) else np.asarray(brain)
    if inside.shape != tuple(shape):
        raise ValueError(f"a brain mask of shape {inside.shape} does not fit slices of shape {tuple(shape)}")
    lines = [np.asarray(inside.astype(bool).any(axis=axis)) for axis in (1, 0)]
    return [strip for strip in grid if lines[strip.axis][max(strip.start, 0) : strip.start + width].any()]


def group_strips(strips: Sequence[Strip], per_pass: int, width: int, stride: int) -> list[tuple[Strip, ...]]:
    """Return the strips that are hidden together, in one pass of the networks.

    The strips of a direction are dealt out in turn, so that those of one group lie as far apart as they can, and at least
    one strip's width of tissue is in sight between them; where there is no room for that, groups are smaller.

    Parameters
    ----------
    strips : of one slice, such as :func:`all_strips` gives
    per_pass : strips of one group at most, at least 1
    width, stride : px, of the grid that the strips are from

    Returns
    -------
    groups that hold every strip once, rows first

    Raises
    ------
    ValueError
        If ``per_pass`` is below 1.
    """
    if per_pass < 1:
        raise ValueError(f"{per_pass} strips can't be hidden together: at least 1")
    groups = []
    for axis in (ROWS, COLUMNS):
        line = sorted((strip for strip in strips if strip.axis == axis), key=lambda strip: strip.start)
        count = len(line)
        if per_pass > 1:
            apart = math.ceil((1 + GAP_IN_WIDTHS) * width / stride)
            count = min(len(line), max(math.ceil(len(line) / per_pass), apart))
        groups += [tuple(line[first::count]) for first in range(count)]
    return groups


def random_strips(count: int, shape: tuple[int, int], width: int, generator: torch.Generator | None = None) -> list[Strip]:
    """Return the strips of training.

    Each its own direction, and a start uniform in -(width-1) .. edge-1, so that every pixel is hidden equally often and
    strips truncated at either border are seen too.

    Parameters
    ----------
    count : of strips
    shape : (rows, columns) px of the slice
    width : px
    generator : on the CPU; None takes torch's default one
    """
    axes = torch.randint(0, 2, (count,), generator=generator).tolist()
    fractions = torch.rand((count,), dtype=torch.float64, generator=generator).tolist()
    return [
        Strip(axis, int(fraction * (shape[axis] + width - 1)) - (width - 1))
        for axis, fraction in zip(axes, fractions, strict=True)
    ]


def random_strip_groups(
    count: int, shape: tuple[int, int], width: int, two_share: float, generator: torch.Generator | None = None
) -> list[tuple[Strip, ...]]:
    """Return the strips of training for networks that see one or two strips hidden.

    As :func:`random_strips`, and with the chance ``two_share`` a second one of the same direction, apart by at least the gap
    of :func:`group_strips`.

    The second one's place is counted around, from the end of the slice to its start, so that it, too, hides every pixel
    equally often. A slice that is too small for two has one.

    Parameters
    ----------
    count : of groups
    shape : (rows, columns) px of the slice
    width : px
    two_share : 0..1
    generator : on the CPU; None takes torch's default one
    """
    draws = torch.rand((count, 2), dtype=torch.float64, generator=generator).tolist()
    groups: list[tuple[Strip, ...]] = []
    for strip, (chance, fraction) in zip(random_strips(count, shape, width, generator), draws, strict=True):
        places, least = shape[strip.axis] + width - 1, (1 + GAP_IN_WIDTHS) * width
        if chance >= two_share or places < 2 * least:
            groups.append((strip,))
            continue
        offset = least + int(fraction * (places - 2 * least + 1))
        groups.append((strip, Strip(strip.axis, (strip.start + width - 1 + offset) % places - (width - 1))))
    return groups


def keep_mask_of_groups(
    groups: Sequence[Sequence[Strip]], shape: tuple[int, int], width: int, device: torch.device | str | None = None
) -> Tensor:
    """Compute the keep masks of groups of strips: as :func:`keep_mask`, 0 inside any of a group's strips.

    Parameters
    ----------
    groups : N groups, each of at least one strip
    shape : (rows, columns) px of the slice
    width : px of a strip
    device : of the result
    """
    keep = keep_mask([group[0] for group in groups], shape, width, device)
    for place in range(1, max(len(group) for group in groups)):
        # A group with fewer strips shows its last one again, which changes nothing.
        keep *= keep_mask([group[min(place, len(group) - 1)] for group in groups], shape, width, device)
    return keep


def keep_mask(
    strips: Sequence[Strip], shape: tuple[int, int], width: int, device: torch.device | str | None = None
) -> Tensor:
    """Compute the keep masks k: float32 [N, 1, H, W], 0 inside the strip (hidden) and 1 elsewhere.

    Parameters
    ----------
    strips : N strips
    shape : (rows, columns) px of the slice
    width : px of a strip
    device : of the result

    Examples
    --------
    >>> keep_mask([Strip(COLUMNS, 1)], (2, 5), width=2)[0, 0].tolist()
    [[1.0, 0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0, 1.0]]
    """
    places = torch.tensor([[strip.axis for strip in strips], [strip.start for strip in strips]], dtype=torch.int64)
    axes, starts = sent_to(device, places)[:, :, None, None, None]
    rows = torch.arange(shape[0], device=device).reshape(1, 1, -1, 1)
    columns = torch.arange(shape[1], device=device).reshape(1, 1, 1, -1)
    position = torch.where(axes == ROWS, rows, columns)
    return ((position < starts) | (position >= starts + width)).to(torch.float32)
