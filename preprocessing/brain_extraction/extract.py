"""The brain of any scan, by the best way there is on this computer."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.true_zero import without_offset
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.preprocessing.brain_extraction.external import DeepBet, HdBet, SynthStrip
from mmccd_auto.preprocessing.brain_extraction.interface import Backend, BrainExtraction
from mmccd_auto.preprocessing.brain_extraction.outline import Doubt, doubt_outline
from mmccd_auto.preprocessing.brain_extraction.plausibility import SMALL_ML, implausible, millilitres, share_in_view
from mmccd_auto.preprocessing.brain_extraction.template import Template

AUTO = "auto"
STRIPPED = "already stripped"
BACKENDS: tuple[Backend, ...] = (HdBet(), SynthStrip(), DeepBet(), Template())
"""In the order in which "auto" tries them."""


def backend_names() -> tuple[str, ...]:
    """List what the option --bet takes."""
    return (AUTO, *(backend.name for backend in BACKENDS))


def extract_brain(volume: Volume, modality: str | None = None, backend: str = AUTO, name: str = "scan") -> BrainExtraction:
    """Find the brain of a scan. Nothing is ever downloaded.

    A scan that shows nothing but the brain keeps it, whatever the backend. "auto" then takes the first backend that is
    installed, fits the modality and gives a plausible brain; a backend that is named has to do.

    Parameters
    ----------
    volume : scan, any orientation and numeric type
    modality : "FLAIR", "T1", ...; None where it isn't known
    backend : one of :func:`backend_names`
    name : of the scan, named in errors

    Raises
    ------
    MMCCDError
        If the backend is unknown, not installed or not made for the modality, or if no plausible brain is found.
    """
    start = time.perf_counter()
    chosen = _chosen(backend, modality)
    array = np.asarray(volume.array)
    if not np.isfinite(array).all():
        raise MMCCDError(f"{name} holds values that are not finite: fix or leave out the file.")
    volume = without_offset(Volume(array, volume.geometry))
    array = volume.array
    report = examine_brain(array, volume.geometry.spacing)
    if report.usable:
        return BrainExtraction(report.mask, STRIPPED, time.perf_counter() - start, _small(report.mask, volume))
    if array.min() == array.max():
        raise MMCCDError(f"{name} holds one constant value and no brain: fix or leave out the file.")
    faults: list[str] = []
    doubtful: list[_Found] = []
    for one in chosen:
        try:
            found = _most_plausible(one, volume, modality, faults)
        except MMCCDError as error:
            faults.append(str(error).rstrip("."))
            continue
        if found is not None and not found.doubt.signs:
            warning = " ".join(f"{text}." for text in faults)
            return BrainExtraction(found.mask, one.name, time.perf_counter() - start, warning)
        if found is not None:
            doubtful.append(found)
            faults.append(f"{one.name} found what may be no brain ({found.doubt})")
    usable = [found for found in doubtful if not found.doubt.failed]
    if not usable:
        raise MMCCDError(f"{name} shows no brain that could be found, {'; '.join(faults)}: give a brain mask file.")
    best = min(usable, key=lambda found: found.doubt.size)
    warning = f"the outline of the brain is doubtful ({best.doubt}): look at the mask."
    return BrainExtraction(best.mask, best.backend, time.perf_counter() - start, warning[0].upper() + warning[1:])


@dataclass(frozen=True)
class _Found:
    """A mask that a backend found, and what speaks against it."""

    mask: np.ndarray
    backend: str
    doubt: Doubt


def _most_plausible(backend: Backend, volume: Volume, modality: str | None, faults: list[str]) -> _Found | None:
    """Return what a backend finds at first, if nothing speaks against it; else the most plausible of all that it finds.

    ``faults`` gets a clause where nothing that it finds can be a brain; then None is returned.
    """
    found: list[_Found] = []
    impossible: list[str] = []
    for mask in backend.tries(volume, modality):
        fault = implausible(mask, volume.geometry)
        if fault:
            impossible.append(fault)
            continue
        found.append(_Found(mask, backend.name, doubt_outline(volume, mask)))
        if not found[-1].doubt.signs:
            return found[-1]
    if not found and impossible:
        faults.append(f"{backend.name} found what is no brain ({impossible[0]})")
    return min(found, key=lambda one: one.doubt.size, default=None)


def _small(mask: np.ndarray, volume: Volume) -> str:
    """Return a sentence on a brain that is unusually small; empty for others."""
    size = millilitres(mask, volume.geometry)
    if size >= SMALL_ML * share_in_view(volume.geometry):
        return ""
    return f"The brain is small ({size:.0f} ml): look at the mask."


def _chosen(backend: str, modality: str | None) -> list[Backend]:
    """Return the backends to try in turn."""
    if backend == AUTO:
        return [one for one in BACKENDS if one.fits(modality) and not one.available()]
    for one in BACKENDS:
        if one.name != backend:
            continue
        reason = one.available()
        if reason:
            raise MMCCDError(f"{one.name} {reason}.")
        if not one.fits(modality):
            raise MMCCDError(
                f"{one.name} works on {', '.join(one.modalities or ())} only, not on {modality or 'an unknown modality'}: "
                "choose another backend."
            )
        return [one]
    raise MMCCDError(f"{backend} is no way of extracting brains: choose one of {', '.join(backend_names())}.")
