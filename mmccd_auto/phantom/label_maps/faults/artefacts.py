"""What goes wrong while a scan is taken: movement between parts of k-space, ghosts, and spikes.

Every function gives the magnitude of the image that is left; a strength of 0 gives the volume itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

LARGEST_NUMBER_OF_MOVES = 4
SHARE_OF_INTERLEAVED = 0.5
SHOTS = (4, 25)
"""Interleaved: each shot takes every n-th line, so that movement gives ghosts. Else lines are taken in their order, and
movement gives blur and ringing."""
DEGREES_PER_MM = 1.0
CENTRAL_SHARE = 0.25
"""Of the lines, that decide where the person is seen: those of the lowest frequencies."""
GHOST_SHIFT = (0.1, 0.5)
"""Share of the field of view by which ghosts are displaced."""
SPIKE_FREQUENCY = (0.03, 0.4)
"""Cycles per voxel."""
SHARE_OF_SPIKED_SLICES = 0.15


def add_motion(
    volume: np.ndarray,
    spacing: tuple[float, float, float],
    random: np.random.Generator,
    strength: float,
    axis: int,
) -> np.ndarray:
    """Let the head move once or several times while the lines of k-space are measured.

    The person is seen at the pose in which most lines of low frequencies were measured, which is that of ``volume``.

    Parameters
    ----------
    volume : float32 [z, y, x], at least 0
    spacing : mm along z, y, x
    random : everything is drawn from it
    strength : largest shift along each axis, mm, and turn about it, degrees
    axis : along which lines are distinguished (phase encoding)

    Returns
    -------
    float32 of the same shape, at least 0
    """
    if strength == 0:
        return volume
    owners = _draw_owners(volume.shape[axis], random)
    smooth = ndimage.spline_filter(volume, order=3, output=np.float32, mode="nearest")
    poses = [volume]
    for _ in range(owners.max()):
        shift, turn = random.uniform(-strength, strength, size=(2, 3))
        poses.append(_turned(smooth, spacing, shift, np.deg2rad(turn * DEGREES_PER_MM)))
    return combine_segments(poses, owners, axis)


def combine_segments(poses: Sequence[np.ndarray], owners: np.ndarray, axis: int) -> np.ndarray:
    """Put an image together from lines of k-space that were measured while the head lay at several poses.

    Parameters
    ----------
    poses : volumes [z, y, x], the head at each pose
    owners : int [lines], number of the pose at which each line along ``axis`` was measured; the line of the mean comes
        first, as in numpy.fft
    axis : of the lines

    Returns
    -------
    float32 [z, y, x]
    """
    shape = [1, 1, 1]
    shape[axis] = len(owners)
    lines = fft.fft(poses[0], axis=axis)
    for number, pose in enumerate(poses[1:], start=1):
        lines = np.where(np.reshape(owners == number, shape), fft.fft(pose, axis=axis), lines)
    return np.abs(fft.ifft(lines, axis=axis)).astype(np.float32)


def add_ghosts(volume: np.ndarray, random: np.random.Generator, strength: float, axis: int) -> np.ndarray:
    """Repeat the image faintly on both sides, as breathing and pulsation do; at a drawn distance along ``axis``.

    Parameters
    ----------
    volume : float32 [z, y, x], at least 0
    random : everything is drawn from it
    strength : of the phase, radians; the first ghost has about half of it as its share of the signal
    axis : along which the phase of the lines swings
    """
    if strength == 0:
        return volume
    shift = random.uniform(*GHOST_SHIFT) * volume.shape[axis]
    return with_swinging_phase(volume, strength, shift, random.uniform(0, 2 * np.pi), axis)


def with_swinging_phase(volume: np.ndarray, strength: float, shift: float, start: float, axis: int) -> np.ndarray:
    """Let the phase of the lines of k-space swing, which puts ghosts at multiples of ``shift``.

    No power is lost. The image keeps the share J0(strength) of its amplitude; the n-th ghosts, on both sides, have
    Jn(strength).

    Parameters
    ----------
    volume : float32 [z, y, x]
    strength : amplitude of the swing, radians
    shift : voxels between two ghosts; the image is periodic
    start : of the swing at the line of the mean, radians
    axis : of the lines
    """
    size = volume.shape[axis]
    number = fft.fftfreq(size, 1 / size)
    shape = [1, 1, 1]
    shape[axis] = size
    swing = np.exp(1j * strength * np.sin(2 * np.pi * number * shift / size + start)).reshape(shape)
    return np.abs(fft.ifft(fft.fft(volume, axis=axis) * swing.astype(np.complex64), axis=axis)).astype(np.float32)


def add_spikes(volume: np.ndarray, random: np.random.Generator, strength: float, by_slice: bool) -> np.ndarray:
    """Lay stripes over a volume, or over some of its slices, as a spark during the measurement does.

    Parameters
    ----------
    volume : float32 [z, y, x], at least 0
    random : everything is drawn from it
    strength : amplitude of the stripes, in the volume's units
    by_slice : slices were measured one by one, so that a spike reaches one of them alone; one at least is hit
    """
    if strength == 0:
        return volume
    if not by_slice:
        direction = random.standard_normal(3)
        frequency = random.uniform(*SPIKE_FREQUENCY) * direction / np.linalg.norm(direction)
        return with_stripes(volume, strength, frequency, random.uniform(0, 2 * np.pi))
    result = volume.copy()
    hit = random.random(len(volume)) < SHARE_OF_SPIKED_SLICES * random.random()
    hit[random.integers(len(volume))] = True
    for number in np.flatnonzero(hit):
        angle, cycles = random.uniform(0, np.pi), random.uniform(*SPIKE_FREQUENCY)
        in_plane = (0.0, cycles * np.sin(angle), cycles * np.cos(angle))
        one = slice(number, number + 1)
        result[one] = with_stripes(volume[one], strength, in_plane, random.uniform(0, 2 * np.pi))
    return result


def with_stripes(volume: np.ndarray, amplitude: float, frequency: Sequence[float] | np.ndarray, phase: float) -> np.ndarray:
    """Add one point of k-space, which is a plane wave in the image, and take the magnitude.

    Parameters
    ----------
    volume : float32 [z, y, x]
    amplitude : of the wave, in the volume's units
    frequency : cycles per voxel along z, y, x
    phase : radians, of the wave at the first voxel
    """
    z, y, x = (
        np.exp(2j * np.pi * cycles * np.arange(size)).astype(np.complex64)
        for cycles, size in zip(frequency, volume.shape, strict=True)
    )
    wave = np.complex64(amplitude * np.exp(1j * phase)) * z[:, None, None] * y[:, None] * x
    return np.abs(volume + wave).astype(np.float32)


def _draw_owners(lines: int, random: np.random.Generator) -> np.ndarray:
    """Draw at which pose each line is measured; int [lines]. Pose 0 has most of those of low frequencies."""
    number = fft.fftfreq(lines, 1 / lines)
    if random.random() < SHARE_OF_INTERLEAVED:
        shots = int(random.integers(*SHOTS))
        time = (number % shots) / shots
    else:
        time = (number - number.min()) / lines
    moves = np.sort(random.random(int(random.integers(1, LARGEST_NUMBER_OF_MOVES + 1))))
    owners = np.searchsorted(moves, time)
    central = np.abs(number) <= CENTRAL_SHARE * lines / 2
    seen = np.bincount(owners[central]).argmax()
    # The poses have no order: the one that is seen takes the first one's place.
    return np.where(owners == seen, 0, np.where(owners == 0, seen, owners))


def _turned(smooth: np.ndarray, spacing: Sequence[float], shift: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Compute a volume after a rigid motion about its middle.

    Parameters
    ----------
    smooth : spline coefficients [z, y, x], see scipy.ndimage.spline_filter
    spacing : mm along z, y, x
    shift : mm along z, y, x
    turn : radians about z, y, x
    """
    rotation = np.eye(3)
    for axis, angle in enumerate(turn):
        first, second = (other for other in range(3) if other != axis)
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ one
    edges = np.asarray(spacing)
    middle = (np.array(smooth.shape) - 1) / 2
    # From voxels of the result to voxels of the source.
    matrix = rotation.T * edges[None, :] / edges[:, None]
    offset = middle - matrix @ middle - rotation.T @ shift / edges
    return ndimage.affine_transform(smooth, matrix, offset, order=3, mode="nearest", prefilter=False)
