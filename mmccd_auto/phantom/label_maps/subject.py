"""One simulated healthy person: anatomy, tissue, and the scans that a scanner makes of them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps import structures
from mmccd_auto.phantom.label_maps.anatomy import COARSE, Anatomy, draw_anatomy
from mmccd_auto.phantom.label_maps.read import LabelMap
from mmccd_auto.phantom.label_maps.sampling import linear_weights, sampled
from mmccd_auto.phantom.label_maps.scanner import Grid, draw_grid, scan, stored
from mmccd_auto.phantom.label_maps.structures import LATERAL_VENTRICLES, STRUCTURES, is_one_of, numbers_of
from mmccd_auto.phantom.label_maps.tissues import MODALITIES, DrawnTissues, draw_sequence, draw_tissues, prolonged, signals
from mmccd_auto.phantom.signal import Sequence, signal

OUTLINE_SMOOTHNESS_MM = 4.0
OUTLINE = (0.2, 0.45)
"""The brain's outline lies where its smoothed mask has this value: wide outlines keep the fluid around the brain."""
SHARE_OF_LEFTOVERS = 0.3
DEEP_INSIDE = 0.6
UNEVEN = (0.01, 0.05)
UNEVEN_SMOOTHNESS_MM = (8.0, 25.0)
RIM_MM, STRONGEST_RIM, RIM_FACTOR = (1.0, 3.0), 0.8, 1.5
"""Around the ventricles white matter holds more water, more so in old people: T1 and T2 times RIM_FACTOR at most."""


@dataclass(frozen=True)
class SimulatedHead:
    """The scans of a person.

    Attributes
    ----------
    scans : int16 by modality, all on one grid; brain-only ones are 0 outside the brain and at least 1 inside
    brain : bool, of an extraction that keeps more or less of the fluid around the brain
    sequences : by modality, as they were drawn
    slice_thickness, gap : mm
    """

    scans: dict[str, Volume]
    brain: Volume
    sequences: dict[str, Sequence]
    slice_thickness: float
    gap: float

    @property
    def geometry(self) -> Geometry:
        """Of all scans."""
        return self.brain.geometry


def simulate_head(
    label_map: LabelMap, seed: int | SequenceOf[int], skull: bool = False, modalities: SequenceOf[str] = MODALITIES
) -> SimulatedHead:
    """Simulate a healthy person and the scans; the same label map and seed give the same to the last bit.

    Parameters
    ----------
    label_map : whose anatomy is changed
    seed : of everything random, 0 or above
    skull : keep the whole head; else the scans are brain-only
    modalities : of MODALITIES
    """
    random = np.random.default_rng(seed)
    anatomy = draw_anatomy(label_map, skull, random)
    tissues = draw_tissues(random)
    grid = draw_grid(anatomy.numbers.shape, anatomy.edge, anatomy.corner, label_map.geometry, random)
    outline = _outline(anatomy, random)
    brain = sampled(outline, grid.weights) > 0.5
    uneven, rim = _uneven(anatomy, random), _rim(anatomy, random)
    scans, sequences = {}, {}
    for modality in MODALITIES:
        # Each has a generator of its own, so that it doesn't depend on which others are asked for.
        own = np.random.default_rng(random.integers(2**32))
        if modality not in modalities:
            continue
        sequences[modality] = draw_sequence(modality, tissues, own)
        emitted = _emitted(anatomy, tissues, sequences[modality], uneven, rim, own)
        # The rest is cut off after the scan, as from real ones; here nothing of it is worth the computing.
        scanned = scan(emitted if skull else emitted * (ndimage.maximum_filter(outline, 3) > 0), grid, own)
        whole = stored(scanned)
        array = whole if skull else np.where(brain, np.maximum(whole, 1), 0).astype(np.int16)
        scans[modality] = Volume(array, grid.geometry)
    return SimulatedHead(scans, Volume(brain, grid.geometry), sequences, grid.thickness, _gap(grid))


def _gap(grid: Grid) -> float:
    return grid.slice_distance - grid.thickness


def _outline(anatomy: Anatomy, random: np.random.Generator) -> np.ndarray:
    """What an extraction keeps of the anatomy; bool of its shape."""
    brain = is_one_of(anatomy.numbers, [number for number, one in STRUCTURES.items() if one.brain])
    smooth = ndimage.gaussian_filter(brain.astype(np.float32), OUTLINE_SMOOTHNESS_MM / anatomy.edge)
    kept = smooth > random.uniform(*OUTLINE)
    if random.random() > SHARE_OF_LEFTOVERS:
        outside = [number for number, one in STRUCTURES.items() if not one.brain and number != structures.AROUND_THE_BRAIN]
        kept &= ~is_one_of(anatomy.numbers, outside) | (smooth > DEEP_INSIDE)
    return kept


def _field(anatomy: Anatomy, smoothness_mm: float, random: np.random.Generator) -> np.ndarray:
    """A smooth field over the anatomy, drawn on every fourth voxel."""
    shape = anatomy.numbers.shape
    coarse = tuple(-(-size // COARSE) + 1 for size in shape)
    weights = [linear_weights(size, COARSE, points) for size, points in zip(shape, coarse, strict=True)]
    return sampled(smooth_field(coarse, smoothness_mm / (COARSE * anatomy.edge), random), weights)


def _uneven(anatomy: Anatomy, random: np.random.Generator) -> np.ndarray:
    """How tissue differs from place to place, alike in all modalities but for size and sign; mean 0."""
    return sum(_field(anatomy, smoothness, random) for smoothness in UNEVEN_SMOOTHNESS_MM) / np.sqrt(2)


def _rim(anatomy: Anatomy, random: np.random.Generator) -> np.ndarray:
    """Share of wet tissue around the lateral ventricles, within [0, 1]; float32."""
    ventricles = is_one_of(anatomy.numbers, LATERAL_VENTRICLES).astype(np.float32)
    near = ndimage.gaussian_filter(ventricles, random.uniform(*RIM_MM) / anatomy.edge)
    white = is_one_of(anatomy.numbers, numbers_of(structures.WHITE))
    return np.where(white, near, 0) * np.float32(STRONGEST_RIM * random.random())


def _emitted(
    anatomy: Anatomy,
    tissues: DrawnTissues,
    sequence: Sequence,
    uneven: np.ndarray,
    rim: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """The signal of each voxel of the anatomy, relative to that of cerebral white matter; float32, at least 0."""
    base = signals(tissues, sequence)[anatomy.numbers]
    white = tissues.by_number[2]
    wetter = float(signal(prolonged(white, RIM_FACTOR), sequence) / signal(white, sequence)) - 1
    size = random.uniform(*UNEVEN) * random.choice((-1.0, 1.0))
    return np.clip(base * (1 + size * uneven) * (1 + wetter * rim), 0, None).astype(np.float32)
