"""In which part of the brain a lesion lies, by the average brain that was laid on the scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.orientation import canonical_geometry, to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.lesions.atlas import load_atlas
from mmccd_auto.inference.lesions.records import Side
from mmccd_auto.inference.lesions.template_fit import TemplateFit, fit_template
from mmccd_auto.preprocessing.brain_extraction.template_registration import coarsened
from mmccd_auto.preprocessing.registration import one_thread

PERIVENTRICULAR, DEEP_WHITE = "periventricular", "deep white matter"
JUXTACORTICAL, DEEP_GREY, INFRATENTORIAL = "juxtacortical", "deep grey matter", "infratentorial"
PLACES = (INFRATENTORIAL, DEEP_GREY, PERIVENTRICULAR, JUXTACORTICAL, DEEP_WHITE)
"""In the order in which they are tried."""

UNKNOWN = "unknown: "
VENTRICLE_MM, CORTEX_MM = 3.0, 2.0
"""A lesion with a voxel at most this far from the lateral ventricles (the cortex) touches them. In MAGNIMS's criteria
(Filippi et al., Lancet Neurol 15, 2016; Thompson et al., Lancet Neurol 17, 2018) a periventricular lesion abuts the
lateral ventricles, a juxtacortical one the cortex, without white matter between; the millimetres are what the fit
may be wrong by."""

MAJORITY = 0.5
SIDE_SHARE = 0.75
LEAST_OVERLAP, LEAST_LIKENESS = 0.85, 0.35
WORKING_MM = 2.0
BEYOND_MM = 99.0


@dataclass(frozen=True)
class Place:
    """Where a lesion lies.

    Attributes
    ----------
    side : "left" or "right" of the patient, or "midline"
    place : one of PLACES, or UNKNOWN and why
    mni_mm : of its centre, RAS; None where the place is unknown
    ventricle_mm, cortex_mm : from these, 0 inside; None likewise
    """

    side: Side
    place: str
    mni_mm: tuple[float, float, float] | None = None
    ventricle_mm: float | None = None
    cortex_mm: float | None = None


@dataclass(frozen=True)
class PlaceMaps:
    """The average brain's parts as they lie in a scan, on cubes of WORKING_MM; arrays are [z, y, x].

    Attributes
    ----------
    grid : an image on these cubes
    left : mm from the plane between the halves, above 0 on the patient's left
    ventricle_mm, cortex_mm : distance from the lateral ventricles and from the cortex, 0 inside
    infratentorial, deep_grey : share of each cube, 0..1
    """

    grid: sitk.Image
    left: np.ndarray
    ventricle_mm: np.ndarray
    cortex_mm: np.ndarray
    infratentorial: np.ndarray
    deep_grey: np.ndarray


@dataclass(frozen=True)
class Places:
    """What gives the places of the lesions of one scan.

    Attributes
    ----------
    plane_point, plane_left : of the plane between the halves by the brain's outline alone: a point (mm, LPS), and the
        direction to the left; used where there are no maps
    why_unknown : a clause; empty where there are maps
    fit : of the average brain; None where there is none
    maps : of its parts; None where there is no fit that is to be believed
    """

    plane_point: np.ndarray
    plane_left: np.ndarray
    why_unknown: str
    fit: TemplateFit | None = None
    maps: PlaceMaps | None = None

    @classmethod
    def by_template(cls, scan: Volume, brain: np.ndarray, marked: np.ndarray) -> Places:
        """Lay the average brain on a scan.

        Parameters
        ----------
        scan : any orientation, finite
        brain : bool [z, y, x]
        marked : bool [z, y, x], abnormal; it pulls nothing
        """
        plane = _plane_of(scan, brain)
        try:
            fit = fit_template(scan, brain, marked)
        except MMCCDError as error:
            return cls(*plane, str(error))
        why = _why_doubtful(fit)
        return cls(*plane, why, fit, None if why else place_maps(scan, brain, fit.to_template))

    @classmethod
    def without_template(cls, scan: Volume, brain: np.ndarray, why: str) -> Places:
        """Find only sides, and why there is no more; parameters as for :meth:`by_template`."""
        return cls(*_plane_of(scan, brain), why)

    def find(self, positions: np.ndarray) -> Place:
        """Find the place of a lesion.

        Parameters
        ----------
        positions : of its voxels' centres, mm (LPS), float [N, 3]
        """
        if self.maps is None or self.fit is None:
            return Place(side_of((positions - self.plane_point) @ self.plane_left), f"{UNKNOWN}{self.why_unknown}")
        maps = self.maps
        index = _index_in(maps.grid, positions)
        ventricle, cortex = (float(_at(part, index, BEYOND_MM).min()) for part in (maps.ventricle_mm, maps.cortex_mm))
        centre = self.fit.to_template.TransformPoint([float(value) for value in positions.mean(axis=0)])
        return Place(
            side=side_of(_at(maps.left, index)),
            place=place_by(
                float(_at(maps.infratentorial, index).mean()), float(_at(maps.deep_grey, index).mean()), ventricle, cortex
            ),
            mni_mm=(-centre[0], -centre[1], centre[2]),
            ventricle_mm=ventricle,
            cortex_mm=cortex,
        )


def place_by(infratentorial: float, deep_grey: float, ventricle_mm: float, cortex_mm: float) -> str:
    """Decide on a place.

    Parameters
    ----------
    infratentorial, deep_grey : share of the lesion in the brainstem and cerebellum, and in the basal ganglia and thalamus
    ventricle_mm, cortex_mm : least distance of one of its voxels from the lateral ventricles and from the cortex
    """
    if infratentorial > MAJORITY:
        return INFRATENTORIAL
    if deep_grey > MAJORITY:
        return DEEP_GREY
    if ventricle_mm <= VENTRICLE_MM:
        return PERIVENTRICULAR
    return JUXTACORTICAL if cortex_mm <= CORTEX_MM else DEEP_WHITE


def side_of(left: np.ndarray) -> Side:
    """Name the side of a lesion by the mm of its voxels to the left of the plane between the halves, float [N]."""
    share = float(np.mean(left > 0))
    if share >= SIDE_SHARE:
        return "left"
    return "right" if share <= 1 - SIDE_SHARE else "midline"


def place_maps(scan: Volume, brain: np.ndarray, to_template: sitk.Transform) -> PlaceMaps:
    """Carry the parts of the average brain into a scan.

    Parameters
    ----------
    scan : for its grid
    brain : bool [z, y, x]
    to_template : from the scan's points to those of MNI space
    """
    atlas = load_atlas()
    with one_thread():
        grid = coarsened(to_canonical(Volume(brain.astype(np.float32), scan.geometry)).to_image(), WORKING_MM)

        def carried(image: sitk.Image) -> np.ndarray:
            return sitk.GetArrayFromImage(sitk.Resample(image, grid, to_template, sitk.sitkLinear, 0.0))

        ventricles, grey, deep_grey, infratentorial, left = (
            carried(image) for image in (atlas.ventricles, atlas.cortex, atlas.deep_grey, atlas.infratentorial, atlas.left)
        )
    return PlaceMaps(grid, left, _distance(ventricles > 0.5), _distance(grey > 0.5), infratentorial, deep_grey)


def _why_doubtful(fit: TemplateFit) -> str:
    """Explain why a fit isn't to be believed, as a clause; empty where it is."""
    if fit.overlap < LEAST_OVERLAP:
        return f"the template could not be laid on this brain (overlap {fit.overlap:.2f})"
    if fit.likeness < LEAST_LIKENESS:
        return f"the template could not be laid on this brain (likeness {fit.likeness:.2f})"
    return ""


