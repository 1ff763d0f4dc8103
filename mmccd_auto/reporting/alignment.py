"""A picture by which a person sees whether the brain was found and the modalities lie on each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.reporting.drawn_text import drawable
from mmccd_auto.reporting.pictures import INK, OUTLINE, PAPER

LEVELS = (0.4, 0.65)
"""Heights of the axial slices, as a share of the brain's volume below them: above the eyes, so that no face is seen."""

NEAR_MM = 16.0
"""Shown is what lies within this distance of the brain: skull and scalp, by which a cut is seen, and no face."""

TILES = 8
MARGIN_MM = 20.0
INCHES = 2.0
ALARM = "#c1121f"


def alignment_picture(
    path: str | Path, case: str, volumes: Mapping[str, Volume], brain: np.ndarray, warning: str = ""
) -> None:
    """Draw a row per modality.

    Axial, coronal and sagittal slices with skull and the outline of the reference's brain, and, where there are several, a
    chequerboard of reference and modality, in which edges must run on from field to field.

    Parameters
    ----------
    path : of the PNG, written atomically
    case : name for the title
    volumes : by modality on one grid, with skull where they have one, the reference first
    brain : bool [z, y, x]
    warning : of the brain extraction, written over the picture
    """
    geometry = next(iter(volumes.values())).geometry
    mask = to_canonical(Volume(brain.astype(np.uint8), geometry)).array > 0
    turned = {name: to_canonical(volume) for name, volume in volumes.items()}
    spacing = next(iter(turned.values())).geometry.spacing
    near = ndimage.distance_transform_edt(~mask, sampling=spacing[::-1]) <= NEAR_MM
    scaled = {name: np.where(near, _scaled(volume.array, mask), 0) for name, volume in turned.items()}
    reference = next(iter(scaled))
    views = _views(mask, spacing)
    columns = len(views) + (len(scaled) > 1)
    figure = Figure(figsize=(INCHES * columns, 1.2 * INCHES * len(scaled) + 0.6), dpi=80, facecolor=PAPER)
    axes = figure.subplots(len(scaled), columns, squeeze=False)
    figure.subplots_adjust(
        left=0.04, right=0.995, bottom=0.005, top=1 - 0.6 / figure.get_figheight(), wspace=0.02, hspace=0.02
    )
    title = f"{case}: outline of the brain found in {reference}"
    header = f"{title}\n{fill(warning, 110)}" if warning else title
    figure.suptitle(drawable(header), color=ALARM if warning else INK, fontsize=9)
    board = views[len(LEVELS) - 1]
    for row, (name, array) in zip(axes, scaled.items(), strict=True):
        row[0].set_ylabel(name, color=INK, fontsize=9)
        for panel, view in zip(row, views, strict=False):
            panel.imshow(view.of(array), cmap="gray", vmin=0, vmax=1, aspect=view.aspect)
            if view.of(mask).any():
                panel.contour(view.of(mask), levels=[0.5], colors=OUTLINE, linewidths=0.8)
        if len(scaled) > 1:
            chequered = _chequered(board.of(scaled[reference]), board.of(array))
            row[-1].imshow(chequered, cmap="gray", vmin=0, vmax=1, aspect=board.aspect)
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


@dataclass(frozen=True)
class _View:
    """One slice of a canonical volume, head up or nose up, cut out around the brain."""

    axis: int
    index: int
    box: tuple[slice, slice, slice]
    aspect: float

    def of(self, array: np.ndarray) -> np.ndarray:
        plane = np.take(array[self.box], self.index - (self.box[self.axis].start or 0), axis=self.axis)
        return plane if self.axis == 0 else plane[::-1]


def _views(mask: np.ndarray, spacing: tuple[float, float, float]) -> list[_View]:
    """Return the axial slices at LEVELS, and the coronal and sagittal slice through the brain's middle."""
    edges = spacing[::-1]
    box = []
    for axis, edge in enumerate(edges):
        lines = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(MARGIN_MM / edge)
        box.append(slice(max(0, int(lines[0]) - margin), int(lines[-1]) + 1 + margin))
    volume = np.cumsum(mask.sum(axis=(1, 2)))
    places = [(0, int(np.searchsorted(volume, share * volume[-1]))) for share in LEVELS]
    places += [(axis, round(float(np.argwhere(mask)[:, axis].mean()))) for axis in (1, 2)]
    views = []
    for axis, index in places:
        rows, columns = (other for other in range(3) if other != axis)
        views.append(_View(axis, index, triple(box), edges[rows] / edges[columns]))
    return views


def _scaled(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array[mask], (1, 99))
    return np.clip((array.astype(np.float32) - low) / max(float(high - low), 1e-12), 0, 1)


def _chequered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(first.shape)
    field = (rows * TILES // first.shape[0] + columns * TILES // first.shape[1]) % 2 == 0
    return np.where(field, first, second)
