"""The studies and series of a DICOM export, whatever shape its folders have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmccd_auto.dicom.files.gather_files import (
    UNREADABLE_FILE,
    UNREADABLE_FOLDER,
    gather_files,
    remove_files,
    unpacked_files,
)
from mmccd_auto.dicom.files.headers import BOMBS, DAMAGED, EMPTY, MR_CLASSES, Header, read_header
from mmccd_auto.dicom.privacy import patient_words, without_patient
from mmccd_auto.dicom.records import Export, Patient, SequenceFacts, Series, SliceGrid, Study, sentence, series_label
from mmccd_auto.dicom.series.grouping import StudyGroup, group_images
from mmccd_auto.dicom.series.slices import Image, fit_grid, orientation, sorted_images, split_parts

COPIES = "copies of images that are there already"
UNPACKS = "unpacks to more than it announces or has absurdly many elements, which may be an attack"
_LOSSES = (EMPTY, DAMAGED, UNREADABLE_FILE, UNREADABLE_FOLDER)

__all__ = ["Export", "Patient", "SequenceFacts", "Series", "SliceGrid", "Study", "keep_series_only", "read_export"]


def read_export(source: str | Path, workspace: str | Path) -> Export:
    """Find every study and series of an export; only headers are read.

    What belongs together: :func:`~mmccd_auto.dicom.series.grouping.group_images`. What can't be used stays in the list
    with the sentence that says why.

    Parameters
    ----------
    source : a folder of any shape, a DICOMDIR (which stands for its folder), or a zip archive
    workspace : a folder for what archives hold; it must stay until the series are converted (:func:`keep_series_only`)

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``.
    """
    gathered = gather_files(Path(source), Path(workspace))
    ignored = Counter(gathered.ignored)
    headers: list[Header] = []
    bombs: list[str] = []
    not_images = 0
    for number, path in enumerate(gathered.files, 1):
        try:
            found = read_header(path)
        except OSError:
            ignored[UNREADABLE_FILE] += 1
            continue
        if isinstance(found, Header):
            headers.append(found)
            continue
        not_images += found.is_dicom
        if found.reason != BOMBS:
            ignored[found.reason] += 1
        else:
            bombs.append(f"File {number} of {len(gathered.files)} (sorted by path) is DICOM that {UNPACKS}: it is left out.")
    unique = _without_copies(headers)
    ignored[COPIES] += len(headers) - len(unique)
    remove_files(unpacked_files(Path(workspace)), keep=[header.path for header in unique])
    grouping = group_images(unique)
    problems = [
        *gathered.problems,
        *bombs,
        *grouping.notes,
        *(_loss(reason, ignored[reason]) for reason in _LOSSES if ignored[reason]),
    ]
    left_out = {reason: count for reason, count in sorted(ignored.items()) if count}
    return Export(_studies(grouping.studies), left_out, tuple(problems), len(headers) + not_images)


def keep_series_only(workspace: str | Path, series: Sequence[Series]) -> None:
    """Remove what was unpacked of archives and belongs to none of ``series``.

    Parameters
    ----------
    workspace : that was given to :func:`read_export`
    series : that are used
    """
    remove_files(unpacked_files(Path(workspace)), keep=[path for one in series for path in one.files])


def _loss(reason: str, count: int) -> str:
    return f"The export holds {reason} ({count}): if images are missing, export it again."


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """Return each image once.

    Some tools that take names out give several images one number, so that series, timing and position must agree as well;
    and of several copies a complete one is kept.
    """
    kept: dict[tuple, Header] = {}
    for header in headers:
        frame = header.frames[0]
        places = (frame.position, frame.orientation, frame.echo_time, frame.image_type)
        name = header.values["description"] if header.series_number is None else ""
        names = (header.series_number, name, header.values["repetition_time"])
        key = (header.patient, header.study_uid, header.series_uid, header.instance_uid or header.path, *names, *places)
        if key not in kept or (kept[key].fault and not header.fault):
            kept[key] = header
    return list(kept.values())


def _studies(groups: Sequence[StudyGroup]) -> tuple[Study, ...]:
    everybody = _words([header for group in groups for header in group.headers])
    studies = []
    for group in groups:
        headers = group.headers
        # A damaged header may lack its patient, and hold the name in another place.
        is_known = all(header.patient.name and header.patient.identifier for header in headers)
        words = _words(headers) if is_known else everybody
        series = [part for members in group.series for part in _build_series(members, words)]
        series.sort(key=lambda item: (item.number is None, item.number or 0, item.uid))
        first = headers[0]
        studies.append(Study(first.patient, group.uid, first.study_date, tuple(series)))
    return tuple(sorted(studies, key=lambda study: (study.date, study.uid, study.patient.identifier, study.patient.name)))


def _words(headers: Sequence[Header]) -> tuple[str, ...]:
    patients = dict.fromkeys(header.patient for header in headers)
    return tuple({word: None for patient in patients for word in patient_words(patient)})


def _build_series(headers: Sequence[Header], words: tuple[str, ...]) -> list[Series]:
    images = [(header, frame) for header in headers for frame in header.frames]
    return [_build_part(part, name, words) for name, part in split_parts(images)]


def _build_part(images: list[Image], name: str, words: tuple[str, ...]) -> Series:
    images = sorted_images(images)
    header, frame = images[0]
    grid = fit_grid(images)
    facts = SequenceFacts(**header.values)
    facts = replace(
        facts,
        description=without_patient(facts.description, words),
        protocol_name=without_patient(facts.protocol_name, words),
        sequence_name=without_patient(facts.sequence_name, words),
        echo_time=frame.echo_time,
        image_type=frame.image_type,
        contrast_agent=any(item.values["contrast_agent"] for item, _ in images),
        b_value=max((value for item, _ in images if (value := item.values["b_value"]) is not None), default=None),
        pixel_spacing=frame.spacing,
        images=len(images),
        orientation=orientation(images),
        slice_spacing=grid.spacing[2] if isinstance(grid, SliceGrid) else None,
    )
    label = series_label(header.series_number, facts.description or facts.protocol_name, name)
    problem = _problem(images, facts, grid)
    files = tuple(dict.fromkeys(item.path for item, _ in images))
    return Series(
        uid=header.series_uid,
        number=header.series_number,
        files=files,
        facts=facts,
        problem=f"{sentence(label)} {problem}." if problem else None,
        part=name,
        grid=grid if isinstance(grid, SliceGrid) and not problem else None,
        renumber=_numbers_are_useless([item for item, _ in images]),
    )


def _numbers_are_useless(headers: Sequence[Header]) -> bool:
    """Check whether a converter would take the images of one stack for copies of each other or for several stacks."""
    headers = list({header.path: header for header in headers}.values())
    if any(header.lacks_preamble for header in headers):
        return True
    if len(headers) == 1:
        return False
    own: list[set] = [{header.instance_uid for header in headers}, {header.instance_number for header in headers}]
    shared = [{header.study_uid for header in headers}, {header.series_uid for header in headers}]
    return any(len(numbers) < len(headers) for numbers in own) or any(len(numbers) > 1 for numbers in shared)


def _problem(images: list[Image], facts: SequenceFacts, grid: SliceGrid | str) -> str | None:
    """Explain why no volume can be made of the images, as the second half of a sentence; the gravest reason comes first."""
    if facts.modality != "MR" or facts.sop_class not in ("", *MR_CLASSES):
        return "is no MR image: choose another series"
    if facts.samples_per_pixel != 1:
        return "is in colour, as maps and screenshots are: choose another series"
    headers = {header.path: header for header, _ in images}
    faults = [header.fault for header in headers.values() if header.fault]
    if faults:
        most = Counter(faults).most_common(1)[0][0]
        return f"has {len(faults)} of {len(headers)} files that {most}: export it again"
    return grid if isinstance(grid, str) else None
