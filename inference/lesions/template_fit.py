"""Laying the average brain on a brain: an affine, then a smooth deformation that follows the scan's own contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.lesions.atlas import Atlas, load_atlas
from mmccd_auto.preprocessing.brain_extraction.template_registration import coarsened
from mmccd_auto.preprocessing.registration import one_thread

MARGIN_MM = 16.0
FINEST_MM, OUTLINE_MM, AFFINE_MM = 2.0, 8.0, 4.0
DEFORMATIONS_MM = ((6.0, 60), (4.0, 60))
"""(edge of the voxels, steps) of the deformation: coarse first, so that wide ventricles are reached."""

DEFORMATION_SIGMA = 1.0
"""Voxels by which the deformation is smoothed after every step."""

OUTWARDS_MM, INWARDS_MM = 12.0, 20.0
"""Beyond these distances from its surface, all of the outside and all of the inside of a brain count alike."""

SHADING_MM = 20.0
BINS = 32
DESCENTS = 60
LARGEST_VALUE = 1.2
MARKED_SHARE = 0.1


@dataclass(frozen=True)
class TemplateFit:
    """The average brain laid on a scan.

    Attributes
    ----------
    to_template : from points of the scan (LPS, mm) to points of MNI space (LPS, mm)
    overlap : Dice of the average brain, laid on the scan by the affine alone, and the brain that was found; 0..1
    surface_mm : mean distance between the surfaces of these two
    likeness : correlation, 0..1, of the scan with the average tissues in the brightness that fits it best
    """

    to_template: sitk.Transform
    overlap: float
    surface_mm: float
    likeness: float


@dataclass(frozen=True)
class _Level:
    """The scan on cubes of one size: its values (0 outside the brain), where the brain is, and what not to look at."""

    grid: sitk.Image
    values: np.ndarray
    brain: np.ndarray
    marked: np.ndarray

    @property
    def edge(self) -> float:
        return float(self.grid.GetSpacing()[0])

    def image(self, array: np.ndarray) -> sitk.Image:
        """Return an array [z, y, x] as an image on this grid."""
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.CopyInformation(self.grid)
        return image

    def carried(self, image: sitk.Image, transform: sitk.Transform) -> np.ndarray:
        """Compute a map of the average brain on this grid, float32 [z, y, x]."""
        return sitk.GetArrayFromImage(sitk.Resample(image, self.grid, transform, sitk.sitkLinear, 0.0))


def fit_template(scan: Volume, brain: np.ndarray, marked: np.ndarray) -> TemplateFit:
    """Lay the average brain on a scan.

    First the outline: an affine between the distances from both surfaces. Then the inside: an affine by mutual information
    with the average T1 scan, and a deformation ("demons", Vercauteren et al., NeuroImage 45, 2009) towards the average
    tissues in the brightness that fits this scan best, shading divided out. What the scan shows may have any contrast;
    what is marked as abnormal pulls nothing. One thread works, so that the result is always the same.

    Parameters
    ----------
    scan : any orientation and contrast, finite, with skull or without
    brain : bool [z, y, x] on the scan's grid
    marked : bool [z, y, x], abnormal

    Raises
    ------
    MMCCDError
        If the brain is empty, flat, or so far from an average one that the search leaves it.
    """
    if not brain.any():
        raise MMCCDError("there is no brain that the template could be laid on")
    atlas = load_atlas()
    with one_thread():
        images = _around_brain(scan, brain, marked)
        try:
            middle = _level(images, AFFINE_MM)
            affine = _inner_affine(middle, atlas, _outline_affine(_level(images, OUTLINE_MM), atlas))
            transform, likeness = _deformed(images, atlas, affine)
        except RuntimeError as error:
            raise MMCCDError("the template could not be laid on this brain (the search left it)") from error
        overlap, surface = _agreement(middle, atlas, affine)
    return TemplateFit(transform, overlap, surface, likeness)


def _around_brain(scan: Volume, brain: np.ndarray, marked: np.ndarray) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """Return scan (0 outside the brain), brain and marked voxels, canonical: brain and a margin, on cubes of FINEST_MM."""
    inside = scan.array[brain]
    low, high = np.percentile(inside, (0.5, 99.5))
    low = min(float(low), 0.0)
    if not high > low:
        raise MMCCDError("the scan has no contrast in its brain")
    values = np.where(brain, np.clip((scan.array - low) / (high - low), 0, LARGEST_VALUE), 0).astype(np.float32)
    turned = [
        to_canonical(Volume(array.astype(np.float32), scan.geometry)).to_image() for array in (values, brain, marked & brain)
    ]
    spacing = np.array(turned[0].GetSpacing())
    box = ndimage.find_objects(sitk.GetArrayViewFromImage(turned[1]).astype(np.uint8))[0][::-1]
    room = np.ceil(MARGIN_MM / spacing).astype(int)
    cut = tuple(
        slice(max(0, part.start - int(extra)), min(size, part.stop + int(extra)))
        for part, extra, size in zip(box, room, turned[0].GetSize(), strict=True)
    )
    # Every level is made of these: from voxels finer than that, each would take longer than its search.
    scan_image, brain_image, marked_image = (coarsened(image[cut], FINEST_MM) for image in turned)
    return scan_image, brain_image, marked_image


def _level(images: tuple[sitk.Image, sitk.Image, sitk.Image], edge: float) -> _Level:
    grid = coarsened(images[1], edge)
    brain = sitk.GetArrayFromImage(grid) > 0.5
    values = sitk.GetArrayFromImage(coarsened(images[0], edge))
    marked = sitk.GetArrayFromImage(coarsened(images[2], edge)) > MARKED_SHARE
    return _Level(grid, np.where(brain, values, 0), brain, marked)


def _outline_affine(level: _Level, atlas: Atlas) -> sitk.AffineTransform:
    """Return the affine that lays one surface on the other, by distances from them."""
    template = coarsened(atlas.brain, level.edge)
    average = sitk.GetArrayFromImage(template) > 0.5
    here, there = _middle(level.brain, level.grid), _middle(average, template)
    scale = (np.count_nonzero(average) / np.count_nonzero(level.brain)) ** (1 / 3)
    left, _, right = np.linalg.svd(np.reshape(level.grid.GetDirection(), (3, 3)))
    start = sitk.AffineTransform(3)
    start.SetCenter(here.tolist())
    # Heads lie straight in their slices, so that the search begins along the scan's axes.
    start.SetMatrix((scale * (left @ right).T).ravel().tolist())
    start.SetTranslation((there - here).tolist())
    distance = _surface_distance(level.brain, level.edge)
    average_distance = _surface_distance(average, level.edge) / scale
    moving = sitk.GetImageFromArray(np.clip(average_distance, -INWARDS_MM, OUTWARDS_MM).astype(np.float32))
    moving.CopyInformation(template)
    method = _method(level, distance < OUTWARDS_MM)
    method.SetMetricAsMeanSquares()
    return _searched(method, level.image(np.clip(distance, -INWARDS_MM, OUTWARDS_MM)), moving, start)


def _inner_affine(level: _Level, atlas: Atlas, start: sitk.AffineTransform) -> sitk.AffineTransform:
    """Return the affine by mutual information of the scan's brain and the average one."""
    method = _method(level, (_surface_distance(level.brain, level.edge) < level.edge) & ~level.marked)
    method.SetMetricAsMattesMutualInformation(BINS)
    return _searched(method, level.image(level.values), coarsened(atlas.t1, level.edge), start)


