"""Rigid registration of one scan of a person onto another, by mutual information."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry, Volume

COARSE_MM, MIDDLE_MM, FINE_MM = 6.0, 3.0, 1.5
"""Voxel edges of the three levels; a scan that is coarser than that is left as it is along that axis."""

START_ANGLES = (-20.0, 0.0, 20.0)
"""Degrees about each axis at which the search begins, in all 27 combinations."""

STARTS_KEPT = 4
SAMPLES = 40_000
BINS = 32
SEED = 20230816
SPARE_MM, SPARE_DEGREES = 2.0, 2.0
"""Headers agree where moving the scan by so much, whichever way, makes the likeness worse."""

LEVER_MM = 70.0
"""Half of a head: a radian moves its edge by so much."""

POLISHING_MM, POLISHING_STEPS = 4.0, 300
DISTURBANCE_MM, DISTURBANCE_DEGREES = 8.0, 8.0
LEAST_CONTRAST = 1.2
LEAST_OVERLAP = 0.5
MARGIN_MM = 12.0
"""Likeness counts this far beyond the head: its edge says more of the place than what is inside."""


@dataclass(frozen=True)
class Registration:
    """How a scan came to lie on another.

    Attributes
    ----------
    transform : takes a point (mm, LPS) of the fixed scan to the same point of the person in the moving one
    moved : False where the headers agreed already and the transform is the identity
    shift : mm, mean distance over the head between where the header put a point and where it belongs
    angle : degrees of the rotation
    likeness : normalised mutual information after registration, 1 (nothing in common) .. 2
    likeness_before : the same by the headers alone
    contrast : how far the likeness stands out: its excess over 1, relative to the mean excess when the scan is disturbed by
        8 mm or 8 degrees; about 1 means that the place isn't better than others
    """

    transform: sitk.Transform
    moved: bool
    shift: float
    angle: float
    likeness: float
    likeness_before: float
    contrast: float

    @property
    def convincing(self) -> bool:
        """The likeness is clearly a maximum."""
        return self.contrast >= LEAST_CONTRAST


def register(fixed: Volume, moving: Volume, region: np.ndarray | None = None, name: str = "the scans") -> Registration:
    """Find the rigid motion that lays ``moving`` on ``fixed``.

    Mattes mutual information (Mattes et al. 2003) on three levels of resolution. The search begins at the headers' own
    position and at the centres of mass with 27 rotations, of which the most promising are followed; that finds rotations
    of up to 30 degrees and any shift. Deterministic: sample points are drawn with a fixed seed, in one thread.

    Parameters
    ----------
    fixed, moving : scans of one person, of any two modalities, with or without skull
    region : bool [z, y, x] of ``fixed``, where likeness counts (the brain, say, with a margin); None takes the whole head
    name : of the pair, named in errors

    Raises
    ------
    MMCCDError
        If one of the scans has no contrast, or the search fails.
    """
    with one_thread():
        return _register(_Pair.of(fixed, moving, region, name), name)


def _register(pair: _Pair, name: str) -> Registration:
    header = sitk.Euler3DTransform()
    header.SetCenter(pair.centre)
    before = pair.likeness(header)
    if before is not None and all(
        (pair.likeness(one) or 0.0) < before for one in _disturbed(header, SPARE_MM, SPARE_DEGREES)
    ):
        return pair.result(header, False, before)
    starts = [header, *_starts(pair)]
    rated = sorted(starts, key=lambda start: -(pair.likeness(start) or 0.0))
    kept = list({id(start): start for start in [header, *rated[:STARTS_KEPT]]}.values())
    # ITK's own measure may lead away from what is likest, so each step must prove itself.
    best = pair.likest([*kept, *(pair.search(start, COARSE_MM) for start in kept)])
    for edge in (MIDDLE_MM, FINE_MM):
        best = pair.likest([best, pair.search(best, edge)])
    best = pair.polish(best)
    if pair.likeness(best) is None:
        raise MMCCDError(f"{name} could not be laid on each other: are they of one person, and one part of the head?")
    return pair.result(best, True, before)


def resample_onto(moving: Volume, geometry: Geometry, transform: sitk.Transform) -> Volume:
    """Resample ``moving`` on another grid, interpolated linearly; what lies outside of it gets its lowest value.

    Parameters
    ----------
    geometry : of the result
    transform : from points of the result to points of ``moving``, as of :class:`Registration`

    Returns
    -------
    float32 volume on ``geometry``
    """
    image = moving.to_image()
    lowest = float(moving.array.min())
    size, spacing = [int(edge) for edge in geometry.size], geometry.spacing
    resampled = sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32),
        size,
        transform,
        sitk.sitkLinear,
        geometry.origin,
        spacing,
        geometry.direction,
        lowest,
    )
    return Volume(sitk.GetArrayFromImage(resampled), geometry)


@dataclass(frozen=True)
class _Pair:
    """Two scans, prepared for likeness and search.

    Attributes
    ----------
    fixed, moving : float images, clipped to their 0.5th .. 99.5th percentile and scaled to 0..1
    mask : uint8 image on the grid of ``fixed``, where likeness counts
    points : float64 [n, 3], mm, drawn from the mask
    values : of ``fixed`` there
    centre : mm, of the mask
    moving_centre : mm, centre of mass of the moving head
    """

    fixed: sitk.Image
    moving: sitk.Image
    mask: sitk.Image
    points: np.ndarray
    values: np.ndarray
    centre: tuple[float, float, float]
    moving_centre: tuple[float, float, float]
    name: str

    @classmethod
    def of(cls, fixed: Volume, moving: Volume, region: np.ndarray | None, name: str) -> _Pair:
        images = [_scaled(volume, name) for volume in (fixed, moving)]
        inside = _head(images[0]) if region is None else np.asarray(region, dtype=bool)
        around = _dilated(inside, fixed.geometry.spacing, MARGIN_MM)
        if not inside.any():
            raise MMCCDError(f"{name} could not be laid on each other: one of them is nothing but background; look at both.")
        mask = Volume(around.astype(np.uint8), fixed.geometry).to_image()
        random = np.random.default_rng(SEED)
        indices = np.argwhere(around)[:, ::-1]
        drawn = indices[random.integers(0, len(indices), SAMPLES)] + random.uniform(-0.5, 0.5, (SAMPLES, 3))
        points = _to_points(drawn, fixed.geometry)
        centres = [_centre(_head(images[1]), moving.geometry), _centre(inside, fixed.geometry)]
        values = np.nan_to_num(_values_at(images[0], points))
        return cls(images[0], images[1], mask, points, values, centres[1], centres[0], name)

    def likeness(self, transform: sitk.Euler3DTransform) -> float | None:
        """Compute the normalised mutual information (Studholme et al. 1999), 1..2.

        None where less than half of the points lie in the moving scan. Those outside of it count as background, or the
        likeness would grow as the scans part.
        """
        moved = _values_at(self.moving, _transformed(transform, self.points))
        if np.count_nonzero(np.isfinite(moved)) < LEAST_OVERLAP * len(moved):
            return None
        joint, _, _ = np.histogram2d(self.values, np.nan_to_num(moved), BINS, range=((0, 1), (0, 1)))
        joint /= joint.sum()
        return float((_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / max(_entropy(joint), 1e-12))

    def likest(self, transforms: Sequence[sitk.Euler3DTransform]) -> sitk.Euler3DTransform:
        """Return the one of the greatest likeness."""
        return max(transforms, key=lambda one: self.likeness(one) or 0.0)

    def search(self, start: sitk.Euler3DTransform, edge: float) -> sitk.Euler3DTransform:
        """Follow the mutual information uphill from ``start`` at a resolution of ``edge`` mm."""
        fixed, mask = _coarsened(self.fixed, edge), sitk.Resample(self.mask, _coarsened(self.fixed, edge))
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(mask)
        share = min(1.0, SAMPLES / max(1, int(sitk.GetArrayViewFromImage(mask).sum())))
        if share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=edge, minStep=0.005 * edge, numberOfIterations=150, relaxationFactor=0.6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        transform = sitk.Euler3DTransform(start)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(fixed, _coarsened(self.moving, edge))
        except RuntimeError:
            # The scans have left each other: this start leads nowhere, and its likeness says so.
            return sitk.Euler3DTransform(start)
        return transform

    def polish(self, start: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
        """Climb the last millimetre by the likeness itself (Powell 1964), whose maximum is sharper than that of ITK's."""
        scale = np.array([1 / LEVER_MM] * 3 + [1.0] * 3)
        first = np.array(start.GetParameters())

        def at(steps: np.ndarray) -> sitk.Euler3DTransform:
            moved = sitk.Euler3DTransform(start)
            moved.SetParameters((first + steps * scale).tolist())
            return moved

        options = {"xtol": 0.02, "ftol": 1e-6, "maxfev": POLISHING_STEPS, "direc": 0.5 * np.eye(6)}
        bounds = [(-POLISHING_MM, POLISHING_MM)] * 6
        found = optimize.minimize(
            lambda steps: -(self.likeness(at(steps)) or 0.0), np.zeros(6), method="Powell", bounds=bounds, options=options
        )
        return at(found.x)

    def result(self, transform: sitk.Euler3DTransform, moved: bool, before: float | None) -> Registration:
        likeness = self.likeness(transform) or 1.0
        others = [self.likeness(one) or 1.0 for one in _disturbed(transform, DISTURBANCE_MM, DISTURBANCE_DEGREES)]
        distance = np.linalg.norm(_transformed(transform, self.points) - self.points, axis=1)
        matrix = np.reshape(transform.GetMatrix(), (3, 3))
        return Registration(
            transform=transform,
            moved=moved,
            shift=float(distance.mean()),
            angle=float(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))),
            likeness=likeness,
            likeness_before=before or 1.0,
            contrast=float((likeness - 1) / max(float(np.mean(others)) - 1, 1e-6)),
        )


