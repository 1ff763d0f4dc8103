"""Whether the images of a series are one stack of slices, and which grid they form."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmccd_auto.core.tuples import triple
from mmccd_auto.dicom.files.frames import Frame
from mmccd_auto.dicom.files.headers import Header
from mmccd_auto.dicom.files.pixel_checks import LARGEST_VOXELS
from mmccd_auto.dicom.records import SliceGrid

Image = tuple[Header, Frame]
SAME_POSITION = 0.02
SAME_DIRECTION = 2e-3
MISSING_SLICE = 1.5
UNEQUAL_SPACING = 0.1
LARGEST_SHEAR = 0.5
CLEAR_PLANE = 0.8
# mm; what no scan of a head goes beyond. Headers with a wrong unit differ by factors of 10 and more.
SMALLEST_EDGE, LARGEST_EDGE = 0.05, 20.0
SMALLEST_SIDE, LARGEST_SIDE = 30.0, 1000.0
FARTHEST = 100_000.0


def split_parts(images: Sequence[Image]) -> list[tuple[str, list[Image]]]:
    """Take a series apart that mixes several echoes or kinds of image (magnitude, phase) at the same positions.

    Returns
    -------
    (what the part is, its images); one nameless part where nothing needs to be taken apart or it can't be
    """
    parts = [("", list(images))]
    for describe, key in _KEYS:
        parts = [smaller for name, part in parts for smaller in _split(name, part, describe, key)]
    return parts


def fit_grid(images: Sequence[Image]) -> SliceGrid | str:
    """Fit the regular grid of the images of one series; where there is none, the reason as the second half of a sentence."""
    header, frame = images[0]
    if any(item.position is None or item.orientation is None for _, item in images):
        return (
            "has images without a position in the patient (missing or not a number): export it again with complete headers"
        )
    if frame.spacing is None or any(item.spacing is None or min(item.spacing) <= 0 for _, item in images):
        return (
            "does not give its pixel spacing (missing, not a number, or not above 0), so its size in mm is unknown: export "
            "it again with complete headers"
        )
    axes = _axes(frame)
    if axes is None:
        return "has image directions that are not at right angles: export it again"
    if not _same_directions(images):
        return "has images in several directions, as localisers do: choose another series"
    if len({(item.values["rows"], item.values["columns"]) for item, _ in images}) > 1 or not _same_spacing(images):
        return "has images of several sizes: choose another series"
    if len(images) == 1:
        return "has one slice only: choose another series"
    positions = sort_along(images, axes[:, 2])
    grid = _grid(positions, axes, (frame.spacing[1], frame.spacing[0]), (header.values["columns"], header.values["rows"]))
    return grid if isinstance(grid, str) else _implausible(grid) or grid


def _implausible(grid: SliceGrid) -> str | None:
    """Explain why no head was scanned on this grid, as the second half of a sentence; None if one can be."""
    sides = [size * edge for size, edge in zip(grid.size, grid.spacing, strict=True)]
    edges = " x ".join(f"{edge:.3g}" for edge in grid.spacing)
    if not all(SMALLEST_EDGE <= edge <= LARGEST_EDGE for edge in grid.spacing):
        return (
            f"has voxels of {edges} mm, which no scan of a head has ({SMALLEST_EDGE:g} to {LARGEST_EDGE:g} mm): correct its "
            "headers or choose another series"
        )
    if max(sides) > LARGEST_SIDE or min(sides[:2]) < SMALLEST_SIDE:
        return (
            f"is {' x '.join(f'{side:.0f}' for side in sides)} mm large (voxels of {edges} mm), which no scan of a head is "
            f"({SMALLEST_SIDE:g} to {LARGEST_SIDE:g} mm): correct its headers or choose another series"
        )
    if np.abs(grid.corners()).max() > FARTHEST:
        return (
            f"lies more than {FARTHEST / 1000:g} m from the scanner's centre: correct its headers or choose another series"
        )
    if math.prod(grid.size) > LARGEST_VOXELS:
        return "has more voxels than can be handled: choose another series"
    return None


def orientation(images: Sequence[Image]) -> str | None:
    """Return the plane of the images in a word; None where it isn't known."""
    axes = [_axes(frame) for _, frame in images if frame.orientation is not None]
    if not axes or axes[0] is None:
        return None
    if not _same_directions([image for image in images if image[1].orientation is not None]):
        return "several"
    normal = np.abs(axes[0][:, 2])
    return ("sagittal", "coronal", "axial")[int(normal.argmax())] if normal.max() >= CLEAR_PLANE else "oblique"


