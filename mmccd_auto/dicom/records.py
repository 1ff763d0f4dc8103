"""What is known of a DICOM export: patients, studies, series and the facts of their sequences.

Whatever may name a patient is left out of every ``repr``, so that a stray log line can't give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Patient:
    """Who was scanned. All three are as the files say, empty where they say nothing.

    Attributes
    ----------
    birth_date : YYYYMMDD
    """

    name: str = field(default="", repr=False)
    identifier: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)


@dataclass(frozen=True)
class SequenceFacts:
    """How a series was measured, as its headers give it; None or empty where they don't.

    Attributes
    ----------
    description, protocol_name : without the words that name the patient
    echo_time, repetition_time, inversion_time : ms
    flip_angle : degrees
    scanning_sequence : of SE, IR, GR, EP, RM; for enhanced files derived from their attributes
    sequence_variant, scan_options, image_type : as in the files
    contrast_agent : whether a contrast agent is named
    b_value : s/mm2, the largest of the series
    magnetic_field_strength : T
    pixel_spacing : mm between rows, mm between columns
    slice_thickness : mm
    images : slices, those of all frames for multi-frame files
    orientation : "axial", "coronal", "sagittal", "oblique", or "several"
    slice_spacing : mm between neighbouring slices, from their positions
    transfer_syntax, sop_class : UIDs
    mr_acquisition_type : "2D", "3D" or empty
    samples_per_pixel : 1, or 3 for images in colour
    """

    description: str = field(default="", repr=False)
    protocol_name: str = field(default="", repr=False)
    modality: str = "MR"
    echo_time: float | None = None
    repetition_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    sequence_name: str = ""
    image_type: tuple[str, ...] = ()
    contrast_agent: bool = False
    b_value: float | None = None
    magnetic_field_strength: float | None = None
    echo_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    images: int = 0
    orientation: str | None = None
    slice_spacing: float | None = None
    transfer_syntax: str = ""
    mr_acquisition_type: str = ""
    sop_class: str = ""
    samples_per_pixel: int = 1


@dataclass(frozen=True)
class SliceGrid:
    """The regular grid that the headers of a series describe (LPS, mm).

    Attributes
    ----------
    size : columns, rows, slices
    spacing : mm along a row, along a column, between slices
    origin : centre of the first voxel of the first slice
    axes : float64 [3, 3], as columns the directions along a row, along a column, and from slice to slice
    """

    size: tuple[int, int, int]
    spacing: Triple
    origin: Triple
    axes: np.ndarray = field(repr=False, compare=False)

    def corners(self) -> np.ndarray:
        """Compute the positions of the centres of the eight corner voxels, float64 [8, 3], mm."""
        steps = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(self.size) - 1) * self.spacing
        return steps @ self.axes.T + self.origin


@dataclass(frozen=True)
class Series:
    """One series, or one part of a series that mixes several echoes.

    Attributes
    ----------
    number : the scanner's, None where it is missing
    files : sorted along the slice normal
    problem : the sentence that says why no volume can be made of it; None if one can
    part : which part of the series, such as "echo time 30 ms"; empty for a whole series
    grid : None where there is a problem
    renumber : whether the numbers of its images (UIDs, InstanceNumber) are useless, so that a converter can't trust them
    """

    uid: str
    number: int | None
    files: tuple[Path, ...] = field(repr=False)
    facts: SequenceFacts
    problem: str | None = None
    part: str = ""
    grid: SliceGrid | None = None
    renumber: bool = False

    @property
    def label(self) -> str:
        """What a message calls it: "series 5 (T2 FLAIR)"."""
        return series_label(self.number, self.facts.description or self.facts.protocol_name, self.part)


@dataclass(frozen=True)
class Study:
    """One visit of one patient.

    Attributes
    ----------
    date : YYYYMMDD, empty where it is missing
    series : sorted by number
    """

    patient: Patient
    uid: str
    date: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Export:
    """What was found.

    Attributes
    ----------
    studies : sorted by date
    ignored : number of files left out, by reason
    problems : sentences on what could not be read at all, such as an archive
    dicom_files : files that are DICOM, the ignored ones among them
    """

    studies: tuple[Study, ...]
    ignored: Mapping[str, int]
    problems: tuple[str, ...]
    dicom_files: int = 0

    @property
    def is_dicom(self) -> bool:
        """Whether there is any DICOM file, be it an image or not."""
        return self.dicom_files > 0


def series_label(number: int | None, description: str, part: str = "") -> str:
    """Return the words by which a message names a series; ``description`` must not name the patient."""
    words = f"series {number}" if number is not None else "a series without a number"
    inner = ", ".join(text for text in (description, part) if text)
    return f"{words} ({inner})" if inner else words


def sentence(text: str) -> str:
    """Return ``text`` with a capital at its beginning."""
    return text[:1].upper() + text[1:]