class _Users:
    """How many callers ask ITK for one thread at this moment, and how many it had before: the number is one for all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.before = 1


_users = _Users()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let ITK work in one thread: it adds up what its threads find in the order in which they come."""
    with _users.lock:
        if _users.count == 0:
            _users.before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        _users.count += 1
    try:
        yield
    finally:
        with _users.lock:
            _users.count -= 1
            if _users.count == 0:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(_users.before)


def _starts(pair: _Pair) -> list[sitk.Euler3DTransform]:
    shift = [there - here for there, here in zip(pair.moving_centre, pair.centre, strict=True)]
    found = []
    for angles in itertools.product(np.radians(START_ANGLES), repeat=3):
        start = sitk.Euler3DTransform()
        start.SetCenter(pair.centre)
        start.SetRotation(*(float(angle) for angle in angles))
        start.SetTranslation(shift)
        found.append(start)
    return found


def _disturbed(transform: sitk.Euler3DTransform, millimetres: float, degrees: float) -> list[sitk.Euler3DTransform]:
    """Return the transform moved either way along and about each axis."""
    found = []
    for position, step in itertools.product(range(6), (-1, 1)):
        parameters = list(transform.GetParameters())
        parameters[position] += step * (np.radians(degrees) if position < 3 else millimetres)
        one = sitk.Euler3DTransform(transform)
        one.SetParameters(parameters)
        found.append(one)
    return found


