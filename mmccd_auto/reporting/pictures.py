"""CASE.png: what a person looks at first. Every case on one fixed colour scale, so that a healthy scan stays dark."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.orientation import canonical_geometry, slice_axis_first, to_canonical
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.reporting.drawn_text import drawable

SCALE_PER_THRESHOLD = 4.0
SCALE_WITHOUT_THRESHOLD = 4.0
MOST_ANOMALOUS = 4
LEAST_SECTION, LEAST_MARKED_SECTION = 0.1, 0.03
"""Of the largest section of the brain, that a slice has to hold: without anything above the threshold, and with it."""
MARGIN_MM = 6.0
COLUMNS = ("scan", "anomaly score", "mask on the scan")
COLOUR_MAP = "inferno"
OUTLINE = "#35e0ff"
CANDIDATE_OUTLINE, WARNING_INK = "#ff6ad5", "#ffb454"
PAPER, INK = "#101014", "#e8e8ee"
LINE_INCHES, CHARACTERS_PER_LINE = 0.17, 112
LONGEST_NAME = 60
POSITIONS = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
SIDES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}


@dataclass(frozen=True)
class _Slices:
    """A case turned for display: arrays [S, H, W], superior or anterior at the top, the patient's right on the left."""

    scan: np.ndarray
    score: np.ndarray
    mask: np.ndarray | None
    candidates: np.ndarray | None
    brain: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class DrawnCase:
    """What a case's picture shows.

    Attributes
    ----------
    case : name for the title
    scan, anomaly : [z, y, x] on the scan's own grid
    brain : bool [z, y, x]
    geometry : of these arrays
    mask : bool or uint8 [z, y, x]; None where no mask could be made
    threshold : of the mask; None draws on a scale of 0 to 4 (squared error of the normalised scan)
    slice_axis : "axial", "coronal" or "sagittal"
    modality : name for the title
    calibrated : the score is in units of which healthy tissue exceeds 1 in 1 % of its voxels
    candidates : bool or uint8 [z, y, x], parts above the threshold that are smaller than a lesion
    finding : what was found, as one clause, below the title; empty shows the volume of the mask
    warnings : sentences, each on lines of its own below that
    """

    case: str
    scan: np.ndarray
    anomaly: np.ndarray
    brain: np.ndarray
    geometry: Geometry
    mask: np.ndarray | None = None
    threshold: float | None = None
    slice_axis: str = "axial"
    modality: str = "scan"
    calibrated: bool = False
    candidates: np.ndarray | None = None
    finding: str = ""
    warnings: Sequence[str] = ()


def case_picture(path: str | Path, drawn: DrawnCase) -> None:
    """Draw a case: its most anomalous slices and the middle one, each as scan, anomaly map and mask on the scan.

    The picture is in radiological convention (the patient's right on the left; superior or anterior at the top) and in true
    proportions. The colour scale ends at 4 thresholds, whatever the case's own largest score. Lesions have a solid outline,
    candidates a dashed one of another colour.

    Parameters
    ----------
    path : of the PNG, written atomically
    drawn : the case
    """
    threshold, slice_axis = drawn.threshold, drawn.slice_axis
    slices = _for_display(drawn)
    chosen = choose_slices(slices.score, slices.brain, slices.spacing[0], threshold)
    limit = colour_limit(threshold)
    window = _window(slices)
    box = _box(slices)
    height = (box[0].stop - box[0].start) * slices.spacing[1]
    width = (box[1].stop - box[1].start) * slices.spacing[2]
    row = 2.33 * height / width
    lines = _header_lines(drawn.finding or _volume(slices, threshold), drawn.warnings)
    head = 0.67 + LINE_INCHES * len(lines)
    figure = Figure(figsize=(8.6, max(3.0, row * len(chosen) + head + 0.45)), dpi=100, facecolor=PAPER)
    top = 1 - head / figure.get_figheight()
    grid = figure.add_gridspec(
        len(chosen), 3, left=0.06, right=0.87, bottom=0.25 / figure.get_figheight(), top=top, wspace=0.03, hspace=0.03
    )
    for line, index in enumerate(chosen):
        axes = [figure.add_subplot(grid[line, column]) for column in range(3)]
        _draw_row(axes, slices, index, box, window, limit, slice_axis)
        axes[0].set_ylabel(f"slice {index}", color=INK, fontsize=9)
        if line == 0:
            _write_titles(axes, drawn.modality)
    bottom = _colour_bar(figure, limit, threshold, top, drawn.calibrated)
    if slices.mask is not None:
        _legend(figure, bottom)
    _write_header(figure, _title(drawn.case, slices, threshold), lines)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


