"""The images of one DICOM file: one for classic files, several for enhanced (multi-frame) ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from mmccd_auto.core.tuples import pair, triple
from mmccd_auto.dicom.files.elements import items, number, numbers, text, texts, whole_number
from mmccd_auto.dicom.records import Triple

# As the first word of what is noted: "no contrast", "ohne KM", "0 ml".
_NO_AGENT = re.compile(
    r"\W*(|NO|NON|NONE|N|NA|N/A|NIL|0|WITHOUT|WO|OHNE|KEINE?S?|SANS|SIN|SENZA|NATIVE?|UNKNOWN)(\W.*)?", re.DOTALL
)
_PULSES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}


@dataclass(frozen=True)
class Frame:
    """Where one image lies, and how it was measured.

    Attributes
    ----------
    position : centre of the first voxel, LPS, mm
    orientation : direction along a row, then along a column
    spacing : mm between rows, mm between columns
    echo_time : ms
    """

    position: Triple | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    echo_time: float | None
    image_type: tuple[str, ...]


def frames_of(dataset: Dataset) -> tuple[Frame, ...]:
    """Return the images of a file; those of an enhanced file in their order in it."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return (_frame([dataset], dataset),)
    shared = items(dataset, "SharedFunctionalGroupsSequence")[:1]
    return tuple(_frame(_groups(frame, *shared), dataset) for frame in per_frame)


def sequence_values(dataset: Dataset) -> dict[str, Any]:
    """Return what a file says of its sequence, by the names of :class:`~mmccd_auto.dicom.records.SequenceFacts`."""
    enhanced = items(dataset, "SharedFunctionalGroupsSequence")[:1] + items(dataset, "PerFrameFunctionalGroupsSequence")[:1]
    places = [dataset, *_groups(*enhanced)]
    b_values = [value for place in places if (value := number(place, "DiffusionBValue")) is not None]
    inversion_time = _first_number(places, "InversionTime", "InversionTimes")
    return {
        "description": text(dataset, "SeriesDescription"),
        "protocol_name": text(dataset, "ProtocolName"),
        "modality": text(dataset, "Modality").upper(),
        "echo_time": _first_number(places, "EchoTime", "EffectiveEchoTime"),
        "repetition_time": _first_number(places, "RepetitionTime"),
        # Scanners write 0 where there is no inversion pulse.
        "inversion_time": inversion_time or None,
        "flip_angle": _first_number(places, "FlipAngle"),
        "scanning_sequence": texts(dataset, "ScanningSequence") or _enhanced_sequence(dataset, places),
        "sequence_variant": texts(dataset, "SequenceVariant"),
        "scan_options": texts(dataset, "ScanOptions"),
        "sequence_name": text(dataset, "SequenceName") or text(dataset, "PulseSequenceName"),
        "image_type": texts(dataset, "ImageType"),
        "contrast_agent": _contrast_agent(dataset),
        "b_value": max(b_values, default=None),
        "magnetic_field_strength": number(dataset, "MagneticFieldStrength"),
        "echo_number": whole_number(dataset, "EchoNumbers"),
        "rows": whole_number(dataset, "Rows"),
        "columns": whole_number(dataset, "Columns"),
        "samples_per_pixel": whole_number(dataset, "SamplesPerPixel") or 1,
        "slice_thickness": _first_number(places, "SliceThickness"),
        "mr_acquisition_type": text(dataset, "MRAcquisitionType").upper(),
    }


def _groups(*frames: Dataset) -> list[Dataset]:
    """Return the macros of functional groups (plane position, echo, ...) as one flat list."""
    return [items(frame, element.keyword)[0] for frame in frames for element in frame if _is_filled_sequence(element)]


def _is_filled_sequence(element: Any) -> bool:
    return element.VR == "SQ" and bool(element.value)


def _frame(places: list[Dataset], dataset: Dataset) -> Frame:
    position, spacing = _first_numbers(places, "ImagePositionPatient", 3), _first_numbers(places, "PixelSpacing", 2)
    return Frame(
        position=None if position is None else triple(position),
        orientation=_first_numbers(places, "ImageOrientationPatient", 6),
        spacing=None if spacing is None else pair(spacing),
        echo_time=_first_number(places, "EchoTime", "EffectiveEchoTime"),
        image_type=next((found for place in places if (found := texts(place, "FrameType"))), texts(dataset, "ImageType")),
    )


def _first_number(places: list[Dataset], *keywords: str) -> float | None:
    found = (number(place, keyword) for place in places for keyword in keywords)
    return next((value for value in found if value is not None), None)


def _first_numbers(places: list[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    found = (numbers(place, keyword, count) for place in places)
    return next((values for values in found if values is not None), None)


def _enhanced_sequence(dataset: Dataset, places: list[Dataset]) -> tuple[str, ...]:
    """Return an enhanced file's attributes in the terms of a classic file's scanning sequence."""
    found = _PULSES.get(text(dataset, "EchoPulseSequence").upper(), ())
    if any(text(place, "InversionRecovery").upper() == "YES" for place in places):
        found += ("IR",)
    if text(dataset, "EchoPlanarPulseSequence").upper() == "YES":
        found += ("EP",)
    return found


def _contrast_agent(dataset: Dataset) -> bool:
    agent = text(dataset, "ContrastBolusAgent").upper()
    return not _NO_AGENT.fullmatch(agent) or bool(items(dataset, "ContrastBolusAgentSequence"))
