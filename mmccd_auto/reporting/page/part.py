"""What a page shows of one case beside its record: reduced volumes, the slider's table, the scanner's image numbers."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Interval, Len
from matplotlib import colormaps
from PIL import Image
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.records import record_from_text
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.reporting.alignment import NEAR_MM
from mmccd_auto.reporting.page.reduced import (
    BRAIN,
    CANDIDATE,
    LESION,
    MOST_BYTES,
    Affine,
    PageGrid,
    PageVolume,
    Reduction,
    Size,
    coarser,
    first_reduction,
    full_grid,
    quantised,
    stored,
    stored_affine,
    turned_array,
)
from mmccd_auto.reporting.pictures import COLOUR_MAP, OUTLINE, colour_limit

LARGEST_PART = 64 * 2**20
THUMBNAIL_PIXELS = 96
DIFFERENCE_LIMIT = 1.5
CYCLE_RANGE = (-3.0, 3.0)
STORED_PER_LIMIT = 2.0
"""Scores are stored up to so many times the end of the colour scale, for thresholds above it."""
_BACKGROUND = np.float32(-3)


@dataclass(frozen=True)
class SliderStep:
    """The threshold that a share ``rate`` of healthy tissue exceeds."""

    rate: Annotated[float, Interval(gt=0, lt=1)]
    threshold: Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Marking:
    """How voxels become lesions and candidates.

    Attributes
    ----------
    threshold : that was used; None where there is no mask
    least_lesion_mm3 : smaller connected parts are candidates
    steps : of the slider, the lowest rate first; empty where the scores aren't calibrated
    used : number of the step that was used, or the nearest one where the threshold was given by the user
    exact : whether the used threshold is that of the step
    """

    threshold: Annotated[float, Ge(0)] | None
    least_lesion_mm3: Annotated[float, Ge(0)]
    steps: tuple[SliderStep, ...] = ()
    used: Annotated[int, Ge(0)] | None = None
    exact: bool = True


@dataclass(frozen=True)
class ImageNumbers:
    """The numbers that the scanner or archive gave to the slices of a DICOM series.

    Attributes
    ----------
    axis : of the written volume (0: i, 1: j, 2: k) along which the slices lie
    numbers : one a slice
    """

    axis: Annotated[int, Interval(ge=0, le=2)]
    numbers: Annotated[tuple[int, ...], Len(1)]


@dataclass(frozen=True)
class CaseArrays:
    """The full-resolution arrays of a case, [z, y, x] each, as they are written.

    Attributes
    ----------
    scan : with skull, as it was given
    score : 0 outside the brain
    brain : bool
    mask, candidates : None where there is no threshold
    cycle, difference : reconstruction and signed error on the normalised scale; None where they weren't asked for
    """

    scan: np.ndarray
    score: np.ndarray
    brain: np.ndarray
    mask: np.ndarray | None = None
    candidates: np.ndarray | None = None
    cycle: np.ndarray | None = None
    difference: np.ndarray | None = None


@dataclass(frozen=True)
class CasePart:
    """A case's part of the page.

    Attributes
    ----------
    grid : of the volumes
    full : grid of the written maps with its axes turned the same way
    written_size, written_affine : of the maps as they are written, by which voxels are counted for people
    volumes : "scan", "score", "labels" (outside, brain, candidate, lesion) and, where they were asked for, "cycle" and
        "difference"
    window : grey levels that the viewer begins with, in the scan's own values
    score_limit : end of the colour scale
    marking : threshold and slider
    numbers : the scanner's; None where there are none to show
    numbers_note : why not; empty where there are
    thumbnail : JPEG as base64
    """

    grid: PageGrid
    full: PageGrid
    written_size: Size
    written_affine: Affine
    volumes: dict[str, PageVolume]
    window: tuple[float, float]
    score_limit: Annotated[float, Gt(0)]
    marking: Marking
    numbers: ImageNumbers | None
    numbers_note: str
    thumbnail: str


def make_part(
    arrays: CaseArrays,
    geometry: Geometry,
    marking: Marking,
    numbers: ImageNumbers | None = None,
    numbers_note: str = "",
) -> CasePart:
    """Reduce a case for the page, so that its volumes take at most :data:`MOST_BYTES` compressed.

    Parameters
    ----------
    arrays : of the case
    geometry : of them
    marking : threshold and slider
    numbers, numbers_note : the scanner's image numbers, or why there are none
    """
    # A threshold of 0 marks all, and leaves nothing to scale by.
    limit = colour_limit(marking.threshold or None)
    marking = _within(marking, STORED_PER_LIMIT * limit)
    window = _display_window(arrays.scan, arrays.brain)
    reduction = first_reduction(full_grid(geometry))
    while True:
        volumes = _volumes(arrays, geometry, reduction, window, STORED_PER_LIMIT * limit)
        size = sum(len(volume.data) * 3 // 4 for volume in volumes.values())
        if size <= MOST_BYTES:
            break
        reduction = coarser(reduction, size)
    written = stored_affine(geometry)
    return CasePart(
        grid=reduction.grid(),
        full=reduction.full,
        written_size=triple(geometry.size),
        written_affine=tuple(tuple(float(value) for value in row) for row in written),
        volumes=volumes,
        window=window,
        score_limit=limit,
        marking=marking,
        numbers=numbers,
        numbers_note=numbers_note,
        thumbnail=_thumbnail(volumes, reduction.grid(), window, limit),
    )


def write_part(part: CasePart, path: Path) -> None:
    """Write a part as compressed JSON, atomically."""
    content = json.dumps(asdict(part), allow_nan=False).encode("ascii")
    # The volumes are compressed already: a low level takes back what base64 added.
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))


def read_part(path: Path) -> CasePart:
    """Read what :func:`write_part` wrote.

    Raises
    ------
    MMCCDError
        If the file is missing, damaged, or no part of a page.
    """
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(LARGEST_PART + 1)
    except (OSError, EOFError) as error:
        raise MMCCDError(f"{path} can't be read ({error}): predict the case again.") from error
    if len(content) > LARGEST_PART:
        raise MMCCDError(f"{path} is too large for a part of a page: predict the case again.")
    return record_from_text(CasePart, content, str(path), "predict the case again")


def _within(marking: Marking, top: float) -> Marking:
    """Leave out the slider's steps whose thresholds the stored score doesn't reach; they come first."""
    steps = tuple(step for step in marking.steps if step.threshold < top)
    if marking.used is None:
        return marking
    return replace(marking, steps=steps, used=max(0, marking.used - len(marking.steps) + len(steps)))


def _volumes(
    arrays: CaseArrays, geometry: Geometry, reduction: Reduction, window: tuple[float, float], score_top: float
) -> dict[str, PageVolume]:
    def reduced(array: np.ndarray) -> np.ndarray:
        return reduction.mean(turned_array(array, geometry))

    def marked(array: np.ndarray) -> np.ndarray:
        return reduction.marked(turned_array(array, geometry))

    brain = marked(arrays.brain)
    labels = brain.astype(np.uint8) * BRAIN
    for array, label in ((arrays.candidates, CANDIDATE), (arrays.mask, LESION)):
        if array is not None:
            labels[marked(array)] = label
    low, high = _stored_range(arrays.scan, window)
    edges = reduction.grid().voxel_edges()
    volumes = {
        "scan": quantised(np.where(_near(brain, edges), reduced(np.nan_to_num(arrays.scan, copy=True)), low), low, high),
        "score": quantised(reduced(arrays.score), 0.0, score_top),
        "labels": stored(labels),
    }
    if arrays.cycle is not None:
        volumes["cycle"] = quantised(np.where(brain, reduced(arrays.cycle), _BACKGROUND), *CYCLE_RANGE)
    if arrays.difference is not None:
        difference = np.where(brain, reduced(arrays.difference), np.float32(0))
        volumes["difference"] = quantised(difference, -DIFFERENCE_LIMIT, DIFFERENCE_LIMIT)
    return volumes


def _near(brain: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return what may be seen of a head: the brain with the skull around it, and no face; bool [z, y, x]."""
    if not brain.any():
        return np.zeros_like(brain)
    return ndimage.distance_transform_edt(~brain, sampling=tuple(edges)[::-1]) <= NEAR_MM


