"""A picture by which a person sees whether the brain was found and the modalities lie on each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmccd_auto.files import atomic_path
from mmccd_auto.image_io import Volume
from mmccd_auto.orientation import to_canonical
from mmccd_auto.reporting.pictures import INK, OUTLINE, PAPER

LEVELS = (0.35, 0.5, 0.65)
"""Heights of the axial slices, as a share of the brain's volume below them: above the eyes, so that no face is seen."""

TILES = 8
MARGIN_MM = 8.0
INCHES = 2.0


def alignment_picture(path: str | Path, case: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> None:
    """Draw a row per modality: axial slices with the outline of the reference's brain, and for the others a chequerboard
    of reference and modality, in which edges must run on from field to field.

    Parameters
    ----------
    path : of the PNG, written atomically
    case : name for the title
    volumes : by modality on one grid, the reference first
    brain : bool [z, y, x]
    """
    geometry = next(iter(volumes.values())).geometry
    mask = to_canonical(Volume(brain.astype(np.uint8), geometry)).array > 0
    turned = {name: to_canonical(volume) for name, volume in volumes.items()}
    spacing = next(iter(turned.values())).geometry.spacing
    scaled = {name: _scaled(volume.array, mask) for name, volume in turned.items()}
    reference = next(iter(scaled))
    levels, box, aspect = _levels(mask), _box(mask, spacing), spacing[1] / spacing[0]
    figure = Figure(figsize=(INCHES * (len(LEVELS) + 1), 1.2 * INCHES * len(scaled) + 0.4), dpi=80, facecolor=PAPER)
    axes = figure.subplots(len(scaled), len(LEVELS) + 1, squeeze=False)
    figure.subplots_adjust(
        left=0.04, right=0.995, bottom=0.005, top=1 - 0.4 / figure.get_figheight(), wspace=0.02, hspace=0.02
    )
    figure.suptitle(f"{case}: outline of the brain found in {reference}", color=INK, fontsize=10)
    middle = levels[len(levels) // 2]
    for row, (name, array) in zip(axes, scaled.items(), strict=True):
        row[0].set_ylabel(name, color=INK, fontsize=9)
        for panel, level in zip(row, levels, strict=False):
            panel.imshow(array[level][box], cmap="gray", vmin=0, vmax=1, aspect=aspect)
            if mask[level].any():
                panel.contour(mask[level][box], levels=[0.5], colors=OUTLINE, linewidths=0.8)
        board = _chequered(scaled[reference][middle][box], array[middle][box])
        row[-1].imshow(board, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


def _scaled(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array[mask], (1, 99))
    return np.clip((array.astype(np.float32) - low) / max(float(high - low), 1e-12), 0, 1)


def _levels(mask: np.ndarray) -> list[int]:
    volume = np.cumsum(mask.sum(axis=(1, 2)))
    return [int(np.searchsorted(volume, share * volume[-1])) for share in LEVELS]


def _box(mask: np.ndarray, spacing: tuple[float, float, float]) -> tuple[slice, slice]:
    seen = mask.any(axis=0)
    box = []
    for axis, edge in ((1, spacing[1]), (0, spacing[0])):
        lines = np.flatnonzero(seen.any(axis=axis))
        margin = round(MARGIN_MM / edge)
        box.append(slice(max(0, lines[0] - margin), lines[-1] + 1 + margin))
    return box[0], box[1]


def _chequered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(first.shape)
    field = (rows * TILES // first.shape[0] + columns * TILES // first.shape[1]) % 2 == 0
    return np.where(field, first, second)
