"""A simulated head around a brain-extracted scan, to try brain extraction where the brain is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.orientation import from_canonical, to_canonical
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.signal import HEALTHY, SEQUENCES, Relaxation, signal

SIDES_MM, BELOW_MM = 32.0, 70.0
"""How far the field of view reaches beyond the brain, where the brain doesn't touch the border of the scan."""

HULL_MM = 10.0
EYE_RADIUS_MM = 12.0
CORD_RADIUS_MM = 6.0
SIGNAL_TO_NOISE = 30.0

TISSUES = {
    "fluid": HEALTHY["fluid"],
    "dura": Relaxation(900, 45, 0.60),
    "bone": Relaxation(400, 5, 0.10),
    "marrow": Relaxation(420, 70, 0.50),
    "fat": Relaxation(260, 84, 0.90),
    "muscle": Relaxation(870, 47, 0.80),
    "cord": HEALTHY["white matter"],
}
"""Fat and muscle at 1.5 T after de Bazelaire et al. (Radiology 230, 2004) and Stanisz et al. (Magn. Reson. Med. 54, 2005),
rounded; bone, marrow and dura are our choice, so that they look as in clinical scans."""

FAT_SUPPRESSION = {"FLAIR": (0.3, 0.8), "T1": (0.85, 1.0), "T2": (0.6, 1.0)}
"""What is left of fat's signal: clinical FLAIR is often acquired with fat suppression."""


@dataclass(frozen=True)
class _Place:
    """Where one is in the head.

    Attributes
    ----------
    brain : bool [z, y, x]
    hull : float32 [z, y, x], mm from the smooth hull of the brain; negative inside
    left, behind, above : float32, broadcast to [z, y, x], mm from the middle of the brain's box (LPS)
    half : mm, half the edges of the brain's box along x, y, z
    spacing : mm along z, y, x
    """

    brain: np.ndarray
    hull: np.ndarray
    left: np.ndarray
    behind: np.ndarray
    above: np.ndarray
    half: tuple[float, float, float]
    spacing: tuple[float, float, float]

    def field(self, smoothness: float, random: np.random.Generator) -> np.ndarray:
        """Smooth noise, ``smoothness`` in mm; float32 [z, y, x] of mean 0 and standard deviation 1."""
        # The noise is drawn on coarse cubes, so that thick slices don't make it rough.
        edge = smoothness / 3
        shape = tuple(
            int(np.ceil(count * step / edge)) + 2 for count, step in zip(self.brain.shape, self.spacing, strict=True)
        )
        coarse = smooth_field(shape, 3.0, random)
        positions = [np.arange(count) * step / edge for count, step in zip(self.brain.shape, self.spacing, strict=True)]
        return _interpolated(coarse, positions)


def with_simulated_head(volume: Volume, brain: np.ndarray, modality: str, random: np.random.Generator) -> Volume:
    """Put a brain-extracted scan into a simulated head.

    From the brain outwards: fluid in sulci and in a gap that varies and closes here and there, dura, a skull of two dark
    tables with marrow between them, fat and skin, all of smoothly varying thickness; frontal sinus, eyes and a face in
    front of and below the brain, a neck with the spinal cord going on from the brain stem; noise in the air. The brain's
    own voxels are not changed. The field of view grows where the brain doesn't touch its border.

    Parameters
    ----------
    volume : scan, about 0 outside the brain
    brain : bool [z, y, x]
    modality : "FLAIR", "T1" or "T2"

    Returns
    -------
    float32 volume in the axes of ``volume``; larger, on the same lattice of voxels

    Raises
    ------
    MMCCDError
        If the modality has no simulated sequence or the brain is empty.
    """
    if modality not in SEQUENCES:
        raise MMCCDError(f"{modality} has no simulated head: choose one of {', '.join(SEQUENCES)}.")
    if not brain.any():
        raise MMCCDError("The simulated head needs a brain, but the mask is empty.")
    padded, mask = _padded(to_canonical(volume), to_canonical(Volume(brain.astype(np.uint8), volume.geometry)).array > 0)
    place = _place(mask, padded.geometry.spacing)
    tissue = _tissues(place, random)
    values = _signals(modality, random)
    array = padded.array.astype(np.float32)
    inside = float(np.median(array[mask]))
    gain = inside / (0.5 * (_of("white matter", modality) + _of("grey matter", modality)))
    clean = gain * _softened(values[tissue], mask, place)
    sigma = inside / SIGNAL_TO_NOISE
    noise = sigma * random.standard_normal((2, *array.shape)).astype(np.float32)
    simulated = np.where(mask, array, np.hypot(clean + noise[0], noise[1])).astype(np.float32)
    return _as_stored(Volume(simulated, padded.geometry), volume.geometry)


