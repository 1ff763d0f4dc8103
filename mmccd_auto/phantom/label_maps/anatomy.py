"""One person's anatomy: a label map, mirrored or not, bent, grown or shrunk, and aged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.core.tuples import triple
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps.read import LabelMap
from mmccd_auto.phantom.label_maps.sampling import linear_weights, sampled
from mmccd_auto.phantom.label_maps.structures import (
    AROUND_THE_BRAIN,
    CORTEX,
    FLUID,
    LATERAL_VENTRICLES,
    STRUCTURES,
    is_one_of,
    mirrored_numbers,
    numbers_of,
)

BENDS_MM = ((1.5, 14.0), (2.5, 35.0))
"""(size, smoothness) of the displacements: gyri differ on the small scale, whole lobes on the large one."""
SIZE, STRETCH, TURN_DEGREES, SHEAR = (0.88, 1.02), 0.04, 8.0, 0.03
GROWTH_MM = (-1.5, 9.0)
GROWTH_SMOOTHNESS_MM = 7.0
"""How far the walls of the lateral ventricles are moved outwards; young people's are narrow, old people's wide."""
SULCI = (-0.28, 0.22)
"""Below 0 the cortex takes fluid, as in young people; above 0 fluid takes the cortex's rim."""
SULCI_SMOOTHNESS_MM = 25.0
MARGIN_MM = 16.0
COARSE = 4
"""Positions are computed on every fourth voxel along each axis: they are smooth."""
MIRRORED = 0.5


@dataclass(frozen=True)
class Anatomy:
    """A person's head, or the part around the brain.

    Attributes
    ----------
    numbers : int16 [z, y, x], keys of STRUCTURES
    edge : mm, of the isotropic voxels
    corner : mm along x, y, z, from the first voxel of the label map to that of ``numbers``
    """

    numbers: np.ndarray
    edge: float
    corner: tuple[float, float, float]


def draw_anatomy(label_map: LabelMap, whole_head: bool, random: np.random.Generator) -> Anatomy:
    """Draw a person.

    Parameters
    ----------
    label_map : whose head is changed
    whole_head : keep everything; else what lies within some mm of the brain's box
    random : everything is drawn from it
    """
    numbers, edge = label_map.numbers, label_map.edge
    if random.random() < MIRRORED:
        numbers = mirrored_numbers()[numbers[:, :, ::-1]]
    start, stop = _box(numbers, 0.0 if whole_head else MARGIN_MM / edge, whole_head)
    positions = _positions(numbers, start, stop, edge, random)
    aged = _change_sulci(_sampled(numbers, positions), edge, random)
    corner = triple(float(value) * edge for value in reversed(start))
    return Anatomy(aged, edge, corner)


