"""Statistics of a scan that don't depend on who or what made it: contrast, noise, sharpness, shading, fluid, rims.

All but the shading are measured on axial slices whose pixels are averaged to 2.5 mm, since scans come on grids of many
kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from sklearn.mixture import GaussianMixture

from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.label_maps.sampling import profile_weights
from mmccd_auto.plans.measures import noise_sigma
from mmccd_auto.preprocessing.bias_field import bias_field

PIXEL_MM = 2.5
BLUR = 0.05
FLUID, GREY, WHITE = 0, 1, 2
SURE = 0.7
UNCLEAR = 0.15
FITTED_VOXELS = 20_000
EDGE_MM = 4.0
"""Voxels so near to the outline, in the slice, are its rim."""
DEEP_MM, VENTRICLES_MM = 22.0, 15.0
"""Fluid so far from the outline is surely that of the ventricles, or most likely; the second for its intensity."""
VENTRICLE_RIM_MM = (1.5, 4.0)
LEAST_VOXELS = 200
BANDS_MM = {"fine": (5.5, 7.5), "middle": (8.0, 13.0), "coarse": (20.0, 45.0)}
"""Wavelengths of the power spectrum."""


@dataclass(frozen=True)
class CoarseScan:
    """A scan with its shading divided away, on axial slices with pixels of 2.5 mm.

    Attributes
    ----------
    array : float32 [z, y, x]
    brain, counted : bool [z, y, x]; what is counted is brain without lesions
    slice_distance : mm
    shading : standard deviation of the logarithm of the bias field in the brain
    """

    array: np.ndarray
    brain: np.ndarray
    counted: np.ndarray
    slice_distance: float
    shading: float

    @classmethod
    def of(cls, scan: Volume, brain: np.ndarray, lesion: np.ndarray | None = None) -> CoarseScan:
        """Average a scan in LPS, of which no signal is 0, and its masks on the same grid."""
        field = bias_field(scan.array, brain, scan.geometry.spacing)
        shading = float(np.log(field[brain]).std())
        heights = np.flatnonzero(brain.any(axis=(1, 2)))
        taken = slice(heights[0], heights[-1] + 1)
        weights = [
            profile_weights(size, PIXEL_MM / edge, max(1.0, PIXEL_MM / edge), BLUR)
            for size, edge in zip(scan.array.shape[1:], scan.geometry.spacing[1::-1], strict=True)
        ]
        inside, ill = brain[taken], np.zeros_like(brain[taken]) if lesion is None else lesion[taken]
        # A voxel of the brain holds nothing of what lies outside.
        share = _averaged(inside, weights)
        values = _averaged(np.where(inside, scan.array[taken] / field[taken], 0), weights) / np.maximum(share, 1e-6)
        kept = share > 0.5
        array = np.where(kept, values, 0).astype(np.float32)
        counted = kept & (_averaged(ill, weights) < 0.01)
        return cls(array, kept, counted, scan.geometry.spacing[2], shading)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Of the voxels along z, y, x, mm."""
        return self.slice_distance, PIXEL_MM, PIXEL_MM


