"""One case: volumes as they were scanned -> normalised slices, and the way back. Training and prediction both come here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import dataclass_from_json
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.labels import checked_brain_mask
from mmccd_auto.imaging.limits import check_size
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.orientation import (
    SLICE_AXIS_POSITION,
    from_canonical,
    from_slice_axis_first,
    slice_axis_first,
    to_canonical,
)
from mmccd_auto.imaging.true_zero import find_true_zero, without_offset
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.plans.plan import Plan, SliceAxis
from mmccd_auto.preprocessing.bias_field import FieldSamples, bias_field, field_samples
from mmccd_auto.preprocessing.normalisation import WITHOUT_BIAS_FIELD, normalise
from mmccd_auto.preprocessing.resampling import (
    BrainOnGrid,
    brain_on_grid,
    resample_back,
    resample_image,
    resample_label,
    resample_mask,
    target_grid,
)

LEAST_OVERLAP = 0.9
LARGEST_SPACING_MM = 1000.0


@dataclass(frozen=True)
class CaseGeometry:
    """All that the way back to the scan needs.

    Attributes
    ----------
    original : of the scan
    canonical : of the scan turned to LPS
    slice_axis : "axial", "coronal" or "sagittal"
    grid : what the network sees, in canonical axes x, y, z; along the slice axis as ``canonical``
    """

    original: Geometry
    canonical: Geometry
    slice_axis: SliceAxis
    grid: Geometry

    def __post_init__(self) -> None:
        for name in ("original", "canonical", "grid"):
            geometry = getattr(self, name)
            if min(geometry.size) < 1 or not all(0 < edge < LARGEST_SPACING_MM for edge in geometry.spacing):
                raise MMCCDError(f"geometry.{name} has a size or spacing that can't be: preprocess the case again.")
            if len(geometry.direction) != len(geometry.size) ** 2:
                raise MMCCDError(f"geometry.{name}.direction has {len(geometry.direction)} numbers instead of 9.")

    @property
    def slice_spacing(self) -> tuple[float, float, float]:
        """Distance in mm between the slices, rows and columns of the network's grid."""
        steps = list(self.grid.spacing[::-1])
        return triple([steps.pop(SLICE_AXIS_POSITION[self.slice_axis]), *steps])

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "CASE.json") -> CaseGeometry:
        """Return the inverse of :meth:`to_json`; ``source`` is named in errors."""
        return dataclass_from_json(cls, content, source)


@dataclass(frozen=True)
class PreprocessedCase:
    """A case as the network sees it. S counts all slices of the volume, also those without brain.

    Attributes
    ----------
    modalities : of the channels, in the plan's order
    image : float32 [C, S, H, W], exactly -3 outside each modality's brain
    brain : bool [S, H, W], where every modality has brain
    anomaly : uint8 [S, H, W] of 0 and 1; None where there is no label
    native_brain : bool [z, y, x] on the scan's own grid
    normalisation : parameters per modality
    field_samples : by modality, what the bias field was fitted to, where there is one
    """

    case: str
    modalities: tuple[str, ...]
    image: np.ndarray
    brain: np.ndarray
    anomaly: np.ndarray | None
    geometry: CaseGeometry
    native_brain: np.ndarray
    normalisation: dict[str, dict[str, float]]
    field_samples: dict[str, FieldSamples] = field(default_factory=dict)


