"""The studies and series of a DICOM export, whatever shape its folders have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmccd_auto.dicom.gather_files import UNREADABLE_FILE, UNREADABLE_FOLDER, gather_files
from mmccd_auto.dicom.headers import DAMAGED, EMPTY, MR_CLASSES, NO_PIXELS, Header, read_header
from mmccd_auto.dicom.privacy import patient_words, without_patient
from mmccd_auto.dicom.records import Export, Patient, SequenceFacts, Series, SliceGrid, Study, sentence, series_label
from mmccd_auto.dicom.slices import Image, fit_grid, orientation, sorted_images, split_parts

COPIES = "copies of images that are there already"
_LOSSES = (EMPTY, DAMAGED, UNREADABLE_FILE, UNREADABLE_FOLDER)

__all__ = ["Export", "Patient", "SequenceFacts", "Series", "SliceGrid", "Study", "read_export"]


def read_export(source: str | Path, workspace: str | Path) -> Export:
    """Find every study and series of an export; only headers are read.

    Images belong together if patient, study and series agree: two patients under one study number are two studies. What
    can't be used stays in the list with the sentence that says why.

    Parameters
    ----------
    source : a folder of any shape, a DICOMDIR (which stands for its folder), or a zip archive
    workspace : a folder for what archives hold; it must stay until the series are converted

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``.
    """
    gathered = gather_files(Path(source), Path(workspace))
    ignored = Counter(gathered.ignored)
    headers: list[Header] = []
    not_images = 0
    for path in gathered.files:
        try:
            found = read_header(path)
        except OSError:
            ignored[UNREADABLE_FILE] += 1
            continue
        if isinstance(found, Header):
            headers.append(found)
        else:
            ignored[found.reason] += 1
            not_images += found.is_dicom
    unique = _without_copies(headers)
    ignored[COPIES] += len(headers) - len(unique)
    problems = [*gathered.problems, *(_loss(reason, ignored[reason]) for reason in _LOSSES if ignored[reason])]
    left_out = {reason: count for reason, count in sorted(ignored.items()) if count}
    return Export(_studies(unique), left_out, tuple(problems), len(headers) + not_images)


def _loss(reason: str, count: int) -> str:
    return f"The export holds {reason} ({count}): if images are missing, export it again."


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """Each image once.

    Some tools that take names out give several images one number, so that position and echo must agree as well; and of
    several copies a complete one is kept.
    """
    kept: dict[tuple, Header] = {}
    for header in headers:
        frame = header.frames[0]
        places = (frame.position, frame.orientation, frame.echo_time, frame.image_type)
        key = (header.patient, header.study_uid, header.series_uid, header.instance_uid or header.path, places)
        if key not in kept or (kept[key].fault and not header.fault):
            kept[key] = header
    return list(kept.values())


def _studies(headers: Sequence[Header]) -> tuple[Study, ...]:
    groups: dict[tuple, list[Header]] = defaultdict(list)
    for header in headers:
        groups[(_identity(header.patient), header.study_uid)].append(header)
    studies = []
    for members in groups.values():
        words = tuple({word: None for header in members for word in patient_words(header.patient)})
        series = [part for group in _series_groups(members) for part in _build_series(group, words)]
        series.sort(key=lambda item: (item.number is None, item.number or 0, item.uid))
        first = members[0]
        studies.append(Study(first.patient, first.study_uid, first.study_date, tuple(series)))
    return tuple(sorted(studies, key=lambda study: (study.date, study.uid, study.patient.identifier, study.patient.name)))


def _identity(patient: Patient) -> tuple[str, ...]:
    """What must agree for two files to be of one patient: spelling by capitals and padding doesn't count."""
    return tuple(text.strip(" ^").casefold() for text in (patient.name, patient.identifier, patient.birth_date))


def _series_groups(headers: Sequence[Header]) -> list[list[Header]]:
    """The headers of each series; where the series' unique number is missing, its number and name stand for it."""
    groups: dict[tuple, list[Header]] = defaultdict(list)
    for header in headers:
        fallback = () if header.series_uid else (header.series_number, header.values["description"])
        groups[(header.series_uid, *fallback)].append(header)
    return list(groups.values())


def _build_series(headers: list[Header], words: tuple[str, ...]) -> list[Series]:
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
    )


def _problem(images: list[Image], facts: SequenceFacts, grid: SliceGrid | str) -> str | None:
    """Why no volume can be made of the images, as the second half of a sentence; the gravest reason comes first."""
    if facts.modality != "MR" or facts.sop_class not in MR_CLASSES:
        return "is no MR image: choose another series"
    headers = {header.path: header for header, _ in images}
    faults = [header.fault for header in headers.values() if header.fault]
    if faults:
        what = "hold no pixels" if set(faults) == {NO_PIXELS} else "are truncated"
        return f"has {len(faults)} of {len(headers)} files that {what}: export it again"
    return grid if isinstance(grid, str) else None