def sorted_images(images: Sequence[Image]) -> list[Image]:
    """Return the images along the normal of the first one; as they are where positions are missing."""
    axes = _axes(images[0][1])
    places = [frame.position for _, frame in images if frame.position is not None]
    if axes is None or len(places) < len(images):
        return list(images)
    ranked = sorted(zip(places, images, strict=True), key=lambda one: float(np.dot(one[0], axes[:, 2])))
    return [image for _, image in ranked]


def sort_along(images: Sequence[Image], normal: np.ndarray) -> np.ndarray:
    """Compute the images' positions, float64 [images, 3], in the order of their places along ``normal``."""
    positions = np.array([frame.position for _, frame in images], dtype=np.float64)
    return positions[np.argsort(positions @ normal, kind="stable")]


def _grid(positions: np.ndarray, axes: np.ndarray, spacing: tuple[float, float], size: tuple[int, int]) -> SliceGrid | str:
    gaps = np.diff(positions @ axes[:, 2])
    if gaps.min() < SAME_POSITION:
        return "has several images at the same position (time points or repetitions): choose another series"
    median = float(np.median(gaps))
    if gaps.max() > MISSING_SLICE * median:
        missing = int(np.sum(np.round(gaps[gaps > MISSING_SLICE * median] / median) - 1))
        return f"lacks {missing} slice{'s' if missing > 1 else ''} in its middle: export it again or choose another series"
    if np.abs(gaps - median).max() > UNEQUAL_SPACING * median:
        return f"has slices at unequal distances ({gaps.min():.1f} to {gaps.max():.1f} mm): choose another series"
    across = positions - positions[0]
    across -= np.outer(across @ axes[:, 2], axes[:, 2])
    shear = float(np.linalg.norm(across, axis=1).max())
    if shear > LARGEST_SHEAR * min(spacing):
        return f"has slices that are shifted sideways against one another (by up to {shear:.1f} mm): choose another series"
    return SliceGrid(
        size=(*size, len(positions)),
        spacing=(*spacing, float(gaps.mean())),
        origin=triple(float(value) for value in positions[0]),
        axes=axes,
    )


def _axes(frame: Frame) -> np.ndarray | None:
    """Compute the directions along a row, along a column and of the normal as columns, float64 [3, 3].

    None unless at right angles.
    """
    if frame.orientation is None:
        return None
    row, column = np.reshape(frame.orientation, (2, 3))
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(row @ column) > 0.01:
        return None
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    return np.stack([row, column, normal / np.linalg.norm(normal)], axis=1)


def _same_directions(images: Sequence[Image]) -> bool:
    directions = np.array([frame.orientation for _, frame in images])
    return bool(np.abs(directions - directions[0]).max() < SAME_DIRECTION)


def _same_spacing(images: Sequence[Image]) -> bool:
    spacings = np.array([frame.spacing for _, frame in images])
    return bool(np.allclose(spacings, spacings[0], rtol=1e-3))


def _split(
    name: str, images: list[Image], describe: Callable[[Frame], str], key: Callable[[Frame], Any]
) -> list[tuple[str, list[Image]]]:
    """Return the parts of ``images`` that differ by ``key``, if positions are repeated and each file belongs to one part."""
    groups = defaultdict(list)
    for image in images:
        groups[key(image[1])].append(image)
    files = {header.path for header, _ in images}
    # A multi-frame file goes to dcm2niix whole, so that it can't belong to two parts.
    divided = sum(len({header.path for header, _ in part}) for part in groups.values()) > len(files)
    if len(groups) == 1 or divided or not _positions_repeat(images):
        return [(name, images)]
    return [
        (", ".join(text for text in (name, describe(part[0][1])) if text), part)
        for _, part in sorted(groups.items(), key=lambda group: group[0])
    ]


def _positions_repeat(images: Sequence[Image]) -> bool:
    places = [(frame.position, frame.orientation) for _, frame in images]
    rounded = {tuple(np.round(np.concatenate([place or (), plane or ()]), 2)) for place, plane in places}
    return len(rounded) < len(images)


def _echo(frame: Frame) -> float:
    return round(frame.echo_time or 0.0, 1)


def _words_of_type(frame: Frame) -> str:
    """Return the words that distinguish kinds of image.

    A damaged header may hold anything in their place, and is not repeated.
    """
    return " ".join(word for word in frame.image_type[2:4] if re.fullmatch(r"[A-Z0-9_ ]{1,16}", word))


_KEYS: tuple[tuple[Callable[[Frame], str], Callable[[Frame], Any]], ...] = (
    (lambda frame: f"echo time {_echo(frame):g} ms", _echo),
    (lambda frame: f"image type {_words_of_type(frame)}".strip(), lambda frame: frame.image_type),
)
