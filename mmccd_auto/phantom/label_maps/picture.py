"""A picture of what goes wrong with simulated scans: a scan without a fault, and one with each kind."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmccd_auto.core.files import atomic_path
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.phantom.label_maps.faults.artefacts import add_ghosts, add_motion, add_spikes
from mmccd_auto.phantom.label_maps.faults.coils import coil_gain
from mmccd_auto.phantom.label_maps.read import LabelMap, read_label_map
from mmccd_auto.phantom.label_maps.scanner import add_rician_noise
from mmccd_auto.phantom.label_maps.subject import SimulatedHead, simulate_head

MODALITY = "FLAIR"
HEIGHT = 0.62
BESIDE_THE_MIDDLE = 0.42
STRENGTHS = {"motion": 2.0, "ghosts": 0.2, "spike": 0.15, "coils": 1.0, "noise": 0.1}
WINDOW_PERCENTILE = 99.5
INCHES_PER_PANEL, DPI = 1.7, 70
INK, PAPER = "white", "black"
MOST_PEOPLE = 60


def faults_picture(path: str | Path, label_map: str | Path, seed: int = 0) -> None:
    """Draw a head as it is and with each fault of a scan, and brains with each fault of the extraction.

    Parameters
    ----------
    path : of the PNG, written atomically
    label_map : file, whose head is simulated
    seed : of everything random

    Raises
    ------
    MMCCDError
        If the label map can't be used.
    """
    anatomy = read_label_map(label_map)
    panels = {**_faulty_scans(anatomy, seed), **_faulty_extractions(anatomy, seed)}
    columns = 4
    rows = -(-len(panels) // columns)
    size = (INCHES_PER_PANEL * columns, 1.2 * INCHES_PER_PANEL * rows)
    figure = Figure(figsize=size, dpi=DPI, facecolor=PAPER)
    axes = figure.subplots(rows, columns).ravel()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.96, wspace=0.02, hspace=0.12)
    for axis in axes:
        axis.axis("off")
    for axis, (name, (image, aspect)) in zip(axes, panels.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image[image > 0], WINDOW_PERCENTILE), aspect=aspect)
        axis.set_title(name, color=INK, fontsize=8, pad=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=PAPER)


def _faulty_scans(anatomy: LabelMap, seed: int) -> dict[str, tuple[np.ndarray, float]]:
    """Return axial slices of one head, with the ratio of their pixels' edges."""
    head = simulate_head(anatomy, seed, skull=True, modalities=(MODALITY,), faults=0)
    scan = to_canonical(head.scans[MODALITY])
    spacing = scan.geometry.spacing[::-1]
    clean = scan.array / np.float32(np.median(scan.array[scan.array > np.percentile(scan.array, 60)]))
    random = np.random.default_rng
    faulty = {
        "as it is": clean,
        "movement": add_motion(clean, spacing, random(seed), STRENGTHS["motion"], 1),
        "ghosts": add_ghosts(clean, random(seed), STRENGTHS["ghosts"], 1),
        "a spike": add_spikes(clean, random(seed), STRENGTHS["spike"], False),
        "coils": clean * coil_gain(clean.shape, spacing, random(seed), STRENGTHS["coils"]),
        "noise": add_rician_noise(clean, random(seed), STRENGTHS["noise"]),
    }
    return {name: (array[int(HEIGHT * len(array))], spacing[1] / spacing[2]) for name, array in faulty.items()}


def _faulty_extractions(anatomy: LabelMap, seed: int) -> dict[str, tuple[np.ndarray, float]]:
    """Return a coronal slice of a brain with leftovers, and a sagittal one of a brain that is cut.

    None where nobody has it.
    """
    panels: dict[str, tuple[np.ndarray, float]] = {}
    for number in itertools.takewhile(lambda count: count < MOST_PEOPLE and len(panels) < 2, itertools.count()):
        head = simulate_head(anatomy, (seed, number), modalities=(MODALITY,))
        if "leftovers and bites" not in panels and head.faults.leftovers > 9 and head.faults.bites > 2:
            panels["leftovers and bites"] = _view(head, axis=1, share=0.5)
        elif "a cut field of view" not in panels and head.faults.cut > 25:
            panels["a cut field of view"] = _view(head, axis=2, share=BESIDE_THE_MIDDLE)
    return panels


def _view(head: SimulatedHead, axis: int, share: float) -> tuple[np.ndarray, float]:
    """Compute a coronal (axis 1) or sagittal (axis 2) slice with the head's top above."""
    scan = to_canonical(head.scans[MODALITY])
    image = scan.array.take(int(share * scan.array.shape[axis]), axis=axis)[::-1]
    return image, scan.geometry.spacing[2] / scan.geometry.spacing[0]