def _method(level: _Level, region: np.ndarray) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricFixedMask(sitk.Cast(level.image(region) > 0.5, sitk.sitkUInt8))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level.edge, minStep=0.01 * level.edge, numberOfIterations=DESCENTS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _searched(
    method: sitk.ImageRegistrationMethod, fixed: sitk.Image, moving: sitk.Image, start: sitk.AffineTransform
) -> sitk.AffineTransform:
    affine = sitk.AffineTransform(start)
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, moving)
    return affine


def _deformed(
    images: tuple[sitk.Image, sitk.Image, sitk.Image], atlas: Atlas, affine: sitk.AffineTransform
) -> tuple[sitk.Transform, float]:
    """Return the affine after a smooth deformation, and how alike scan and average tissues are then."""
    field: sitk.Image | None = None
    total: sitk.Transform = affine
    for edge, steps in DEFORMATIONS_MM:
        level = _level(images, edge)
        if field is not None:
            field = sitk.Resample(field, level.grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64)
        target, weights, _ = _fitted_contrast(level, atlas, total)
        source = _mixed(level, atlas, affine, weights)
        # The step of demons depends on the scale of the values.
        scale = 1 / max(float(source[level.brain].std()), 1e-6)
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(steps)
        demons.SetStandardDeviations(DEFORMATION_SIGMA)
        pair = level.image(scale * target), level.image(scale * source)
        field = demons.Execute(*pair) if field is None else demons.Execute(*pair, field)
        total = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(sitk.Image(field))])
    _, _, likeness = _fitted_contrast(level, atlas, total)
    return total, likeness


