"""One picture of several test cases and several methods: scan, reference, and each method's anomaly map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmccd_auto.core.files import atomic_path
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.reporting.drawn_text import drawable
from mmccd_auto.reporting.pictures import COLOUR_MAP, INK, OUTLINE, PAPER

MARGIN_MM = 6.0
WINDOW_PERCENTILES = (1.0, 99.5)
SCALE_PERCENTILE = 99.5


@dataclass(frozen=True)
class OverviewCase:
    """One row.

    Attributes
    ----------
    case : name
    scan, reference : files, reference with abnormal voxels not 0
    maps : CASE_anomaly.nii.gz by method
    """

    case: str
    scan: Path
    reference: Path
    maps: Mapping[str, Path]


def draw_overview(cases: Sequence[OverviewCase], path: str | Path, modality: str) -> None:
    """Draw the axial slice with most abnormal voxels of each case (the middle one of a healthy case).

    Each method keeps one colour scale over all cases, from 0 to the 99.5th percentile of its scores in the shown slices,
    so that rows can be compared; methods can't, since their units differ.

    Parameters
    ----------
    cases : rows
    path : of the PNG, written atomically
    modality : name for the title of the first column
    """
    rows = [_read(case) for case in cases]
    methods = list(cases[0].maps)
    limits = {
        method: max(float(np.percentile(np.concatenate([row[method].ravel() for row, _ in rows]), SCALE_PERCENTILE)), 1e-6)
        for method in methods
    }
    columns = [modality, "reference", *methods]
    figure = Figure(figsize=(2.0 * len(columns), 2.3 * len(rows) + 0.4), dpi=75, facecolor=PAPER)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    figure.subplots_adjust(
        left=0.04, right=0.99, bottom=0.01, top=1 - 0.35 / figure.get_figheight(), wspace=0.03, hspace=0.03
    )
    for line, (case, (row, aspect)) in enumerate(zip(cases, rows, strict=True)):
        window = np.percentile(row["scan"][row["scan"] > 0], WINDOW_PERCENTILES)
        for column, title in enumerate(columns):
            one = axes[line, column]
            if column < 2:
                one.imshow(row["scan"], cmap="gray", vmin=0, vmax=window[1], aspect=aspect)
            else:
                one.imshow(row[title], cmap=COLOUR_MAP, vmin=0, vmax=limits[title], aspect=aspect)
            if column == 1 and row["reference"].any():
                one.contour(row["reference"], levels=[0.5], colors=OUTLINE, linewidths=1.0)
            one.set(xticks=[], yticks=[])
            one.spines[:].set_visible(False)
            if line == 0:
                one.set_title(title, color=INK, fontsize=10)
        axes[line, 0].set_ylabel(drawable(case.case), color=INK, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


def _read(case: OverviewCase) -> tuple[dict[str, np.ndarray], float]:
    """Read the chosen slice of every volume, cut to the brain, and the height of a pixel over its width."""
    volumes = {"scan": read_volume(case.scan), "reference": read_volume(case.reference)}
    volumes |= {method: read_volume(path) for method, path in case.maps.items()}
    turned: dict[str, Volume] = {name: to_canonical(volume) for name, volume in volumes.items()}
    reference = turned["reference"].array
    scan = turned["scan"].array
    areas = (reference if reference.any() else scan).astype(bool).sum(axis=(1, 2))
    index = int(np.argmax(areas))
    spacing = turned["scan"].geometry.spacing
    seen = np.asarray(scan.any(axis=0))
    box = []
    for axis, millimetres in ((1, spacing[1]), (0, spacing[0])):
        lines = np.flatnonzero(seen.any(axis=axis))
        margin = round(MARGIN_MM / millimetres)
        box.append(slice(max(0, lines[0] - margin), lines[-1] + 1 + margin))
    return {name: volume.array[index][tuple(box)] for name, volume in turned.items()}, spacing[1] / spacing[0]
