"""Laying the average head on a scan."""

from __future__ import annotations

import itertools
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.preprocessing.brain_extraction.head_template import HeadTemplate, load_head_template
from mmccd_auto.preprocessing.registration import one_thread

COARSE_MM, FINE_MM = 8, 4
BINS = 32
PITCHES = (-15.0, 0.0, 15.0)
"""Degrees about the left-right axis: how far heads are nodded in scanners."""

LIFTS_MM = (-25.0, 0.0, 25.0)
"""Shifts along the body, since the first guess depends on how much neck is in view."""

SCALES = (0.78, 0.88)
STARTS_KEPT = 4
HEAD_HEIGHT_MM = 160.0
FINE_DESCENTS = 2
LEAST_INSIDE = 0.5
NOTHING_FOUND = 1e9
Place = TypeVar("Place", bound=sitk.Transform)


def register_template(scan: sitk.Image, name: str, scales: tuple[float, ...] = SCALES) -> sitk.AffineTransform:
    """Find the affine that takes points of the average head (mm, MNI space) to points of a scan.

    Mattes mutual information (Mattes et al. 2003) of the average head, which looks like a T1 scan, and the scan, which may
    have any contrast: a similarity on 8 mm voxels from several starts, then an affine on 4 mm voxels. Every voxel counts and
    one thread runs, so the result is always the same.

    Parameters
    ----------
    scan : float image, canonical, 0..1
    name : of the scan, named in errors
    scales : of the average head, at which the search begins

    Raises
    ------
    MMCCDError
        If no start leads to a head.
    """
    with one_thread():
        return _register(scan, name, scales)


def _register(scan: sitk.Image, name: str, scales: tuple[float, ...]) -> sitk.AffineTransform:
    coarse, fine = load_head_template(COARSE_MM), load_head_template(FINE_MM)
    small = coarsened(scan, COARSE_MM)
    starts = _starts(small, coarse, name, scales)
    rated = sorted(starts, key=lambda start: _badness(coarse, small, start))
    followed = [_searched(coarse, small, start, COARSE_MM) for start in rated[:STARTS_KEPT]]
    best = min(followed, key=lambda transform: _badness(coarse, small, transform))
    if _badness(coarse, small, best) >= NOTHING_FOUND:
        raise MMCCDError(f"{name} shows no head that the average head could be laid on: check the file.")
    affine = sitk.AffineTransform(3)
    affine.SetCenter(best.GetCenter())
    affine.SetMatrix(best.GetMatrix())
    affine.SetTranslation(best.GetTranslation())
    small = coarsened(scan, FINE_MM)
    # Steps only ever shorten, so the first descent can end short of the valley's floor.
    for _ in range(FINE_DESCENTS):
        affine = _searched(fine, small, affine, FINE_MM)
    return affine


def coarsened(image: sitk.Image, edge: float) -> sitk.Image:
    """Return the image smoothed and resampled to cubes of ``edge`` mm in its own axes.

    Axes that are coarser are interpolated.
    """
    spacing = np.array(image.GetSpacing())
    size = np.maximum(1, np.floor((np.array(image.GetSize()) - 1) * spacing / edge).astype(int) + 1)
    sigmas = np.where(edge > spacing, 0.4 * edge, 0.01 * spacing)
    smooth = sitk.Cast(image, sitk.sitkFloat32)
    for axis, sigma in enumerate(sigmas):
        if edge > spacing[axis] and image.GetSize()[axis] >= 4:
            smooth = sitk.RecursiveGaussian(smooth, float(sigma), direction=axis)
    return sitk.Resample(
        smooth, size.tolist(), sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [float(edge)] * 3, image.GetDirection()
    )


def _starts(
    scan: sitk.Image, template: HeadTemplate, name: str, scales: tuple[float, ...]
) -> list[sitk.Similarity3DTransform]:
    """List places where the search begins: the middle of the head's upper part, nodded and shifted along the body."""
    centre = _middle(sitk.GetArrayViewFromImage(template.brain_distance) < 0, template.brain_distance)
    head = _upper_head(scan, name)
    middle = _middle(head, scan)
    found = []
    # ITK wants more exactly right angles than headers give.
    left, _, right = np.linalg.svd(np.reshape(scan.GetDirection(), (3, 3)))
    body = left @ right
    for pitch, lift, scale in itertools.product(PITCHES, LIFTS_MM, scales):
        start = sitk.Similarity3DTransform()
        start.SetCenter(centre)
        start.SetMatrix((scale * body @ _nod(pitch)).ravel().tolist(), 1e-6)
        start.SetTranslation((middle + lift * body[:, 2] - centre).tolist())
        found.append(start)
    return found


def _upper_head(scan: sitk.Image, name: str) -> np.ndarray:
    """Compute the head without air and without what lies too far below its top to be brain; bool [z, y, x]."""
    array = sitk.GetArrayFromImage(scan)
    if not array.max() > array.min():
        raise MMCCDError(f"{name} has no contrast: fix or leave out the file.")
    bright = np.log(array + 0.02)
    threshold = sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(bright), 0, 1)) > 0
    labels, count = ndimage.label(ndimage.binary_fill_holes(threshold))
    if not count:
        raise MMCCDError(f"{name} shows no head: check the file.")
    head = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    top = int(np.flatnonzero(head.any(axis=(1, 2)))[-1])
    head[: max(0, top - int(HEAD_HEIGHT_MM / scan.GetSpacing()[2]))] = False
    return head


def _middle(mask: np.ndarray, image: sitk.Image) -> np.ndarray:
    """Compute the centre of a mask, mm."""
    index = [float(np.mean(axis)) for axis in np.nonzero(mask)]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index[::-1]))


def _nod(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _method(template: HeadTemplate) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(template.region)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _badness(template: HeadTemplate, scan: sitk.Image, transform: sitk.Transform) -> float:
    """Compute minus the mutual information; NOTHING_FOUND where most of the average brain lies outside of the scan."""
    inside = sitk.Resample(
        sitk.Cast(scan, sitk.sitkFloat32) * 0 + 1, template.region, transform, sitk.sitkNearestNeighbor, 0.0
    )
    brain = sitk.GetArrayViewFromImage(template.brain_distance) < 0
    if sitk.GetArrayViewFromImage(inside)[brain].mean() < LEAST_INSIDE:
        return NOTHING_FOUND
    method = _method(template)
    method.SetInitialTransform(transform)
    return float(method.MetricEvaluate(template.head, scan))


def _searched(template: HeadTemplate, scan: sitk.Image, start: Place, edge: float) -> Place:
    """Follow the mutual information uphill from ``start``."""
    method = _method(template)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=edge, minStep=0.01 * edge, numberOfIterations=120, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = type(start)(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(template.head, scan)
    except RuntimeError:
        # The head has been left: this start leads nowhere, and its rating says so.
        return start
    return transform
