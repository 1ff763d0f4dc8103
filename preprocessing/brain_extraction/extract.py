"""The brain of any scan, by the best way there is on this computer."""

from __future__ import annotations

import time

import numpy as np

from mmccd_auto.brain_mask import examine_brain
from mmccd_auto.errors import MMCCDError
from mmccd_auto.image_io import Volume
from mmccd_auto.imaging.true_zero import without_offset
from mmccd_auto.preprocessing.brain_extraction.external import DeepBet, HdBet, SynthStrip
from mmccd_auto.preprocessing.brain_extraction.interface import Backend, BrainExtraction
from mmccd_auto.preprocessing.brain_extraction.plausibility import implausible, odd
from mmccd_auto.preprocessing.brain_extraction.template import Template

AUTO = "auto"
STRIPPED = "already stripped"
BACKENDS: tuple[Backend, ...] = (HdBet(), SynthStrip(), DeepBet(), Template())
"""In the order in which "auto" tries them."""


def backend_names() -> tuple[str, ...]:
    """What the option --bet takes."""
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
        raise MMCCDError(f"{name} holds values that are not finite: mend or leave out the file.")
    volume = without_offset(Volume(array, volume.geometry))
    array = volume.array
    report = examine_brain(array, volume.geometry.spacing)
    if report.usable:
        return BrainExtraction(report.mask, STRIPPED, time.perf_counter() - start, odd(report.mask, volume.geometry))
    if array.min() == array.max():
        raise MMCCDError(f"{name} holds one constant value and no brain: mend or leave out the file.")
    faults = []
    for one in chosen:
        try:
            mask = one.extract(volume, modality)
        except MMCCDError as error:
            faults.append(str(error).rstrip("."))
            continue
        fault = implausible(mask, volume.geometry)
        if not fault:
            warning = " ".join([odd(mask, volume.geometry), *(f"{text}." for text in faults)]).strip()
            return BrainExtraction(mask, one.name, time.perf_counter() - start, warning)
        faults.append(f"{one.name} found what is no brain ({fault})")
    raise MMCCDError(f"{name} shows no brain that could be found, {'; '.join(faults)}: give a brain mask file.")


def _chosen(backend: str, modality: str | None) -> list[Backend]:
    """The backends to try in turn."""
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
