"""One simulated healthy person: anatomy, tissue, and the scans that a scanner makes of them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.label_maps.anatomy import Anatomy, draw_anatomy
from mmccd_auto.phantom.label_maps.faults.extraction import add_leftovers, bite, closeness, draw_outline
from mmccd_auto.phantom.label_maps.faults.field_of_view import draw_field_of_view
from mmccd_auto.phantom.label_maps.read import LabelMap
from mmccd_auto.phantom.label_maps.sampling import sampled
from mmccd_auto.phantom.label_maps.scanner import Grid, ScanFaults, draw_faults, draw_grid, log_uniform, scan, stored
from mmccd_auto.phantom.label_maps.structures import CEREBRAL_WHITE
from mmccd_auto.phantom.label_maps.tissues import MODALITIES, DrawnTissues, draw_sequence, draw_tissues, prolonged, signals
from mmccd_auto.phantom.label_maps.wetness import DENSE, RIM, UNEVEN, denser_in_the_depth, uneven_wetness, ventricle_rim
from mmccd_auto.phantom.signal import Sequence, signal

WET_FACTORS, DENSE_FACTORS, LIMITS = (1.15, 1.5), (0.77, 1.0), (0.5, 2.0)
"""Tissue with a wetness of 1, or so much denser in myelin, has T1 and T2 times the factors. What its signal becomes by that
is limited, since a T1 scan may null the one or the other."""
SHARES = {"leftovers": 0.5, "bites": 0.25, "cut": 0.2}
STRENGTHS_MM = {"leftovers": (2.0, 15.0), "bites": (1.0, 6.0), "cut": (5.0, 45.0)}
"""Of people, that have a fault which all their scans share, and how far it reaches."""


@dataclass(frozen=True)
class HeadFaults:
    """What is wrong with all scans of a person; 0 where nothing is.

    Attributes
    ----------
    leftovers, bites : mm by which the extraction reaches beyond the brain and into it, at most
    cut : mm of the brain that lie outside of the field of view, at most
    """

    leftovers: float = 0.0
    bites: float = 0.0
    cut: float = 0.0


@dataclass(frozen=True)
class SimulatedHead:
    """The scans of a person.

    Attributes
    ----------
    scans : int16 by modality, all on one grid; brain-only ones are 0 outside the brain and at least 1 inside
    brain : bool, of an extraction that keeps more or less of the fluid around the brain
    sequences : by modality, as they were drawn
    slice_thickness, gap : mm
    faults : what is wrong with all scans
    scan_faults : by modality
    """

    scans: dict[str, Volume]
    brain: Volume
    sequences: dict[str, Sequence]
    slice_thickness: float
    gap: float
    faults: HeadFaults
    scan_faults: dict[str, ScanFaults]

    @property
    def geometry(self) -> Geometry:
        """Of all scans."""
        return self.brain.geometry


def simulate_head(
    label_map: LabelMap,
    seed: int | SequenceOf[int],
    skull: bool = False,
    modalities: SequenceOf[str] = MODALITIES,
    faults: float = 1.0,
) -> SimulatedHead:
    """Simulate a healthy person and the scans; the same label map and seed give the same to the last bit.

    Parameters
    ----------
    label_map : whose anatomy is changed
    seed : of everything random, 0 or above
    skull : keep the whole head; else the scans are brain-only
    modalities : of MODALITIES
    faults : how strong the faults of scans and extraction are, 1 as usual; 0 gives the same person without any
    """
    random = np.random.default_rng(seed)
    anatomy = draw_anatomy(label_map, skull, random)
    tissues = draw_tissues(random)
    grid = draw_grid(anatomy.numbers.shape, anatomy.edge, anatomy.corner, label_map.geometry, random)
    wetness = uneven_wetness(anatomy, random, random.uniform(*UNEVEN))
    wetness += ventricle_rim(anatomy, random, random.uniform(*RIM))
    density = denser_in_the_depth(anatomy, random.uniform(*DENSE))
    head_faults = _draw_head_faults(random, faults)
    brain = _extracted(anatomy, grid, head_faults, np.random.default_rng(random.integers(2**32)))
    seen = draw_field_of_view(brain, grid.spacing, np.random.default_rng(random.integers(2**32)), head_faults.cut)
    brain &= seen
    scans, sequences, scan_faults = {}, {}, {}
    for modality in MODALITIES:
        # Each has a generator of its own, so that it doesn't depend on which others are asked for.
        own = np.random.default_rng(random.integers(2**32))
        if modality not in modalities:
            continue
        sequences[modality], scan_faults[modality] = draw_sequence(modality, tissues, own), draw_faults(own, faults)
        emitted = _emitted(anatomy, tissues, sequences[modality], wetness, density)
        whole = stored(scan(emitted, grid, scan_faults[modality], own))
        array = np.where(seen, whole, 0) if skull else np.where(brain, np.maximum(whole, 1), 0)
        scans[modality] = Volume(array.astype(np.int16), grid.geometry)
    gap = grid.slice_distance - grid.thickness
    return SimulatedHead(scans, Volume(brain, grid.geometry), sequences, grid.thickness, gap, head_faults, scan_faults)


def _draw_head_faults(random: np.random.Generator, strength: float) -> HeadFaults:
    # Always the same numbers are drawn, so that a strength changes nothing else.
    drawn = {
        name: (random.random() < SHARES[name]) * log_uniform(*limits, random) * strength
        for name, limits in STRENGTHS_MM.items()
    }
    return HeadFaults(**drawn)


def _extracted(anatomy: Anatomy, grid: Grid, faults: HeadFaults, random: np.random.Generator) -> np.ndarray:
    """Compute the brain as an extraction finds it; bool of the grid's shape."""
    near = closeness(anatomy)
    kept = draw_outline(anatomy, near, random)
    kept = add_leftovers(kept, near, anatomy.edge, random, faults.leftovers)
    kept = bite(kept, near, anatomy.edge, random, faults.bites)
    return sampled(kept, grid.weights) > 0.5


def _emitted(
    anatomy: Anatomy, tissues: DrawnTissues, sequence: Sequence, wetness: np.ndarray, density: np.ndarray
) -> np.ndarray:
    """Compute the signal of each voxel of the anatomy, relative to that of cerebral white matter; float32, at least 0."""
    white = tissues.by_number[CEREBRAL_WHITE]
    usual = signal(white, sequence)
    wetter, denser = (
        np.float32(np.log(np.clip(signal(prolonged(white, *factors), sequence) / usual, *LIMITS)))
        for factors in (WET_FACTORS, DENSE_FACTORS)
    )
    return signals(tissues, sequence)[anatomy.numbers] * np.exp(wetter * wetness + denser * density)