def _box(numbers: np.ndarray, margin: float, whole_head: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find the first voxel and the one after the last, of what is kept; may lie outside of the map."""
    kept = [number for number, structure in STRUCTURES.items() if number and (whole_head or structure.brain)]
    there = is_one_of(numbers, kept)
    edges = [np.flatnonzero(there.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    margin = int(np.ceil(margin))
    return (
        np.array([places[0] - margin for places in edges]),
        np.array([places[-1] + 1 + margin for places in edges]),
    )


def _positions(
    numbers: np.ndarray, start: np.ndarray, stop: np.ndarray, edge: float, random: np.random.Generator
) -> list[np.ndarray]:
    """Find where in the map each voxel of the box comes from: for each axis float32 of the box's shape."""
    shape = tuple(int(size) for size in stop - start)
    coarse = tuple(-(-size // COARSE) + 1 for size in shape)
    grid = np.stack(np.meshgrid(*(np.arange(size, dtype=np.float32) * COARSE for size in coarse), indexing="ij"))
    centre = ((stop - start - 1) / 2).reshape(3, 1, 1, 1)
    positions = np.tensordot(_affine(random), grid - centre, axes=1) + centre + start.reshape(3, 1, 1, 1)
    step = COARSE * edge
    for axis in range(3):
        for size, smoothness in BENDS_MM:
            positions[axis] += size * random.uniform(0.3, 1.3) / edge * smooth_field(coarse, smoothness / step, random)
    positions += _growth(numbers, positions, edge, random.uniform(*GROWTH_MM))
    weights = [linear_weights(size, COARSE, points) for size, points in zip(shape, coarse, strict=True)]
    return [sampled(one, weights) for one in positions]


def _affine(random: np.random.Generator) -> np.ndarray:
    """Draw size, stretch, turn and shear; float64 [3, 3], from places in the person to places in the map."""
    scale = np.diag(1 / (random.uniform(*SIZE) * (1 + random.uniform(-STRETCH, STRETCH, size=3))))
    shear = np.eye(3) + np.triu(random.uniform(-SHEAR, SHEAR, size=(3, 3)), 1)
    result = shear @ scale
    for axis, angle in enumerate(np.deg2rad(random.uniform(-TURN_DEGREES, TURN_DEGREES, size=3))):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def _growth(numbers: np.ndarray, positions: np.ndarray, edge: float, growth: float) -> np.ndarray:
    """Return what to add to the positions [3, z, y, x] so that the lateral ventricles grow by ``growth`` mm.

    Each voxel is taken from nearer to the ventricles, along the slope of their smoothed mask.
    """
    coarse = is_one_of(numbers[::COARSE, ::COARSE, ::COARSE], LATERAL_VENTRICLES).astype(np.float32)
    mask = ndimage.gaussian_filter(coarse, GROWTH_SMOOTHNESS_MM / (COARSE * edge))
    slope = np.stack(np.gradient(mask))
    steepest = np.linalg.norm(slope, axis=0).max()
    if steepest == 0:
        return np.zeros_like(positions)
    moved = [ndimage.map_coordinates(one, positions / COARSE, order=1, mode="nearest") for one in slope]
    return growth / edge * np.stack(moved) / steepest


def _sampled(numbers: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """Compute the nearest voxel of a map for each position; background outside of the map."""
    outside = np.zeros(positions[0].shape, dtype=bool)
    places = []
    for axis, one in enumerate(positions):
        place = np.rint(one).astype(np.int32)
        outside |= (place < 0) | (place >= numbers.shape[axis])
        places.append(np.clip(place, 0, numbers.shape[axis] - 1))
    return np.where(outside, 0, numbers[tuple(places)]).astype(np.int16)


def _change_sulci(numbers: np.ndarray, edge: float, random: np.random.Generator) -> np.ndarray:
    """Let fluid take the cortex's rim, or the cortex the fluid at it, more in some places than in others."""
    width = random.uniform(*SULCI)
    grower = numbers_of(FLUID) if width > 0 else CORTEX
    share = ndimage.gaussian_filter(is_one_of(numbers, grower).astype(np.float32), 1 / edge)
    coarse = tuple(-(-size // COARSE) + 1 for size in numbers.shape)
    uneven = smooth_field(coarse, SULCI_SMOOTHNESS_MM / (COARSE * edge), random)
    weights = [linear_weights(size, COARSE, points) for size, points in zip(numbers.shape, coarse, strict=True)]
    taken = share > 0.5 - abs(width) * (1 + 0.3 * sampled(np.clip(uneven, -2, 2), weights))
    if width > 0:
        return np.where(is_one_of(numbers, CORTEX) & taken, AROUND_THE_BRAIN, numbers).astype(np.int16)
    # The cortex that grows is that of the nearest side.
    grown = ndimage.maximum_filter(np.where(is_one_of(numbers, CORTEX), numbers, 0).astype(np.uint8), 3)
    return np.where((numbers == AROUND_THE_BRAIN) & taken & (grown > 0), grown, numbers).astype(np.int16)