def _write_titles(axes: Sequence[Axes], modality: str) -> None:
    """Write above the columns what they show."""
    for one, title in zip(axes, (modality, *COLUMNS[1:]), strict=True):
        one.set_title(title, color=INK, fontsize=10)


def colour_limit(threshold: float | None) -> float:
    """Compute the score at the upper end of the colour scale; it depends on the model only, never on the case."""
    return SCALE_WITHOUT_THRESHOLD if threshold is None else SCALE_PER_THRESHOLD * threshold


def choose_slices(
    score: np.ndarray, brain: np.ndarray, slice_distance: float, threshold: float | None = None, count: int = MOST_ANOMALOUS
) -> list[int]:
    """Choose the most anomalous slices, spread apart, and the one in the middle of the brain, in order.

    A slice counts by the sum of its scores above the threshold; those with nothing above it come last, and count by all
    their scores. Chosen slices lie at least 8 mm and a twelfth of the brain apart. A slice with less than a tenth of the
    largest section is shown only for what is above the threshold in it.

    Parameters
    ----------
    score : [S, H, W]
    brain : bool [S, H, W]
    slice_distance : mm
    threshold : of the mask
    count : number of anomalous slices, at most
    """
    inside = np.flatnonzero(brain.any(axis=(1, 2)))
    if not len(inside):
        return [len(score) // 2]
    areas = brain.sum(axis=(1, 2))
    # Slice by slice: several volumes of numbers would be needed else.
    values = [one[where] for one, where in zip(score, brain, strict=True)]
    excess = np.array([np.maximum(one - (threshold or 0.0), 0).sum() for one in values])
    whole = np.array([one.sum() for one in values])
    worth = (excess > 0) if threshold else np.zeros(len(values), dtype=bool)
    least = np.where(worth, LEAST_MARKED_SECTION, LEAST_SECTION) * areas.max()
    shown = [index for index in inside.tolist() if areas[index] >= least[index]]
    apart = max(1, round(8 / slice_distance), len(inside) // 12)
    middle = int(inside[np.argmin(np.abs(np.cumsum(areas[inside]) - areas.sum() / 2))])
    chosen: list[int] = []
    for index in sorted(shown, key=lambda one: (-excess[one], -whole[one])):
        if len(chosen) < count and all(abs(index - other) >= apart for other in chosen):
            chosen.append(index)
    return sorted({*chosen, middle})


def _for_display(drawn: DrawnCase) -> _Slices:
    """Turn to LPS, cut along the slice axis; rows that begin inferior are flipped, so that superior is at the top."""
    slice_axis, geometry = drawn.slice_axis, drawn.geometry

    def turn(array: np.ndarray) -> np.ndarray:
        slices = slice_axis_first(to_canonical(Volume(array, geometry)).array, slice_axis)
        return slices if slice_axis == "axial" else slices[:, ::-1]

    spacing = canonical_geometry(geometry).spacing[::-1]
    return _Slices(
        scan=turn(drawn.scan),
        score=turn(drawn.anomaly),
        mask=None if drawn.mask is None else turn(np.asarray(drawn.mask, dtype=np.uint8)) > 0,
        candidates=None if drawn.candidates is None else turn(np.asarray(drawn.candidates, dtype=np.uint8)) > 0,
        brain=turn(np.asarray(drawn.brain, dtype=np.uint8)) > 0,
        spacing=triple(spacing[axis] for axis in POSITIONS[slice_axis]),
    )


def _window(slices: _Slices) -> tuple[float, float]:
    """Find the grey levels from the darkest to the brightest of the brain, without the last 0.5 % of either end."""
    values = slices.scan[slices.brain] if slices.brain.any() else slices.scan
    low, high = np.percentile(values, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _box(slices: _Slices) -> tuple[slice, slice]:
    """Find the rows and columns that hold the brain of all slices, with a margin."""
    seen = np.asarray(slices.brain.any(axis=0))
    if not seen.any():
        seen = np.ones_like(seen)
    box = []
    for axis, spacing in ((1, slices.spacing[1]), (0, slices.spacing[2])):
        lines = np.flatnonzero(seen.any(axis=axis))
        margin = round(MARGIN_MM / spacing)
        box.append(slice(max(0, lines[0] - margin), min(seen.shape[1 - axis], lines[-1] + 1 + margin)))
    return box[0], box[1]


def _draw_row(
    axes: list[Axes],
    slices: _Slices,
    index: int,
    box: tuple[slice, slice],
    window: tuple[float, float],
    limit: float,
    slice_axis: str,
) -> None:
    aspect = slices.spacing[1] / slices.spacing[2]
    scan, score = slices.scan[index][box], slices.score[index][box]
    for one, image, low, high, colours in (
        (axes[0], scan, *window, "gray"),
        (axes[1], score, 0.0, limit, COLOUR_MAP),
        (axes[2], scan, *window, "gray"),
    ):
        one.imshow(image, cmap=colours, vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        one.set(xticks=[], yticks=[])
        one.spines[:].set_visible(False)
    if slices.brain[index].any():
        axes[1].contour(slices.brain[index][box], levels=[0.5], colors="#565660", linewidths=0.6)
    marked = ((slices.mask, OUTLINE, "solid"), (slices.candidates, CANDIDATE_OUTLINE, "dashed"))
    for parts, colour, style in marked:
        if parts is not None and parts[index][box].any():
            axes[2].contour(parts[index][box], levels=[0.5], colors=colour, linewidths=0.9, linestyles=style)
    for side, place, alignment in zip(SIDES[slice_axis], (0.02, 0.98), ("left", "right"), strict=True):
        axes[0].text(place, 0.5, side, transform=axes[0].transAxes, color=INK, fontsize=9, ha=alignment, va="center")


def _colour_bar(figure: Figure, limit: float, threshold: float | None, top: float, calibrated: bool) -> float:
    """Draw the colour scale, and give where it ends."""
    height = min(0.5 * top, 3.0 / figure.get_figheight())
    axes = figure.add_axes((0.89, top - height, 0.018, height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, limit), COLOUR_MAP), cax=axes, extend="max")
    bar.outline.set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    meaning = "1 % of healthy tissue exceeds 1" if calibrated else "same scale for every case"
    bar.set_label(f"anomaly score ({meaning})", color=INK, fontsize=8)
    if threshold is not None:
        axes.axhline(threshold, color=OUTLINE, linewidth=1.5)
    return top - height


def _title(case: str, slices: _Slices, threshold: float | None) -> str:
    case = case if len(case) <= LONGEST_NAME else f"{case[: LONGEST_NAME - 3]}..."
    if slices.mask is None or threshold is None:
        return f"{case}   no mask (no threshold)"
    return f"{case}   threshold {threshold:.3g}"


def _volume(slices: _Slices, threshold: float | None) -> str:
    if slices.mask is None or threshold is None:
        return ""
    return f"anomalous {slices.mask.sum() * np.prod(slices.spacing) / 1000:.1f} ml"


def _header_lines(finding: str, warnings: Sequence[str]) -> list[tuple[str, str]]:
    """Return the lines below the title, each with its colour, no longer than the picture is wide."""
    return [
        (line, colour)
        for text, colour in ((finding, INK), *((f"Warning: {one}", WARNING_INK) for one in warnings))
        for line in textwrap.wrap(text, CHARACTERS_PER_LINE, subsequent_indent="   ")
    ]


def _write_header(figure: Figure, title: str, lines: Sequence[tuple[str, str]]) -> None:
    height = figure.get_figheight()
    figure.text(0.06, 1 - 0.22 / height, drawable(title), color=INK, fontsize=11, va="center")
    for number, (line, colour) in enumerate(lines):
        place = 1 - (0.44 + LINE_INCHES * number) / height
        figure.text(0.06, place, drawable(line), color=colour, fontsize=8, va="center")


def _legend(figure: Figure, top: float) -> None:
    """Say what the outlines mean."""
    entries = [
        Line2D([], [], color=OUTLINE, linewidth=1.2, label="lesion"),
        Line2D([], [], color=CANDIDATE_OUTLINE, linewidth=1.2, linestyle="dashed", label="candidate"),
    ]
    figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0.875, top - 0.2 / figure.get_figheight()),
        fontsize=7,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0,
        handlelength=2.6,
    )