def _display_window(scan: np.ndarray, brain: np.ndarray) -> tuple[float, float]:
    """Find the grey levels of the brain without the last 0.5 % of either end."""
    values = scan[brain] if brain.any() else scan.ravel()
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _stored_range(scan: np.ndarray, window: tuple[float, float]) -> tuple[float, float]:
    """Compute the values that 8 bits span: from the air to well above the brain; brighter fat and vessels are cut off."""
    sample = scan[::2, ::2, ::2]
    sample = sample[np.isfinite(sample)]
    low = min(float(np.percentile(sample, 0.1)) if len(sample) else 0.0, window[0])
    return low, window[1] + 0.5 * (window[1] - window[0])


def _thumbnail(volumes: Mapping[str, PageVolume], grid: PageGrid, window: tuple[float, float], score_limit: float) -> str:
    """Return the axial slice with most of the mask, or of the score, in it; the patient's right is on the left."""
    scan, score, labels = (volumes[name].levels(grid.size) for name in ("scan", "score", "labels"))
    counts = (labels == LESION).sum(axis=(1, 2))
    if not counts.any():
        counts = (labels >= BRAIN).sum(axis=(1, 2)) * 1.0 + 1e-3 * score.sum(axis=(1, 2), dtype=np.float64)
    place = int(np.argmax(counts))
    grey = scan[place] * volumes["scan"].slope + volumes["scan"].intercept
    grey = np.clip((grey - window[0]) / (window[1] - window[0]), 0, 1)[..., None] * np.ones(3)
    level = np.clip(score[place] * volumes["score"].slope / score_limit, 0, 1)
    weight = np.clip(level * 2.5, 0, 0.85)[..., None]
    pixels = grey * (1 - weight) + colormaps[COLOUR_MAP](level)[..., :3] * weight
    outline = _edge(labels[place] == LESION)
    pixels[outline] = [int(OUTLINE[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    # Rows run to anterior and columns to the right.
    image = Image.fromarray((pixels[::-1, ::-1] * 255).astype(np.uint8))
    edges = grid.voxel_edges()
    width, height = grid.size[0] * edges[0], grid.size[1] * edges[1]
    scale = THUMBNAIL_PIXELS / max(width, height)
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _edge(mask: np.ndarray) -> np.ndarray:
    """Compute the pixels of a mask that touch its outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