def _averaged(volume: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """The in-plane mean of a volume [z, y, x] by two matrices of weights."""
    rows, columns = (matrix.astype(np.float32) for matrix in weights)
    return rows @ volume.astype(np.float32) @ columns.T


def tissues_of_t1(scan: CoarseScan) -> np.ndarray:
    """The tissue of each voxel, FLUID, GREY or WHITE, -1 where it isn't clear; int8 [z, y, x].

    Fluid is the darkest of a mixture of three; the rest, whose contrast may be too low for a mixture, is divided by Otsu's
    threshold, and what lies near to that is left out.
    """
    values = scan.array[scan.counted].astype(np.float64)
    values = np.clip(values, *np.percentile(values, (0.5, 99.5)))
    fitted = values[:: max(1, len(values) // FITTED_VOXELS)]
    start = np.percentile(fitted, (8, 40, 80))[:, None]
    mixture = GaussianMixture(3, covariance_type="tied", means_init=start, random_state=0).fit(fitted[:, None])
    fluid = mixture.predict_proba(values[:, None])[:, np.argmin(mixture.means_)]
    solid = values[fluid < 1 - SURE]
    border = _otsu(solid)
    margin = UNCLEAR * (solid[solid > border].mean() - solid[solid <= border].mean())
    tissue = np.full(len(values), -1, dtype=np.int8)
    tissue[(fluid < 1 - SURE) & (values < border - margin)] = GREY
    tissue[(fluid < 1 - SURE) & (values > border + margin)] = WHITE
    tissue[fluid > SURE] = FLUID
    result = np.full(scan.array.shape, -1, dtype=np.int8)
    result[scan.counted] = tissue
    return result


def _otsu(values: np.ndarray) -> float:
    """The threshold that divides values best into two classes."""
    method = sitk.OtsuThresholdImageFilter()
    method.SetNumberOfHistogramBins(256)
    method.Execute(sitk.GetImageFromArray(values[None]))
    return method.GetThreshold()


def scan_statistics(scan: CoarseScan, tissues: np.ndarray) -> dict[str, float]:
    """What tells scans apart, relative to white matter; NaN where there are too few voxels to tell.

    Parameters
    ----------
    tissues : on the grid of the scan, see :func:`tissues_of_t1`
    """
    white = _median(scan.array[tissues == WHITE])
    near_white = ndimage.binary_erosion(tissues == WHITE, np.ones((1, 3, 3)))
    in_plane = ndimage.distance_transform_edt(
        np.pad(scan.brain, ((0, 0), (1, 1), (1, 1))), sampling=(1e4, PIXEL_MM, PIXEL_MM)
    )
    edge = scan.counted & (in_plane[:, 1:-1, 1:-1] <= EDGE_MM)
    found = {
        "grey / white": _median(scan.array[tissues == GREY]) / white,
        "fluid / white": _median(scan.array[_ventricles(scan, tissues, VENTRICLES_MM)]) / white,
        "unevenness of white": _deviation(scan.array[near_white]) / white,
        "noise": noise_sigma(scan.array, scan.counted) / white,
        "shading": scan.shading,
        "bright rim": float(np.percentile(scan.array[edge], 97)) / white,
        "dark rim": float(np.percentile(scan.array[edge], 5)) / white,
        "bright inside": float(np.percentile(scan.array[scan.counted & ~edge], 99)) / white,
        **_sharpness(scan),
        **_fluid(scan, tissues),
    }
    shell = _ventricle_shell(scan, tissues)
    found["beside ventricles"] = _median(scan.array[shell]) / white
    found["brightest beside ventricles"] = _percentile(scan.array[shell], 95) / white
    return found


def _sharpness(scan: CoarseScan) -> dict[str, float]:
    """Power of fine and middle structure relative to that of coarse one, in the slices with most brain; log10."""
    sizes = scan.brain.sum(axis=(1, 2))
    chosen = sizes > 0.6 * sizes.max()
    level = np.median(scan.array[scan.brain])
    high = np.percentile(scan.array[scan.brain], 99.5)
    flat = np.where(scan.brain, np.minimum(scan.array, high) - level, 0)[chosen]
    # Without the outline's edge, which is as sharp in every scan.
    inner = ndimage.binary_erosion(scan.brain[chosen], np.ones((1, 3, 3)), iterations=2)
    flat = flat * ndimage.gaussian_filter(inner.astype(np.float32), (0, 2, 2))
    power = (np.abs(np.fft.fft2(flat)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size, PIXEL_MM) for size in power.shape), indexing="ij"))
    bands = {
        name: power[(frequency > 1 / longest) & (frequency <= 1 / shortest)].mean()
        for name, (shortest, longest) in BANDS_MM.items()
    }
    return {f"{name} detail": float(np.log10(bands[name] / bands["coarse"])) for name in ("fine", "middle")}


def _fluid(scan: CoarseScan, tissues: np.ndarray) -> dict[str, float]:
    """Share of the brain that is fluid, in its depth and near its surface."""
    depth = _depth(scan.brain, scan.spacing)
    fluid = tissues == FLUID
    count = np.count_nonzero(scan.counted)
    return {
        "fluid in the depth": np.count_nonzero(fluid & (depth > DEEP_MM)) / count,
        "fluid near the surface": np.count_nonzero(fluid & (depth <= DEEP_MM)) / count,
    }


def _ventricle_shell(scan: CoarseScan, tissues: np.ndarray) -> np.ndarray:
    """Tissue beside the fluid of the depth, without what fluid shares in; bool [z, y, x]."""
    deep = _ventricles(scan, tissues, DEEP_MM)
    if np.count_nonzero(deep) < LEAST_VOXELS / 4:
        return np.zeros_like(deep)
    away = ndimage.distance_transform_edt(~deep, sampling=scan.spacing)
    low, high = (PIXEL_MM / 2 + limit for limit in VENTRICLE_RIM_MM)
    return scan.counted & (away > low) & (away <= high) & (tissues != FLUID)


def _ventricles(scan: CoarseScan, tissues: np.ndarray, deep_mm: float) -> np.ndarray:
    return ndimage.binary_opening((tissues == FLUID) & (_depth(scan.brain, scan.spacing) > deep_mm), np.ones((1, 2, 2)))


def _depth(brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    return ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]


def _median(values: np.ndarray) -> float:
    return _percentile(values, 50)


def _percentile(values: np.ndarray, share: float) -> float:
    return float(np.percentile(values, share)) if len(values) >= LEAST_VOXELS / 4 else float("nan")


def _deviation(values: np.ndarray) -> float:
    """Standard deviation by the distance of the quartiles."""
    if len(values) < LEAST_VOXELS:
        return float("nan")
    low, high = np.percentile(values, (25, 75))
    return float((high - low) / 1.349)