def _fitted_contrast(level: _Level, atlas: Atlas, transform: sitk.Transform) -> tuple[np.ndarray, np.ndarray, float]:
    """Compute the scan without shading, the brightness of each tissue, and the correlation.

    The scan is the average tissues where it is marked.

    Returns
    -------
    float [z, y, x], 0 outside the brain; float [3] of white, grey and fluid; 0..1
    """
    shares = [level.carried(image, transform) for image in (atlas.white, atlas.grey, atlas.fluid)]
    usable = level.brain & ~level.marked & (np.sum(shares, axis=0) > 0.9)
    if np.count_nonzero(usable) < 100:
        raise MMCCDError("the template could not be laid on this brain (they hardly overlap)")
    shading = np.ones_like(level.values)
    for _ in range(3):
        weights = _tissue_brightness([share[usable] for share in shares], (level.values * shading)[usable])
        average = np.tensordot(weights, np.stack(shares), axes=1)
        smooth = [
            ndimage.gaussian_filter(usable * values, SHADING_MM / level.edge, truncate=3)
            for values in (average, level.values)
        ]
        shading = (smooth[0] + 1e-3) / (smooth[1] + 1e-3)
    even = np.where(level.marked, average, level.values * shading)
    correlation = np.corrcoef(even[usable], average[usable])[0, 1]
    return np.where(level.brain, even, 0), weights, float(np.nan_to_num(correlation))


def _mixed(level: _Level, atlas: Atlas, transform: sitk.Transform, weights: np.ndarray) -> np.ndarray:
    """Compute the average tissues, each as bright as ``weights`` says, float [z, y, x]."""
    parts = zip(weights, (atlas.white, atlas.grey, atlas.fluid), strict=True)
    return sum(weight * level.carried(image, transform) for weight, image in parts)


def _tissue_brightness(shares: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Compute the brightness of each tissue by least squares in which what fits badly counts less, float [T]."""
    design = np.stack(shares, axis=1).astype(float)
    trust = np.ones(len(values))
    for _ in range(3):
        weights, *_ = np.linalg.lstsq(design * trust[:, None], values * trust, rcond=None)
        error = np.abs(values - design @ weights)
        trust = 1 / np.sqrt(1 + (error / (3 * np.median(error) + 1e-6)) ** 2)
    return weights


def _agreement(level: _Level, atlas: Atlas, affine: sitk.AffineTransform) -> tuple[float, float]:
    """Compute how well the average brain and the one that was found agree.

    By the Dice, and by the mean distance between surfaces in mm both ways.
    """
    average = level.carried(atlas.brain, affine) > 0.5
    if not average.any():
        return 0.0, float("inf")
    dice = 2 * np.count_nonzero(average & level.brain) / (np.count_nonzero(average) + np.count_nonzero(level.brain))
    distances = [_surface_distance(mask, level.edge) for mask in (average, level.brain)]
    surfaces = [np.abs(distance) < level.edge for distance in distances]
    if not all(surface.any() for surface in surfaces):
        return float(dice), float("inf")
    both = np.concatenate([np.abs(distances[0])[surfaces[1]], np.abs(distances[1])[surfaces[0]]])
    return float(dice), float(both.mean())


def _surface_distance(mask: np.ndarray, edge: float) -> np.ndarray:
    """Measure the distance in mm from the surface, negative inside; float32 [z, y, x]."""
    outside, inside = (ndimage.distance_transform_edt(side) for side in (~mask, mask))
    return ((outside - inside + np.where(mask, 0.5, -0.5)) * edge).astype(np.float32)


def _middle(mask: np.ndarray, image: sitk.Image) -> np.ndarray:
    """Compute the centre of a mask, mm."""
    index = [float(np.mean(axis)) for axis in np.nonzero(mask)]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index[::-1]))
