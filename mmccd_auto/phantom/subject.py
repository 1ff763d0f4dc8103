"""One simulated person: anatomy, tissue, lesions, and the scans that a scanner makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.lesions import Lesion, place_lesion
from mmccd_auto.phantom.signal import HEALTHY, LESIONS, SEQUENCES, Relaxation, Sequence, signal
from mmccd_auto.phantom.tissue_maps import TISSUES, TissueMaps

DEFORMATIONS_MM = ((2.0, 14.0), (3.0, 40.0))
"""(size, smoothness) of the displacements: gyri differ on the small scale, whole lobes on the large one."""

ANATOMY_EXPONENT = 1.6
FLUID_BOOST = 0.3
FLUID_VARIATION = 0.3
FLUID_SMOOTHNESS_MM = 9.0
TEXTURE = 0.035
TEXTURE_SMOOTHNESS_MM = 5.0
BIAS = 0.07
BIAS_SMOOTHNESS_MM = 45.0
VARIATION_OF_TISSUE = 0.03
VARIATION_OF_SEQUENCE = 0.03
SIGNAL_TO_NOISE = (25.0, 40.0)


@dataclass(frozen=True)
class Acquisition:
    """How a person is scanned.

    Attributes
    ----------
    slice_thickness : mm along the body axis, a multiple of the simulation's resolution
    orientation : code in which the file is stored, "LPS" or another
    tilt : degrees about the left-right axis by which the slices are oblique
    """

    slice_thickness: float
    orientation: str = "LPS"
    tilt: float = 0.0


@dataclass(frozen=True)
class Subject:
    """A simulated person: scans by modality (background exactly 0), and the lesions' mask (uint8), all on one grid."""

    scans: dict[str, Volume]
    label: Volume


def simulate_subject(
    maps: TissueMaps, acquisition: Acquisition, lesions: tuple[Lesion, ...], random: np.random.Generator
) -> Subject:
    """Simulate a person.

    Parameters
    ----------
    maps : anatomy before it is deformed, on an isotropic grid
    acquisition : grid of the scans
    lesions : what the person has
    random : everything is drawn from it
    """
    spacing = maps.geometry.spacing[0]
    shares = individual(deformed(maps.shares, spacing, random), spacing, random)
    kinds, lesion_shares = [], []
    occupied = np.zeros(shares.shape[1:], dtype=np.float32)
    for lesion in lesions:
        replaced = place_lesion(lesion, shares, occupied, spacing, random)
        tissue = shares[:-1].sum(axis=0)
        share = replaced * tissue
        shares = np.concatenate([shares[:-1] * (1 - replaced), shares[-1:]])
        kinds.append(lesion.kind)
        lesion_shares.append(share)
        occupied = occupied + share
    tissues = _tissues(kinds, random)
    shares = np.concatenate([shares, np.stack(lesion_shares)]) if lesion_shares else shares
    texture = [smooth_field(occupied.shape, TEXTURE_SMOOTHNESS_MM / spacing, random) for _ in range(2)]
    thick = max(1, round(acquisition.slice_thickness / spacing))
    brain = _slices(shares.sum(axis=0), thick) > 0.5
    geometry = _geometry(maps.geometry, thick, brain.shape, acquisition.tilt)
    anatomy = _Anatomy(shares, tissues, texture)
    scans = {
        modality: _stored(
            _scan(anatomy, _varied_sequence(sequence, random), thick, brain, geometry.spacing[0], random),
            geometry,
            acquisition,
        )
        for modality, sequence in SEQUENCES.items()
    }
    label = (_slices(occupied, thick) > 0.5) & brain
    return Subject(scans, _stored(label.astype(np.uint8), geometry, acquisition))


def deformed(shares: np.ndarray, spacing: float, random: np.random.Generator) -> np.ndarray:
    """Deform tissue shares [T, z, y, x] by a random affine and a smooth deformation.

    The affine is of a few per cent and degrees, the deformation of a few mm.
    """
    shape = shares.shape[1:]
    # The template is larger than most brains, and sampling it further apart shrinks it.
    scale = random.uniform(1.0, 1.12) * random.uniform(0.97, 1.03, size=3)
    angles = np.deg2rad(random.uniform(-4, 4, size=3))
    matrix = _rotation(angles) * scale
    centre = (np.array(shape) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(edge, dtype=np.float32) for edge in shape), indexing="ij"))
    positions = np.tensordot(matrix, grid - centre.reshape(3, 1, 1, 1), axes=1) + centre.reshape(3, 1, 1, 1)
    for axis in range(3):
        for size, smoothness in DEFORMATIONS_MM:
            positions[axis] += size / spacing * smooth_field(shape, smoothness / spacing, random)
    return np.stack([ndimage.map_coordinates(share, positions, order=1, mode="constant") for share in shares])


