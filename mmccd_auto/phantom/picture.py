"""A picture of simulated people: one without lesion, and one with each kind of lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmccd_auto.core.files import atomic_path
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.phantom.lesions import Lesion
from mmccd_auto.phantom.signal import LESIONS, SEQUENCES
from mmccd_auto.phantom.subject import Acquisition, Subject, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps

SLICE_THICKNESS_MM = 4.0
LESION_RADIUS_MM = 13.0
MARGIN_VOXELS = 3
WINDOW_PERCENTILE = 99.7
INCHES_PER_PANEL = 1.7
INK = "white"
PAPER = "black"
OUTLINE = "#ff5050"


def phantom_picture(path: str | Path, seed: int = 0, resolution: int = 2) -> None:
    """Draw simulated scans: a row per person, a column per modality, and the last column with the lesion's outline.

    Parameters
    ----------
    path : of the PNG, written atomically
    seed : of the people
    resolution : mm in the slice, whole
    """
    maps = load_tissue_maps(resolution)
    people = {"healthy": ()} | {kind: (Lesion(kind, LESION_RADIUS_MM),) for kind in LESIONS}
    columns = [*SEQUENCES, "lesion"]
    figure = Figure(
        figsize=(INCHES_PER_PANEL * len(columns), 1.2 * INCHES_PER_PANEL * len(people) + 0.3), dpi=80, facecolor=PAPER
    )
    axes = figure.subplots(len(people), len(columns))
    figure.subplots_adjust(left=0.06, right=0.995, bottom=0.005, top=0.965, wspace=0.02, hspace=0.02)
    for row, (name, lesions) in enumerate(people.items()):
        random = np.random.default_rng([seed, row])
        subject = simulate_subject(maps, Acquisition(SLICE_THICKNESS_MM), lesions, random)
        panels, label = _shown_slice(subject)
        for panel, (column, image) in zip(axes[row], [*panels.items(), ("lesion", panels["FLAIR"])], strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image[image > 0], WINDOW_PERCENTILE))
            panel.set(xticks=[], yticks=[])
            if row == 0:
                panel.set_title(column, color=INK, fontsize=9)
        if label.any():
            axes[row, -1].contour(label, levels=[0.5], colors=OUTLINE, linewidths=0.9)
        axes[row, 0].set_ylabel(name, color=INK, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


def _shown_slice(subject: Subject) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the slice with most lesion (else with most brain) of each modality, cut to the brain, and the label there."""
    label = to_canonical(subject.label).array > 0
    scans = {modality: to_canonical(volume).array for modality, volume in subject.scans.items()}
    brain = scans["FLAIR"] > 0
    shown = int((label if label.any() else brain).sum(axis=(1, 2)).argmax())
    box = tuple(
        slice(max(0, int(filled[0]) - MARGIN_VOXELS), int(filled[-1]) + 1 + MARGIN_VOXELS)
        for filled in (np.flatnonzero(brain.any(axis=(0, other))) for other in (2, 1))
    )
    return {modality: scan[shown][box] for modality, scan in scans.items()}, label[shown][box]
