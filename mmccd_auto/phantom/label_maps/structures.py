"""The structures of a whole-head label map by their FreeSurfer numbers, and the tissue of each.

Numbers below 500 are FreeSurfer's own (FreeSurferColorLUT.txt). Those from 502 on are the extra-cerebral classes of the
label maps that SynthSeg was trained with (Billot et al., Medical Image Analysis 86, 2023), which list no names for them:
the names here are recognised by place, size and the intensity priors that come with the maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AIR = "air"
FLUID = "fluid"
WHITE, GREY = "white matter", "grey matter"
DEEP_GREY, THALAMUS, PALLIDUM = "deep grey matter", "thalamus", "pallidum"
CHOROID, BLOOD = "choroid plexus", "blood"
MUSCLE, FAT, SKIN, MUCOSA = "muscle", "fat", "skin", "mucosa"
SOFT_TISSUE, BONE, MARROW = "soft tissue", "cortical bone", "marrow"


@dataclass(frozen=True)
class Structure:
    """A structure of the label maps.

    Attributes
    ----------
    name : in words, of paired structures without the side
    tissue : what it consists of
    partner : number of the same structure of the other side; None where there is one only
    brain : belongs to the brain as an extraction is meant to keep it, the fluid around it not counted
    """

    name: str
    tissue: str
    partner: int | None = None
    brain: bool = True


def _pair(left: int, right: int, name: str, tissue: str) -> dict[int, Structure]:
    return {left: Structure(name, tissue, right), right: Structure(name, tissue, left)}


STRUCTURES: dict[int, Structure] = {
    0: Structure("background", AIR, brain=False),
    **_pair(2, 41, "cerebral white matter", WHITE),
    **_pair(3, 42, "cerebral cortex", GREY),
    **_pair(4, 43, "lateral ventricle", FLUID),
    **_pair(5, 44, "inferior lateral ventricle", FLUID),
    **_pair(7, 46, "cerebellar white matter", WHITE),
    **_pair(8, 47, "cerebellar cortex", GREY),
    **_pair(10, 49, "thalamus", THALAMUS),
    **_pair(11, 50, "caudate", DEEP_GREY),
    **_pair(12, 51, "putamen", DEEP_GREY),
    **_pair(13, 52, "pallidum", PALLIDUM),
    14: Structure("third ventricle", FLUID),
    15: Structure("fourth ventricle", FLUID),
    16: Structure("brain stem", WHITE),
    **_pair(17, 53, "hippocampus", GREY),
    **_pair(18, 54, "amygdala", GREY),
    24: Structure("fluid around the brain", FLUID, brain=False),
    # Simulated people are healthy: what FreeSurfer took for a white matter lesion becomes white matter.
    **_pair(25, 57, "white matter once marked as lesion", WHITE),
    **_pair(26, 58, "accumbens", DEEP_GREY),
    **_pair(28, 60, "ventral diencephalon", THALAMUS),
    **_pair(30, 62, "vessel", BLOOD),
    72: Structure("fifth ventricle", FLUID),
    85: Structure("optic chiasm", WHITE),
    **_pair(136, 163, "choroid plexus of the lateral ventricle", CHOROID),
    **_pair(137, 164, "choroid plexus of the inferior lateral ventricle", CHOROID),
    502: Structure("artery", BLOOD, brain=False),
    506: Structure("eye", FLUID, brain=False),
    507: Structure("muscle, fat and other soft tissue", SOFT_TISSUE, brain=False),
    508: Structure("eye muscle", MUSCLE, brain=False),
    509: Structure("mucosa", MUCOSA, brain=False),
    511: Structure("skin", SKIN, brain=False),
    512: Structure("spinal cord", WHITE, brain=False),
    514: Structure("vein", BLOOD, brain=False),
    515: Structure("cortical bone", BONE, brain=False),
    516: Structure("cancellous bone", MARROW, brain=False),
    530: Structure("optic nerve", WHITE, brain=False),
}
LARGEST_NUMBER = max(STRUCTURES)
CEREBRAL_WHITE = 2
LATERAL_VENTRICLES = (4, 5, 43, 44, 136, 137, 163, 164)
CORTEX = (3, 8, 42, 47)
AROUND_THE_BRAIN = 24


def numbers_of(tissue: str) -> list[int]:
    """Return the numbers of the structures of a tissue, ascending."""
    return sorted(number for number, structure in STRUCTURES.items() if structure.tissue == tissue)


def lookup(values: dict[int, float], missing: float = 0.0) -> np.ndarray:
    """Compute a table by which ``table[numbers]`` gives a value for each voxel of a label map.

    The table is float32 [LARGEST_NUMBER + 1].
    """
    table = np.full(LARGEST_NUMBER + 1, missing, dtype=np.float32)
    for number, value in values.items():
        table[number] = value
    return table


def is_one_of(numbers: np.ndarray, wanted: tuple[int, ...] | list[int]) -> np.ndarray:
    """Find where a label map holds one of some numbers; bool of the same shape."""
    return lookup(dict.fromkeys(wanted, 1.0))[numbers] > 0


def mirrored_numbers() -> np.ndarray:
    """Compute a table by which ``table[numbers]`` swaps the sides; int16 [LARGEST_NUMBER + 1]."""
    table = np.arange(LARGEST_NUMBER + 1, dtype=np.int16)
    for number, structure in STRUCTURES.items():
        table[number] = number if structure.partner is None else structure.partner
    return table