def mask_on(brain: np.ndarray, geometry: Geometry, larger: Geometry) -> np.ndarray:
    """Compute the brain on the field of view that :func:`with_simulated_head` made; bool [z, y, x].

    Parameters
    ----------
    brain : bool [z, y, x] on ``geometry``
    larger : of the result, on the same lattice of voxels
    """
    direction = np.reshape(geometry.direction, (3, 3))
    offset = (np.array(geometry.origin) - larger.origin) @ direction / geometry.spacing
    first = np.rint(offset).astype(int)[::-1]
    result = np.zeros(tuple(reversed(larger.size)), dtype=bool)
    result[tuple(slice(start, start + edge) for start, edge in zip(first, brain.shape, strict=True))] = brain
    return result


def _padded(volume: Volume, brain: np.ndarray) -> tuple[Volume, np.ndarray]:
    """Return the canonical volume and its brain on a field of view with room for the head."""
    spacing = np.array(volume.geometry.spacing)[::-1]
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    wanted = ((BELOW_MM, SIDES_MM), (SIDES_MM, SIDES_MM), (SIDES_MM, SIDES_MM))
    widths = []
    for axis in range(3):
        free = (box[axis].start, brain.shape[axis] - box[axis].stop)
        widths.append(
            tuple(
                max(0, int(np.ceil(room / spacing[axis])) - have) if have else 0
                for have, room in zip(free, wanted[axis], strict=True)
            )
        )
    array = np.pad(volume.array, widths, mode="constant")
    before = np.array([width[0] for width in widths])[::-1] * volume.geometry.spacing
    origin = np.array(volume.geometry.origin) - np.reshape(volume.geometry.direction, (3, 3)) @ before
    geometry = Geometry(
        triple(int(edge) for edge in reversed(array.shape)),
        volume.geometry.spacing,
        triple(float(value) for value in origin),
        volume.geometry.direction,
    )
    return Volume(array, geometry), np.pad(brain, widths, mode="constant")


def _as_stored(volume: Volume, original: Geometry) -> Volume:
    """Return a grown canonical volume in the axes of the scan it was made of."""
    # The scan's own size and origin no longer fit; its axes are all that the way back needs.
    direction = np.reshape(original.direction, (3, 3))
    corners = (volume.geometry.corners() - volume.geometry.corners()[0]) @ direction / original.spacing
    lowest = corners.min(axis=0)
    size = np.rint(corners.max(axis=0) - lowest).astype(int) + 1
    origin = volume.geometry.corners()[0] + direction @ (lowest * original.spacing)
    grown = Geometry(
        triple(int(edge) for edge in size),
        original.spacing,
        triple(float(value) for value in origin),
        original.direction,
    )
    return from_canonical(volume, grown)


def _place(brain: np.ndarray, spacing: tuple[float, float, float]) -> _Place:
    steps = triple(float(step) for step in reversed(spacing))
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    axes = []
    for axis, step in enumerate(steps):
        middle = (box[axis].start + box[axis].stop - 1) / 2
        shape = [1, 1, 1]
        shape[axis] = -1
        axes.append(((np.arange(brain.shape[axis]) - middle) * step).astype(np.float32).reshape(shape))
    half = tuple((box[axis].stop - box[axis].start) * steps[axis] / 2 for axis in (2, 1, 0))
    return _Place(brain, _hull_distance(brain, steps), axes[2], axes[1], axes[0], half, steps)


