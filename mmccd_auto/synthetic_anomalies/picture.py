"""A picture of every kind of synthetic anomaly in a simulated brain.

It is drawn by ``python -m mmccd_auto.synthetic_anomalies.picture FILE.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.phantom.subject import Acquisition, Subject, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.normalisation import normalise
from mmccd_auto.synthetic_anomalies.block import HealthyBlock
from mmccd_auto.synthetic_anomalies.make import KINDS, SyntheticAnomaly, make_anomaly

MODALITY = "FLAIR"
SEED = 6
SLICE_THICKNESS_MM = 4
SLICES_MM = (40.0, 110.0)
RADIUS_MM = 14.0
CLOSE_UP_MARGIN_MM = 12.0
WINDOW = (-3.0, 5.0)
CHANGE_LIMIT = 4.0
COLUMNS = ("place", "before", "after", "change")
GROUPS = 2
INCHES_PER_PANEL = 1.4
PAPER, INK, INK_ON_WHITE, OUTLINE = "black", "white", "#404040", "#ff5050"


def phantom_block(seed: int, modality: str = MODALITY, resolution: int = 2) -> HealthyBlock:
    """Return the middle slices of a healthy simulated person.

    Parameters
    ----------
    seed : of the person
    modality : one of mmccd_auto.phantom.signal.SEQUENCES
    resolution : mm in the slice, a divisor of the slice thickness of 4 mm
    """
    volume = to_canonical(_healthy_person(seed, resolution).scans[modality])
    brain = volume.array > 0
    image, parameters = normalise(volume.array, brain, "percentile", f"phantom {seed}: {modality}")
    first = int(np.flatnonzero(brain.any(axis=(1, 2)))[0])
    chosen = slice(*(first + int(height / SLICE_THICKNESS_MM) for height in SLICES_MM))
    return HealthyBlock(
        case=f"phantom {seed}",
        modality=modality,
        image=image[chosen],
        brain=brain[chosen],
        spacing=triple(reversed(volume.geometry.spacing)),
        shift=parameters["shift"],
        scale=parameters["scale"],
    )


def anomalies_picture(path: str | Path, seed: int = SEED, resolution: int = 2) -> None:
    """Draw each kind of anomaly: its place in the slice, and close up how that was, what it became, and the difference.

    Parameters
    ----------
    path : of the PNG, written atomically
    seed : of people and anomalies
    resolution : mm in the slice, 1, 2 or 4
    """
    block, donor = (phantom_block(2 * seed + number, resolution=resolution) for number in range(2))
    lines = -(-len(KINDS) // GROUPS)
    figure = Figure(
        figsize=(INCHES_PER_PANEL * GROUPS * (len(COLUMNS) + 0.2), INCHES_PER_PANEL * lines + 0.3), dpi=80, facecolor=PAPER
    )
    groups = figure.add_gridspec(1, GROUPS, left=0.025, right=0.998, bottom=0.005, top=0.955, wspace=0.06)
    for number, kind in enumerate(KINDS):
        group, line = divmod(number, lines)
        grid = groups[group].subgridspec(lines, len(COLUMNS), wspace=0.03, hspace=0.03)
        panels = [figure.add_subplot(grid[line, column]) for column in range(len(COLUMNS))]
        made = make_anomaly(kind, block, donor, np.random.default_rng([seed, number]), RADIUS_MM)
        _draw_row(panels, block, made)
        panels[0].set_ylabel(kind, color=INK, fontsize=9)
        if line == 0:
            for panel, title in zip(panels, COLUMNS, strict=True):
                panel.set_title(title, color=INK, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


@lru_cache(maxsize=2)
def _healthy_person(seed: int, resolution: int) -> Subject:
    return simulate_subject(load_tissue_maps(resolution), Acquisition(SLICE_THICKNESS_MM), (), np.random.default_rng(seed))


def _draw_row(panels: Sequence[Axes], block: HealthyBlock, made: SyntheticAnomaly) -> None:
    shown = int(made.anomaly.sum(axis=(1, 2)).argmax())
    marked, brain = made.anomaly[shown], block.brain[shown]
    healthy, altered = (np.where(brain, image[shown], WINDOW[0]) for image in (block.image, made.image))
    whole, close = (
        _square(np.asarray(block.brain.any(axis=0)), 0, block.spacing),
        _square(marked, CLOSE_UP_MARGIN_MM, block.spacing),
    )
    _show(panels[0], altered, "gray", WINDOW, whole)
    _show(panels[1], healthy, "gray", WINDOW, close)
    _show(panels[2], altered, "gray", WINDOW, close)
    _show(panels[3], altered - healthy, "RdBu_r", (-CHANGE_LIMIT, CHANGE_LIMIT), close)
    for panel, colour in ((panels[0], OUTLINE), (panels[3], INK_ON_WHITE)):
        panel.contour(marked, levels=[0.5], colors=colour, linewidths=0.9)


def _square(mask: np.ndarray, margin: float, spacing: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Compute the limits (left, right, bottom, top; pixels) of the square in mm about a mask [H, W], with a margin in mm."""
    bounds = [(lines[0] - 0.5, lines[-1] + 0.5) for lines in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))]
    half = margin + max((high - low) * edge for (low, high), edge in zip(bounds, spacing[1:], strict=True)) / 2
    (top, bottom), (left, right) = (
        (sum(bound) / 2 - half / edge, sum(bound) / 2 + half / edge) for bound, edge in zip(bounds, spacing[1:], strict=True)
    )
    return left, right, bottom, top


def _show(
    panel: Axes,
    image: np.ndarray,
    colours: str,
    window: tuple[float, float],
    limits: tuple[float, float, float, float],
) -> None:
    panel.imshow(image, cmap=colours, vmin=window[0], vmax=window[1], aspect="auto")
    panel.set(xticks=[], yticks=[], xlim=limits[:2], ylim=limits[2:], facecolor=PAPER)


def main() -> None:
    """Draw the picture into the file named on the command line."""
    parser = argparse.ArgumentParser(description="draw every kind of synthetic anomaly in a simulated brain")
    parser.add_argument("file", type=Path, help="PNG to be written")
    parser.add_argument("--seed", type=int, default=SEED, help="of people and anomalies")
    arguments = parser.parse_args()
    anomalies_picture(arguments.file, arguments.seed)


if __name__ == "__main__":
    main()