def preprocess_case(
    case: str,
    volumes: dict[str, Volume],
    plan: Plan,
    label: Volume | None = None,
    brain_mask: Volume | None = None,
) -> PreprocessedCase:
    """Preprocess one case.

    Each modality's true zero is moved to 0, so that a gain and an offset of the whole scan change nothing. Then it is
    normalised on its own voxels inside its own brain mask and resampled in plane onto one grid; the slice axis comes first
    by swapping axes, and slices are neither interpolated nor left out.

    Parameters
    ----------
    case : named in errors
    volumes : by modality; for prediction the input modality alone will do
    plan : gives slice axis, spacing, patch size and normalisation
    label : nonzero = abnormal
    brain_mask : 1 in the brain, else 0; taken for all modalities instead of looking for the brain

    Raises
    ------
    MMCCDError
        If volumes don't lie on one grid, the skull is still on, modalities aren't registered with each other, values
        inside the brain aren't finite, or the plan's grid would be too large.
    """
    modalities = _modalities(case, volumes, plan)
    volumes = {name: volumes[name] for name in modalities}
    _check_grids(case, volumes, label, brain_mask)
    original = volumes[modalities[0]].geometry
    zeros = {name: find_true_zero(with_zeros(volume)) for name, volume in volumes.items()}
    volumes = {name: without_offset(volumes[name], zero) for name, zero in zeros.items()}
    masks = _brain_masks(case, volumes, brain_mask)
    volumes = {name: settle_non_finite(volume, masks[name], f"{case}: {name}") for name, volume in volumes.items()}
    native_brain = np.logical_and.reduce(list(masks.values()))
    brain = to_canonical(Volume(native_brain, original))
    grid = target_grid(brain, plan.slice_axis, plan.target_spacing, plan.patch_size, plan.network.divisor)
    check_size(grid.size, f"{case} at the plan's spacing of {plan.target_spacing:g} mm")
    geometry = CaseGeometry(original, brain.geometry, plan.slice_axis, grid)
    brain_slices = _slices(resample_mask(brain, grid), plan.slice_axis)
    if not brain_slices.any():
        raise MMCCDError(f"{case}: nothing of the brain is left at {plan.target_spacing} mm: check the spacing in the file.")
    brains = _brains_on_grid(masks, original, grid)
    channels, parameters = [], {}
    samples: dict[str, FieldSamples] = {}
    for name in modalities:
        values, own, fitted_to = _normalised(volumes[name], masks[name], plan.normalisation[name], f"{case}: {name}")
        parameters[name] = {"zero": zeros[name].value, **own}
        samples |= {} if fitted_to is None else {name: fitted_to}
        channels.append(_slices(resample_image(to_canonical(Volume(values, original)), brains[name]), plan.slice_axis))
    anomaly = None
    if label is not None:
        anomaly = _slices(
            resample_label(to_canonical(Volume(label.array, original)), grid, plan.slice_axis), plan.slice_axis
        )
    image = np.stack(channels)
    return PreprocessedCase(case, modalities, image, brain_slices, anomaly, geometry, native_brain, parameters, samples)


def preprocess_channel(volume: Volume, brain: np.ndarray, scheme: str, geometry: CaseGeometry, name: str) -> np.ndarray:
    """Preprocess one more modality of a case that is preprocessed.

    Parameters
    ----------
    volume : on ``geometry.original``, finite in the brain
    brain : bool [z, y, x], where it shows brain
    scheme : of the normalisation
    geometry : of the case
    name : begins the sentence of an error

    Returns
    -------
    float32 [S, H, W] on the slices of the case, exactly -3 outside the brain

    Raises
    ------
    MMCCDError
        If it has no contrast.
    """
    volume = without_offset(volume, find_true_zero(volume))
    values, _, _ = _normalised(volume, brain, scheme, name)
    on_grid = brain_on_grid(to_canonical(Volume(brain, geometry.original)), geometry.grid)
    return _slices(resample_image(to_canonical(Volume(values, geometry.original)), on_grid), geometry.slice_axis)


def to_scan_grid(values: np.ndarray, geometry: CaseGeometry, native_brain: np.ndarray) -> np.ndarray:
    """Bring a map from the network's grid back to the scan's.

    Interpolates linearly in plane between pixels of the brain, so that the map isn't weakened at the brain's edge.

    Parameters
    ----------
    values : float [S, H, W], as preprocess_case made the slices
    geometry : of the case
    native_brain : bool [z, y, x] on ``geometry.original``

    Returns
    -------
    float32 [z, y, x] on ``geometry.original``, exactly 0 outside the brain
    """
    if not native_brain.any():
        return np.zeros(native_brain.shape, dtype=np.float32)
    brain = to_canonical(Volume(native_brain, geometry.original))
    on_grid = Volume(np.ascontiguousarray(from_slice_axis_first(values, geometry.slice_axis)), geometry.grid)
    back = resample_back(on_grid, resample_mask(brain, geometry.grid), brain)
    return from_canonical(Volume(back, geometry.canonical), geometry.original).array


