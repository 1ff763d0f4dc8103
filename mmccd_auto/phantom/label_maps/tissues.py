"""The tissues of a simulated head as a scanner sees them, widely drawn, and the sequences that scan them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmccd_auto.phantom.label_maps import structures
from mmccd_auto.phantom.label_maps.structures import STRUCTURES, lookup
from mmccd_auto.phantom.signal import HEALTHY, Relaxation, Sequence, signal

MODALITIES = ("FLAIR", "T1", "T2")
AT_LOW_FIELD: dict[str, Relaxation] = {
    **{name: HEALTHY[name] for name in (structures.WHITE, structures.GREY, structures.DEEP_GREY, structures.FLUID)},
    structures.THALAMUS: Relaxation(640, 72, 0.8),
    structures.PALLIDUM: Relaxation(600, 63, 0.79),
    structures.CHOROID: Relaxation(1100, 120, 0.9),
    structures.BLOOD: Relaxation(1400, 150, 0.35),
    structures.MUSCLE: Relaxation(900, 47, 0.8),
    structures.FAT: Relaxation(350, 70, 0.9),
    structures.SKIN: Relaxation(450, 60, 0.75),
    structures.MUCOSA: Relaxation(900, 90, 0.7),
    structures.SOFT_TISSUE: Relaxation(650, 55, 0.8),
    structures.BONE: Relaxation(500, 2, 0.1),
    structures.MARROW: Relaxation(400, 60, 0.6),
    structures.AIR: Relaxation(500, 2, 0.0),
}
"""At 1.5 T. Brain and fluid: as in :mod:`mmccd_auto.phantom.signal`; muscle, fat and marrow: about what de Bazelaire et al.
(Radiology 230, 2004) measured; the others are our choice: the thalamus holds much white matter, the
pallidum iron; blood flows, which leaves little of its signal."""

# Fluid's T1, which doesn't depend on the field, grows as well: BrainWeb's is that of 1.5 T with room to 3 T's 4000 ms, and
# the inversion time, which follows it, must stay at its distance from the tissues' T1.
LONGER_T1_AT_HIGH_FIELD, SHORTER_T2_AT_HIGH_FIELD = 1.5, 0.85
VARIATION_OF_ALL, VARIATION_OF_TISSUE, VARIATION_OF_STRUCTURE = 0.06, 0.035, 0.03
BLOOD_DENSITY = (0.0, 1.0)
SHARE_OF_INVERSION_T1 = 0.5
INVERSION_ERROR = 0.04


@dataclass(frozen=True)
class DrawnTissues:
    """The relaxation times of one person.

    Attributes
    ----------
    by_number : of each structure of the label map
    """

    by_number: Mapping[int, Relaxation]


def draw_tissues(random: np.random.Generator) -> DrawnTissues:
    """Draw a person's relaxation times at a field strength between 1.5 and 3 T.

    All tissues, each tissue and each structure vary by some per cent (the sides of one structure alike), so that grey and
    white matter keep their order mostly, not always.
    """
    field = random.random()
    longer = 1 + field * (LONGER_T1_AT_HIGH_FIELD - 1)
    shorter = 1 - field * (1 - SHORTER_T2_AT_HIGH_FIELD)
    common = random.normal(1, VARIATION_OF_ALL, size=2)
    of_tissue = {name: _drawn(random, VARIATION_OF_TISSUE) for name in AT_LOW_FIELD}
    of_structure = {
        name: _drawn(random, VARIATION_OF_STRUCTURE) for name in dict.fromkeys(s.name for s in STRUCTURES.values())
    }
    found = {}
    for number, structure in STRUCTURES.items():
        base = AT_LOW_FIELD[structure.tissue]
        t1, t2, density = of_tissue[structure.tissue] * of_structure[structure.name]
        blood = random.uniform(*BLOOD_DENSITY) if structure.tissue == structures.BLOOD else 1.0
        found[number] = Relaxation(
            base.t1 * longer * common[0] * t1,
            base.t2 * shorter * common[1] * t2,
            base.density * blood * (1 + (density - 1) / 2),
        )
    return DrawnTissues(found)


def draw_sequence(modality: str, tissues: DrawnTissues, random: np.random.Generator) -> Sequence:
    """Draw a protocol as hospitals have them: timings vary widely; the inversion of FLAIR nulls fluid, nearly."""
    if modality == "FLAIR":
        repetition, echo = random.uniform(5500, 11000), random.uniform(80, 165)
        fluid = float(tissues.by_number[structures.AROUND_THE_BRAIN].t1)
        null = fluid * (np.log(2) - np.log(1 + np.exp(-repetition / fluid)))
        return Sequence(repetition, echo, null * random.normal(1, INVERSION_ERROR))
    if modality == "T2":
        return Sequence(random.uniform(2600, 7000), random.uniform(55, 140))
    if random.random() < SHARE_OF_INVERSION_T1:
        return Sequence(random.uniform(1800, 2600), random.uniform(2.5, 5), random.uniform(800, 1100))
    return Sequence(random.uniform(400, 950), random.uniform(8, 18))


def signals(tissues: DrawnTissues, sequence: Sequence) -> np.ndarray:
    """Compute a table of signals by structure number, relative to that of cerebral white matter; float32."""
    reference = float(signal(tissues.by_number[structures.CEREBRAL_WHITE], sequence))
    return lookup({n: float(signal(tissue, sequence)) / reference for n, tissue in tissues.by_number.items()})


def prolonged(tissue: Relaxation, t1_factor: float, t2_factor: float) -> Relaxation:
    """Return a tissue with more free water: T1 and T2 times a factor each."""
    return Relaxation(tissue.t1 * t1_factor, tissue.t2 * t2_factor, tissue.density)


def _drawn(random: np.random.Generator, variation: float) -> np.ndarray:
    return np.clip(random.normal(1, variation, size=3), 1 - 3 * variation, 1 + 3 * variation)
