"""Scanners of many kinds: slices with gaps, blur, shading, coils, movement, spikes, noise and a scale of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps.faults.artefacts import add_ghosts, add_motion, add_spikes
from mmccd_auto.phantom.label_maps.faults.coils import coil_gain
from mmccd_auto.phantom.label_maps.sampling import profile_weights, sampled

PIXEL_MM, THICKNESS_MM, GAP = (1.0, 2.4), (2.0, 8.0), (0.0, 0.3)
"""Edge of a pixel, thickness of a slice, and the gap between two as a share of it."""
SHARE_OF_VOLUMES = 0.5
"""Scanned in three dimensions: no gap, and slices as thin as THIN_MM."""
THIN_MM = (1.0, 2.5)
BLUR = (0.2, 0.6)
SHADING, SHADING_SMOOTHNESS_MM = (0.0, 0.12), (30.0, 70.0)
NOISE = (0.006, 0.12)
GAIN = (200.0, 4000.0)
LARGEST_VALUE = float(np.iinfo(np.int16).max)
SHARES = {"coils": 0.7, "motion": 0.2, "ghosts": 0.15, "spikes": 0.05}
"""Of the scans, that have a fault."""
STRENGTHS = {"coils": (0.05, 1.0), "motion": (0.3, 3.0), "ghosts": (0.02, 0.2), "spikes": (0.03, 0.25)}


@dataclass(frozen=True)
class ScanFaults:
    """What is wrong with a scan; 0 where nothing is.

    Attributes
    ----------
    coils : exponent of the gain of the receiving coils
    motion : largest shift, mm, and turn, degrees, between parts of the measurement
    ghosts : swing of the phase, radians
    spikes : amplitude of the stripes relative to white matter
    """

    coils: float = 0.0
    motion: float = 0.0
    ghosts: float = 0.0
    spikes: float = 0.0


@dataclass(frozen=True)
class Grid:
    """A grid of slices over an anatomy, and what each of its voxels measures.

    Attributes
    ----------
    weights : matrices [new, old] along z, y, x
    pixel, slice_distance, thickness : mm
    by_slice : slices are measured one by one
    geometry : of the new voxels
    """

    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    pixel: float
    slice_distance: float
    thickness: float
    by_slice: bool
    geometry: Geometry

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Of the new voxels along z, y, x, mm."""
        return self.slice_distance, self.pixel, self.pixel


def draw_grid(
    shape: tuple[int, int, int],
    edge: float,
    corner: tuple[float, float, float],
    around: Geometry,
    random: np.random.Generator,
) -> Grid:
    """Draw axial slices over an anatomy.

    Parameters
    ----------
    shape : of the anatomy, z, y, x
    edge : mm, of its voxels
    corner : mm along x, y, z, from the first voxel of the label map to that of the anatomy
    around : geometry of the label map
    random : everything is drawn from it
    """
    pixel = random.uniform(*PIXEL_MM)
    by_slice = bool(random.random() >= SHARE_OF_VOLUMES)
    if by_slice:
        thickness, gap = log_uniform(*THICKNESS_MM, random), random.uniform(*GAP)
    else:
        thickness, gap = random.uniform(*THIN_MM), 0.0
    distance = thickness * (1 + gap)
    blur, offset = log_uniform(*BLUR, random) * pixel / edge, random.random()
    in_plane = [profile_weights(size, pixel / edge, pixel / edge, blur) for size in shape[1:]]
    through = profile_weights(shape[0], distance / edge, thickness / edge, blur, offset)
    first = np.array(
        [
            corner[0] + pixel / 2 - edge / 2,
            corner[1] + pixel / 2 - edge / 2,
            corner[2] + (0.5 + offset) * distance - edge / 2,
        ]
    )
    origin = np.array(around.origin) + np.reshape(around.direction, (3, 3)) @ first
    geometry = Geometry(
        (len(in_plane[1]), len(in_plane[0]), len(through)),
        (pixel, pixel, distance),
        triple(float(value) for value in origin),
        around.direction,
    )
    return Grid(triple([through, *in_plane]), pixel, distance, thickness, by_slice, geometry)


def draw_faults(random: np.random.Generator, strength: float) -> ScanFaults:
    """Draw what is wrong with a scan; everything is ``strength`` times as strong as scans usually have it."""
    # Always the same numbers are drawn, so that a strength changes nothing else.
    drawn = {
        name: (random.random() < SHARES[name]) * log_uniform(*limits, random) * strength
        for name, limits in STRENGTHS.items()
    }
    return ScanFaults(**drawn)


def scan(signal: np.ndarray, grid: Grid, faults: ScanFaults, random: np.random.Generator) -> np.ndarray:
    """Scan an anatomy: measured over slices, shaded, with the faults and Rician noise, at an arbitrary gain.

    Parameters
    ----------
    signal : [z, y, x] of the anatomy, relative to white matter
    grid : of the scan
    faults : what is wrong with it
    random : everything is drawn from it

    Returns
    -------
    float32 [z, y, x] of the grid, at least 0
    """
    # A generator for each step: what is drawn in one of them doesn't move the others.
    shading, coils, moving, swinging, sparking, noise = (
        np.random.default_rng(seed) for seed in random.integers(2**32, size=6)
    )
    measured = sampled(signal, grid.weights)
    measured = measured * np.exp(shading.uniform(*SHADING) * _shading(measured.shape, grid, shading))
    measured = measured * coil_gain(measured.shape, grid.spacing, coils, faults.coils)
    axis = int(moving.integers(1 if grid.by_slice else 0, 3))
    measured = add_motion(measured, grid.spacing, moving, faults.motion, axis)
    measured = add_ghosts(measured, swinging, faults.ghosts, axis)
    measured = add_spikes(measured, sparking, faults.spikes, grid.by_slice)
    level = log_uniform(*NOISE, noise)
    return (add_rician_noise(measured, noise, level) * random.uniform(*GAIN)).astype(np.float32)


def add_rician_noise(volume: np.ndarray, random: np.random.Generator, strength: float) -> np.ndarray:
    """Add normal noise to both channels of the receiver, and take the magnitude.

    Parameters
    ----------
    volume : float32, at least 0
    random : everything is drawn from it
    strength : standard deviation of each channel, in the volume's units
    """
    if strength == 0:
        return volume
    real, imaginary = np.float32(strength) * random.standard_normal((2, *volume.shape), dtype=np.float32)
    return np.hypot(volume + real, imaginary)


def _shading(shape: tuple[int, int, int], grid: Grid, random: np.random.Generator) -> np.ndarray:
    """Compute a smooth field [z, y, x], isotropic in mm: drawn on cubes, of which each slice takes its layer."""
    layers = max(1, round(shape[0] * grid.slice_distance / grid.pixel))
    field = smooth_field((layers, *shape[1:]), random.uniform(*SHADING_SMOOTHNESS_MM) / grid.pixel, random)
    return field[np.linspace(0, layers - 1, shape[0]).round().astype(int)]


def stored(scanned: np.ndarray) -> np.ndarray:
    """Compute a scan as files hold it, int16; values that would not fit end at the largest."""
    return np.clip(np.rint(scanned), 0, LARGEST_VALUE).astype(np.int16)


def log_uniform(low: float, high: float, random: np.random.Generator) -> float:
    """Draw evenly in the logarithm."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))