def _hull_distance(brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Measure the distance in mm from the brain after closing its fissures; negative inside."""
    grown = ndimage.distance_transform_edt(~brain, sampling=spacing) <= HULL_MM
    inwards = ndimage.distance_transform_edt(grown, sampling=spacing)
    closed = (inwards > HULL_MM) | brain
    outside = ndimage.distance_transform_edt(~closed, sampling=spacing)
    return (outside - np.where(closed, 1.0, 0.0)).astype(np.float32)


def _tissues(place: _Place, random: np.random.Generator) -> np.ndarray:
    """Return the index into the names of TISSUES + air of every voxel, uint8 [z, y, x]; meaningless inside the brain."""
    number = {name: index for index, name in enumerate((*TISSUES, "air"))}
    gap = np.maximum(0.0, 1.5 + 1.5 * place.field(18.0, random))
    dura = gap + 0.8 + 0.4 * np.clip(place.field(12.0, random), -1, 1)
    thickness = np.clip(6.0 + 1.8 * place.field(22.0, random), 3.0, 12.0)
    # The skull thickens towards the forehead and the back of the head.
    thickness = thickness + 2.5 * (place.behind / place.half[1]) ** 2
    marrow = np.clip(0.35 + 0.2 * place.field(15.0, random), 0.0, 0.6) * thickness
    table = (thickness - marrow) / 2
    fat = np.clip(5.0 + 2.0 * place.field(25.0, random), 2.0, 14.0)
    skin = 1.5
    depth = place.hull
    result = np.full(place.brain.shape, number["air"], dtype=np.uint8)
    scalp = dura + thickness + fat
    _face_and_neck(result, number, place, random)
    upper = place.above > -0.75 * place.half[2] + 12 * np.clip(place.field(40.0, random), -1, 1)
    for limit, name in (
        (scalp + skin, "muscle"),
        (scalp, "fat"),
        (dura + thickness, "bone"),
        (dura + table + marrow, "marrow"),
        (dura + table, "bone"),
    ):
        result[(depth <= limit) & upper] = number[name]
    _skull_base(result, number, place, dura, upper, random)
    result[depth <= dura] = number["dura"]
    result[depth <= gap] = number["fluid"]
    _cord(result, number, place)
    return result


def _face_and_neck(result: np.ndarray, number: dict[str, int], place: _Place, random: np.random.Generator) -> None:
    """Return muscle, fat and air cavities below and in front of the brain, and the eyes."""
    across, along, up = place.half
    neck = ((place.left / 60) ** 2 + ((place.behind - 0.15 * along) / 65) ** 2 <= 1) & (place.above < -0.5 * up)
    face = (
        ((place.left / (0.9 * across)) ** 2 + ((place.behind + 0.55 * along) / (0.6 * along)) ** 2 <= 1)
        & (place.above < -0.35 * up)
        & (place.hull > 0)
    )
    texture = place.field(8.0, random)
    soft = neck | face
    result[soft] = number["muscle"]
    result[soft & (texture > 0.6)] = number["fat"]
    result[face & (texture < -1.0)] = number["air"]
    result[neck & ~face & (texture < -1.5)] = number["bone"]
    for side in (-1, 1):
        eye = (place.left - side * 32) ** 2 + (place.behind + along + 2) ** 2 + (place.above + 0.45 * up) ** 2
        result[eye <= (EYE_RADIUS_MM + 4) ** 2] = number["fat"]
        result[eye <= EYE_RADIUS_MM**2] = number["fluid"]


def _skull_base(
    result: np.ndarray,
    number: dict[str, int],
    place: _Place,
    dura: np.ndarray,
    upper: np.ndarray,
    random: np.random.Generator,
) -> None:
    """Return the bone of uneven thickness between the brain and what lies below it."""
    bone = np.clip(4.0 + 3.0 * place.field(14.0, random), 0.0, 12.0)
    base = (place.hull <= dura + bone) & ~upper
    result[base] = number["bone"]
    sinus = (place.hull <= dura + 12) & (place.hull > dura + 3) & (np.abs(place.left) < 18)
    sinus = sinus & (place.behind < -0.9 * place.half[1]) & (place.above < -0.05 * place.half[2])
    result[sinus] = number["air"]


def _cord(result: np.ndarray, number: dict[str, int], place: _Place) -> None:
    """Return the spinal cord in its fluid, from the lowest part of the brain to the bottom of the field of view."""
    lowest = int(np.flatnonzero(place.brain.any(axis=(1, 2)))[0])
    section = place.brain[lowest]
    labels, _ = ndimage.label(section)
    stem = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    rows, columns = (float(np.mean(axis)) for axis in np.nonzero(stem))
    y, x = np.ogrid[: section.shape[0], : section.shape[1]]
    radius = np.hypot((y - rows) * place.spacing[1], (x - columns) * place.spacing[2])
    for limit, name in ((CORD_RADIUS_MM + 5, "bone"), (CORD_RADIUS_MM + 3, "fluid"), (CORD_RADIUS_MM, "cord")):
        result[:lowest][:, radius <= limit] = number[name]


def _signals(modality: str, random: np.random.Generator) -> np.ndarray:
    """Compute the signal of each of TISSUES and of air, float32."""
    values = {name: float(signal(tissue, SEQUENCES[modality])) for name, tissue in TISSUES.items()}
    left = random.uniform(*FAT_SUPPRESSION[modality])
    values["fat"] *= left
    values["marrow"] *= left
    return np.array([*values.values(), 0.0], dtype=np.float32)


def _of(tissue: str, modality: str) -> float:
    return float(signal(HEALTHY[tissue], SEQUENCES[modality]))


def _softened(values: np.ndarray, brain: np.ndarray, place: _Place) -> np.ndarray:
    """Blur by half a millimetre, without drawing on what stands for the brain."""
    sigma = [0.5 / step for step in place.spacing]
    outside = (~brain).astype(np.float32)
    weight = ndimage.gaussian_filter(outside, sigma)
    return ndimage.gaussian_filter(values * outside, sigma) / np.maximum(weight, 1e-3)


def _interpolated(field: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """Interpolate linearly at the grid of ``positions`` (index units along each axis)."""
    for axis, where in enumerate(positions):
        low = np.minimum(where.astype(int), field.shape[axis] - 2)
        shape = [1, 1, 1]
        shape[axis] = -1
        share = (where - low).astype(np.float32).reshape(shape)
        field = np.take(field, low, axis=axis) * (1 - share) + np.take(field, low + 1, axis=axis) * share
    return field
