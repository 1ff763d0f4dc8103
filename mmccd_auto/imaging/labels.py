"""Labels and brain masks: which values they may hold, and what these mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume

IGNORE = "ignore"
"""The name that nnU-Net gives the label of voxels which count for nothing."""

DEFAULT_LABELS = {"background": 0, "lesion": 1}
# Scaled labels (scl_slope) are rounded to float32.
_ROUNDING = 1e-4
_SHOWN = 5
LEAST_INSIDE_BRAIN = 0.5
"""Share of a label."""


@dataclass(frozen=True)
class LabelValues:
    """What the values of a label mean.

    Attributes
    ----------
    names : name -> value, or several values; "background" is 0, "ignore" marks what isn't judged, all else is abnormal
    source : the file that says so; None where none does, then 0 and 1 are all that is known
    """

    names: Mapping[str, int | tuple[int, ...]] = field(default_factory=lambda: dict(DEFAULT_LABELS))
    source: str | None = None

    @property
    def known(self) -> frozenset[int]:
        """Every value that a label may hold."""
        return frozenset(value for values in self.names.values() for value in _several(values))

    @property
    def ignored(self) -> frozenset[int]:
        """The values of voxels that count for nothing."""
        return frozenset(_several(self.names[IGNORE])) if IGNORE in self.names else frozenset()


@dataclass(frozen=True)
class Label:
    """What somebody drew.

    Attributes
    ----------
    abnormal : bool [z, y, x]
    ignored : bool [z, y, x], neither abnormal nor normal
    geometry : of both
    """

    abnormal: np.ndarray
    ignored: np.ndarray
    geometry: Geometry

    def not_normal(self) -> Volume:
        """Mark abnormal tissue: uint8, 1 where the tissue is abnormal or may be: what training keeps away from."""
        return Volume((self.abnormal | self.ignored).astype(np.uint8), self.geometry)


def read_label(path: str | Path, values: LabelValues) -> Label:
    """Read a label.

    Raises
    ------
    MMCCDError
        If it can't be read or holds values that ``values`` doesn't name.
    """
    volume = read_volume(path, dtype=None)
    fault = label_fault(volume.array, values)
    if fault is not None:
        raise MMCCDError(f"{path} {fault}")
    whole = np.rint(volume.array) if volume.array.dtype.kind == "f" else volume.array
    ignored = np.isin(whole, list(values.ignored))
    return Label((whole != 0) & ~ignored, ignored, volume.geometry)


def read_brain_mask(path: str | Path) -> Volume:
    """Read a brain mask; uint8 of 0 and 1. A file of 0 and 255 alone is one, too.

    Raises
    ------
    MMCCDError
        If it can't be read, holds other values, or marks nothing.
    """
    volume = read_volume(path, dtype=None)
    return checked_brain_mask(volume, str(path))


def checked_brain_mask(mask: Volume, name: str) -> Volume:
    """Return a brain mask as uint8 of 0 and 1; one of bool or of 0 and 255 is one, too.

    Raises
    ------
    MMCCDError
        As :func:`read_brain_mask`; ``name`` begins the sentence.
    """
    fault = brain_mask_fault(mask.array)
    if fault is not None:
        raise MMCCDError(f"{name} {fault}")
    return Volume((np.asarray(mask.array) > 0.5).astype(np.uint8), mask.geometry, mask.warnings)


def label_fault(array: np.ndarray, values: LabelValues) -> str | None:
    """Say what is wrong with the values of a label, as the end of the sentence "FILE ..."; None for a sound one."""
    fault = _not_whole(array, "a label holds whole numbers only")
    if fault is not None:
        return fault
    if _only(array, 1):
        return None
    unknown = sorted({int(value) for value in np.unique(np.rint(array))} - values.known)
    if not unknown:
        return None
    shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if len(unknown) > _SHOWN else "")
    known = ", ".join(f"{' '.join(map(str, _several(value)))} {name}" for name, value in values.names.items())
    if values.source is None:
        return (
            f"holds unknown values ({shown}; known are {known}), and no dataset.json says what they mean: give the one "
            "that belongs to the labels (beside their folder, or by -djfile), or make the labels 0 and 1."
        )
    return f"holds unknown values ({shown}; known are {known}): add them to labels in {values.source} or correct it."


def brain_mask_fault(array: np.ndarray) -> str | None:
    """Say what is wrong with the values of a brain mask, as :func:`label_fault` does."""
    rule = "a brain mask is 1 in the brain and 0 elsewhere"
    fault = _not_whole(array, rule)
    if fault is not None:
        return fault
    if not (_only(array, 1) or _only(array, 255)):
        found = np.unique(np.rint(array))
        shown = ", ".join(f"{value:g}" for value in found[:_SHOWN]) + (", ..." if found.size > _SHOWN else "")
        return f"holds values other than 0 and 1 ({shown}): {rule}."
    if not (np.asarray(array) > 0.5).any():
        return "is empty (it marks no voxel as brain): draw it again or leave it out."
    return None


def _not_whole(array: np.ndarray, rule: str) -> str | None:
    if array.dtype.kind == "c":
        return f"holds complex numbers: {rule}."
    if array.dtype.kind != "f":
        return None
    if not np.isfinite(array).all():
        return f"holds NaN or infinite values: {rule}."
    fractions = array[np.abs(array - np.rint(array)) > _ROUNDING]
    if not fractions.size:
        return None
    some = np.unique(fractions[:: max(1, fractions.size // 1000)])
    shown = ", ".join(f"{value:g}" for value in some[:: max(1, some.size // 3)][:3])
    return (
        f"holds values that are no whole numbers (such as {shown}), as probabilities and what was resampled linearly do: "
        f"{rule}; resample it with nearest neighbour, or apply a threshold."
    )


def _only(array: np.ndarray, value: int) -> bool:
    """Check whether there is nothing but 0 and ``value``, rounded."""
    if array.dtype == bool:
        return value == 1
    whole = np.rint(array) if array.dtype.kind == "f" else array
    return bool(((whole == 0) | (whole == value)).all())


def _several(values: int | tuple[int, ...]) -> tuple[int, ...]:
    return (values,) if isinstance(values, int) else tuple(values)


def check_inside_brain(case: str, marked: np.ndarray, brain: np.ndarray) -> None:
    """Refuse a label that lies elsewhere than the brain: it is another person's, or on another grid than its header says.

    Parameters
    ----------
    case : named in errors
    marked, brain : bool, of one shape

    Raises
    ------
    MMCCDError
        If less than half of it lies in the brain, or nothing is marked.
    """
    inside = float(brain[marked].mean()) if marked.any() else 0.0
    if inside < LEAST_INSIDE_BRAIN:
        raise MMCCDError(
            f"{case}: only {100 * inside:.0f} % of its label lies in its brain: check that the label is of this case and "
            "that its header says where it lies."
        )