def _scaled(volume: Volume, name: str) -> sitk.Image:
    array = np.asarray(volume.array, dtype=np.float32)
    low, high = np.percentile(array, (0.5, 99.5))
    if not high > low:
        raise MMCCDError(f"{name} could not be laid on each other: one of them has no contrast; look at both.")
    return Volume(np.clip((array - low) / (high - low), 0, 1), volume.geometry).to_image()


def _head(image: sitk.Image) -> np.ndarray:
    """Return what is brighter than the background, filled.

    By Otsu 1979, on the logarithm, which splits air from dark tissue.
    """
    array = sitk.GetArrayFromImage(image)
    bright = np.log(array + 0.02)
    threshold = sitk.OtsuThreshold(sitk.GetImageFromArray(bright), 0, 1)
    return ndimage.binary_fill_holes(sitk.GetArrayFromImage(threshold) > 0)


def _dilated(inside: np.ndarray, spacing: tuple[float, float, float], millimetres: float) -> np.ndarray:
    return ndimage.distance_transform_edt(~inside, sampling=spacing[::-1]) <= millimetres


def _coarsened(image: sitk.Image, edge: float) -> sitk.Image:
    """Return the image smoothed and resampled to ``edge`` mm along the axes that are finer."""
    spacing = np.array(image.GetSpacing())
    wanted = np.maximum(spacing, edge)
    size = np.maximum(1, np.floor((np.array(image.GetSize()) - 1) * spacing / wanted).astype(int) + 1)
    sigmas = np.where(wanted > spacing, 0.4 * wanted, 0.05 * spacing)
    smooth = sitk.SmoothingRecursiveGaussian(image, sigmas.tolist()) if min(image.GetSize()) >= 4 else image
    return sitk.Resample(
        smooth,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        wanted.tolist(),
        image.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _centre(inside: np.ndarray, geometry: Geometry) -> tuple[float, float, float]:
    """Compute the centre of a mask, mm."""
    index = np.array([np.mean(axis) for axis in np.nonzero(inside)])[::-1]
    return triple(float(value) for value in _to_points(index[None], geometry)[0])


def _to_points(indices: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Convert indices [n, 3] (x, y, z) to mm."""
    return (indices * geometry.spacing) @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin


def _transformed(transform: sitk.Euler3DTransform, points: np.ndarray) -> np.ndarray:
    matrix, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    return (points - centre) @ matrix.T + centre + transform.GetTranslation()


def _values_at(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Interpolate linearly at points (mm); NaN outside of the image."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    indices = (points - image.GetOrigin()) @ direction / image.GetSpacing()
    array = sitk.GetArrayViewFromImage(image)
    return ndimage.map_coordinates(array, indices[:, ::-1].T, order=1, mode="constant", cval=np.nan)
