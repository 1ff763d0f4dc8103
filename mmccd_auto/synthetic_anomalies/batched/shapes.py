"""Draw the places and shapes of lesions, and push tissue away from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.batched.geometry import pixel_grid, sample_at

RADIUS_MM = (2.5, 45.0)
LARGEST_SHARE_OF_BRAIN = 0.6
"""Of the radius of a disc as large as the brain in the slice: something healthy must be left to restore from."""
ELONGATION = math.exp(0.5)
ROUGHNESS = (0.05, 0.35)
ROUGHNESS_SMOOTHNESS_MM = (16.0, 9.0, 5.0, 3.0)
EDGE_MM = (0.9, 3.6)
PUSHING_SHARE = 0.5
LARGEST_PUSH = 0.5
"""Of the radius."""
PUSH_REACH = 1.6
"""In radii."""


@dataclass(frozen=True)
class LesionShapes:
    """One lesion's place a slice.

    Attributes
    ----------
    weight : [N, 1, H, W], 0..1, soft at the edge; not cut off at the brain's border
    distance : [N, 1, H, W], 0 at the centre and 1 at the border
    centre : (row, column) px, int64 [N, 2], a pixel of the brain
    radius : [N, 1, 1, 1] px, of a disc as large as the ellipse
    """

    weight: Tensor
    distance: Tensor
    centre: Tensor
    radius: Tensor


def draw_shapes(
    brain: Tensor, spacing: float, draws: Draws, radius_mm: tuple[float, float] = RADIUS_MM, roughness: float | None = None
) -> LesionShapes:
    """Draw a rough ellipse with a soft edge in each slice; its centre is anywhere in the brain.

    Parameters
    ----------
    brain : bool [N, 1, H, W]; a slice without brain gets a shape in its first pixel
    spacing : mm per px
    draws : of N slices
    radius_mm : limits, between which it is even in the logarithm
    roughness : of the border, in radii; None draws it
    """
    inside = brain[:, 0].float()
    centre = draws.pixels(inside + (inside.sum(dim=(1, 2), keepdim=True) == 0))
    fitting = LARGEST_SHARE_OF_BRAIN * (inside.sum(dim=(1, 2)) / math.pi).sqrt().view(-1, 1, 1, 1)
    radius = torch.minimum(draws.log_uniform(*radius_mm) / spacing, fitting.clamp(min=radius_mm[0] / spacing))
    ratio, angle = draws.log_uniform(1 / ELONGATION, ELONGATION), draws.uniform(0, math.pi)
    rows, columns = _offsets(brain, centre)
    along, across = (rows * angle.cos() + columns * angle.sin()), (columns * angle.cos() - rows * angle.sin())
    distance = ((along / ratio).square() + (across * ratio).square() + 1e-6).sqrt() / radius
    shape = (brain.shape[2], brain.shape[3])
    rough = sum(draws.smooth(shape, sigma / spacing) * draws.uniform() for sigma in ROUGHNESS_SMOOTHNESS_MM)
    distance = distance + (draws.uniform(*ROUGHNESS) if roughness is None else roughness) * rough
    weight = torch.sigmoid((1 - distance) * radius / (draws.uniform(*EDGE_MM) / spacing))
    return LesionShapes(weight, distance, centre, radius)


def pushed_away(images: Tensor, shapes: LesionShapes, draws: Draws) -> Tensor:
    """Displace tissue away from half of the lesions' centres, as a growing mass does; images [N, M, H, W].

    The brain's outline stays.
    """
    rows, columns = _offsets(images, shapes.centre)
    distance = (rows.square() + columns.square() + 1e-6).sqrt()
    push = draws.uniform(0, LARGEST_PUSH) * draws.coin(PUSHING_SHARE) * shapes.radius
    push = push * torch.exp(-((distance / (PUSH_REACH * shapes.radius)) ** 2))
    grid_rows, grid_columns = pixel_grid(images)
    moved = sample_at(images, (grid_rows - push * rows / distance)[:, 0], (grid_columns - push * columns / distance)[:, 0])
    return torch.where((images != BACKGROUND) & (moved != BACKGROUND), moved, images)


def _offsets(like: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the rows and columns from the centres, [N, 1, H, 1] and [N, 1, 1, W] px."""
    rows, columns = pixel_grid(like)
    return rows - centre[:, 0].view(-1, 1, 1, 1), columns - centre[:, 1].view(-1, 1, 1, 1)