def _distance(mask: np.ndarray) -> np.ndarray:
    """Measure the distance in mm from the outer edge of a part, 0 inside; float32 [z, y, x]."""
    if not mask.any():
        return np.full(mask.shape, BEYOND_MM, dtype=np.float32)
    return np.maximum(ndimage.distance_transform_edt(~mask) - 0.5, 0).astype(np.float32) * WORKING_MM


def _index_in(grid: sitk.Image, positions: np.ndarray) -> np.ndarray:
    """Compute the continuous index z, y, x, float [3, N], of points in mm."""
    direction = np.reshape(grid.GetDirection(), (3, 3))
    return np.linalg.solve(direction, (positions - grid.GetOrigin()).T)[::-1] / np.array(grid.GetSpacing())[::-1, None]


def _at(part: np.ndarray, index: np.ndarray, outside: float | None = None) -> np.ndarray:
    """Compute the values of a map at continuous indices; beyond its edge those of the edge, or ``outside``."""
    if outside is None:
        return ndimage.map_coordinates(part, index, order=1, mode="nearest")
    return ndimage.map_coordinates(part, index, order=1, mode="constant", cval=outside)


def _plane_of(scan: Volume, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute a point of the plane between the halves, mm (LPS).

    Also the direction to the left, from the brain's outline alone.
    """
    direction = np.reshape(canonical_geometry(scan.geometry).direction, (3, 3))
    index = np.array([float(axis.mean()) for axis in np.nonzero(brain)] if brain.any() else [0.0] * 3)[::-1]
    own = np.reshape(scan.geometry.direction, (3, 3))
    return own @ (index * scan.geometry.spacing) + scan.geometry.origin, direction[:, 0]