def individual(shares: np.ndarray, spacing: float, random: np.random.Generator) -> np.ndarray:
    """Make one person's anatomy of the population's average: sharp borders, and sulci of the person's own width.

    The average of many brains is blurred. Shares are raised to a power, fluid after a smooth random boost, and normalised
    so that their sum (the share of brain) stays.
    """
    brain = shares.sum(axis=0)
    variation = smooth_field(brain.shape, FLUID_SMOOTHNESS_MM / spacing, random)
    boost = FLUID_BOOST + FLUID_VARIATION * np.clip(variation, -2, 2)
    sharpened = np.concatenate([shares[:-1], shares[-1:] * np.exp(boost)]) ** ANATOMY_EXPONENT
    return (sharpened * (brain / np.maximum(sharpened.sum(axis=0), 1e-6))).astype(np.float32)


def _tissues(kinds: list[str], random: np.random.Generator) -> list[Relaxation]:
    """Return the person's own relaxation times: healthy tissues first, then each lesion's."""
    found = []
    for tissue in [HEALTHY[name] for name in TISSUES] + [LESIONS[kind] for kind in kinds]:
        t1, t2, density = random.normal(1, VARIATION_OF_TISSUE, size=3)
        found.append(Relaxation(tissue.t1 * t1, tissue.t2 * t2, tissue.density * (1 + (density - 1) / 3)))
    return found


def _varied_sequence(sequence: Sequence, random: np.random.Generator) -> Sequence:
    """Return the scanner's own timing; the inversion time is left, since every scanner sets it to null fluid."""
    repetition, echo = random.normal(1, VARIATION_OF_SEQUENCE, size=2)
    return replace(sequence, repetition_time=sequence.repetition_time * repetition, echo_time=sequence.echo_time * echo)


@dataclass(frozen=True)
class _Anatomy:
    """What a scanner sees: the share of each tissue [T, z, y, x], their relaxation, and the texture of T1 and of T2."""

    shares: np.ndarray
    tissues: list[Relaxation]
    texture: list[np.ndarray]


def _scan(
    anatomy: _Anatomy, sequence: Sequence, thick: int, brain: np.ndarray, in_plane: float, random: np.random.Generator
) -> np.ndarray:
    """Compute one brain-extracted scan, int16 [z, y, x].

    Signals mixed by share, shaded, with Rician noise, 0 outside the brain.
    """
    shares, tissues, texture = anatomy.shares, anatomy.tissues, anatomy.texture
    total = np.zeros(shares.shape[1:], dtype=np.float32)
    for share, tissue in zip(shares, tissues, strict=True):
        textured = Relaxation(tissue.t1 * (1 + TEXTURE * texture[0]), tissue.t2 * (1 + TEXTURE * texture[1]), tissue.density)
        total += share * signal(textured, sequence)
    measured = _slices(total, thick)
    measured = measured * np.exp(BIAS * smooth_field(measured.shape, BIAS_SMOOTHNESS_MM / in_plane, random))
    sigma = float(signal(tissues[0], sequence)) / random.uniform(*SIGNAL_TO_NOISE)
    noise = sigma * random.standard_normal((2, *measured.shape)).astype(np.float32)
    gain = random.uniform(1500, 4000)
    scanned = np.rint(gain * np.hypot(measured + noise[0], noise[1]))
    return np.where(brain, np.clip(scanned, 1, np.iinfo(np.int16).max), 0).astype(np.int16)


def _slices(volume: np.ndarray, thick: int) -> np.ndarray:
    """Compute the mean of every ``thick`` layers along the body axis (a box-shaped slice profile without gaps)."""
    count = volume.shape[0] // thick
    return volume[: count * thick].reshape(count, thick, *volume.shape[1:]).mean(axis=1)


def _geometry(geometry: Geometry, thick: int, shape: tuple[int, ...], tilt: float) -> Geometry:
    """Find where the thick slices lie; the tilt turns person and slices together, as a tilted head does."""
    direction = np.array(geometry.direction).reshape(3, 3)
    origin = np.array(geometry.origin) + direction[:, 2] * geometry.spacing[2] * (thick - 1) / 2
    turn = _rotation(np.array([np.deg2rad(tilt), 0.0, 0.0]))
    return Geometry(
        triple(int(edge) for edge in reversed(shape)),
        (geometry.spacing[0], geometry.spacing[1], geometry.spacing[2] * thick),
        triple(float(value) for value in turn @ origin),
        tuple(float(value) for value in (turn @ direction).ravel()),
    )


def _stored(array: np.ndarray, geometry: Geometry, acquisition: Acquisition) -> Volume:
    image = Volume(array, geometry).to_image()
    return Volume.from_image(sitk.DICOMOrient(image, acquisition.orientation))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Compute the rotation matrix about the three axes in turn, angles in radians."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ one
    return result