def _normalised(
    volume: Volume, mask: np.ndarray, scheme: str, name: str
) -> tuple[np.ndarray, dict[str, float], FieldSamples | None]:
    if scheme not in WITHOUT_BIAS_FIELD:
        return (*normalise(volume.array, mask, scheme, name), None)
    turned, brain = to_canonical(volume), to_canonical(Volume(mask, volume.geometry)).array
    samples = field_samples(turned.array, brain, turned.geometry.spacing)
    shading = bias_field(turned.array, brain, turned.geometry.spacing)
    low, high = np.percentile(shading[brain], (1, 99))
    # In its place: a volume is large.
    corrected = np.divide(turned.array, shading, out=shading, casting="same_kind")
    corrected = from_canonical(Volume(corrected, turned.geometry), volume.geometry).array
    del turned, shading
    values, parameters = normalise(corrected, mask, scheme, name)
    return values, {**parameters, "bias_field_p1": float(low), "bias_field_p99": float(high)}, samples


def _brains_on_grid(masks: dict[str, np.ndarray], original: Geometry, grid: Geometry) -> dict[str, BrainOnGrid]:
    """Return the modalities' brains on the grid; those that are the same are brought there once."""
    found: dict[str, BrainOnGrid] = {}
    for name, mask in masks.items():
        same = next((other for other in found if np.array_equal(masks[other], mask)), None)
        found[name] = brain_on_grid(to_canonical(Volume(mask, original)), grid) if same is None else found[same]
    return found


def _slices(array: np.ndarray, slice_axis: str) -> np.ndarray:
    return np.ascontiguousarray(slice_axis_first(array, slice_axis))


def _modalities(case: str, volumes: dict[str, Volume], plan: Plan) -> tuple[str, ...]:
    unknown = sorted(set(volumes) - set(plan.modalities))
    if unknown:
        raise MMCCDError(
            f"{case}: {', '.join(unknown)} is no modality of the plan: give scans of {', '.join(plan.modalities)}."
        )
    if not volumes:
        raise MMCCDError(f"{case} has no images: give at least one of {', '.join(plan.modalities)}.")
    return tuple(name for name in plan.modalities if name in volumes)


def _check_grids(case: str, volumes: dict[str, Volume], label: Volume | None, brain_mask: Volume | None) -> None:
    (first, reference), *others = volumes.items()
    others += [(name, volume) for name, volume in (("label", label), ("brain mask", brain_mask)) if volume is not None]
    for name, volume in others:
        differences = volume.geometry.differences(reference.geometry)
        if differences:
            raise MMCCDError(
                f"{case}: {name} does not lie on the grid of {first} ({'; '.join(differences)}): "
                f"resample it onto the grid of {first}."
            )


def _brain_masks(case: str, volumes: dict[str, Volume], brain_mask: Volume | None) -> dict[str, np.ndarray]:
    if brain_mask is not None:
        return dict.fromkeys(volumes, checked_brain_mask(brain_mask, f"{case}: the brain mask").array > 0)
    masks = {
        name: find_brain(with_zeros(volume).array, volume.geometry.spacing, f"{case}: {name}")
        for name, volume in volumes.items()
    }
    (first, reference), *others = masks.items()
    for name, mask in others:
        overlap = 2 * np.count_nonzero(mask & reference) / (np.count_nonzero(mask) + np.count_nonzero(reference))
        if overlap < LEAST_OVERLAP:
            raise MMCCDError(
                f"{case}: {name} and {first} are not registered (their brains overlap with a Dice of {overlap:.2f} only): "
                f"register {name} to {first} first."
            )
    return masks
