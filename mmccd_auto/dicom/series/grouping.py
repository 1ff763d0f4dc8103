"""Which images are one series and which series one study, also where tools have made the numbers (UIDs) useless.

Tools that take names out give each image a study or series of its own, or one for all, or leave them empty. The numbers are
believed where they say something; else patient, time, series number and place show what belongs together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from mmccd_auto.dicom.files.headers import Header
from mmccd_auto.dicom.records import Patient

# Fewer single images of one kind may really be series of one image each.
FEWEST_SCATTERED = 3


@dataclass(frozen=True)
class StudyGroup:
    """The images of one study, by series.

    Attributes
    ----------
    uid : StudyInstanceUID; where it is useless, a text that stands for it
    """

    uid: str
    series: tuple[tuple[Header, ...], ...] = field(repr=False)

    @property
    def headers(self) -> list[Header]:
        """All images."""
        return [header for members in self.series for header in members]


@dataclass(frozen=True)
class Grouping:
    """The studies of an export.

    Attributes
    ----------
    notes : a sentence for each kind of number that was useless
    """

    studies: tuple[StudyGroup, ...]
    notes: tuple[str, ...]


def group_images(headers: Sequence[Header]) -> Grouping:
    """Put images together into series and studies.

    Two patients under one study number are two studies.
    """
    series, scattered = _series(headers)
    studies: dict[Hashable, list[tuple[Header, ...]]] = defaultdict(list)
    several, missing = 0, 0
    for members in series:
        uids = {header.study_uid for header in members}
        several += len(members) if len(uids) > 1 else 0
        missing += len(members) if uids == {""} else 0
        key = (patient_key(members[0].patient), *_study_key(members, uids))
        studies[key].append(members)
    groups = tuple(StudyGroup(_study_uid(members), tuple(members)) for members in studies.values())
    return Grouping(groups, tuple(_notes(scattered, several, missing)))


def patient_key(patient: Patient) -> tuple[str, ...]:
    """Describe what must agree for two files to be of one patient: spelling by capitals and padding doesn't count."""
    return tuple(text.strip(" ^").casefold() for text in (patient.name, patient.identifier, patient.birth_date))


def _series(headers: Sequence[Header]) -> tuple[list[tuple[Header, ...]], int]:
    """Return the images of each series, and how many were put together against their numbers."""
    by_uid: dict[Hashable, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[_series_key(header)].append(header)
    singles: dict[Hashable, list[Header]] = defaultdict(list)
    series = []
    for members in by_uid.values():
        if len(members) == 1 and len(members[0].frames) == 1:
            singles[_kind_key(members[0])].append(members[0])
        else:
            series += _by_study(members)
    scattered = 0
    for members in singles.values():
        if len(members) < FEWEST_SCATTERED:
            series += [(header,) for header in members]
        else:
            scattered += len(members)
            series += _by_time(members)
    return series, scattered


def _series_key(header: Header) -> Hashable:
    """Return patient, unique number and number: some tools give all series of a study one unique number."""
    name = header.values["description"] if header.series_number is None or not header.series_uid else ""
    # Without any number of the series, only the study's keeps apart what has the same name.
    study = "" if header.series_uid else header.study_uid
    return (patient_key(header.patient), header.series_uid, study, header.series_number, name)


def _by_study(members: Sequence[Header]) -> list[tuple[Header, ...]]:
    """Take a series that was filed in several studies for one in each.

    But not where nearly each image names another study.
    """
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in members:
        studies[header.study_uid].append(header)
    if len(studies) > len(members) / 2 or "" in studies:
        return [tuple(members)]
    return [tuple(one) for one in studies.values()]


def _kind_key(header: Header) -> Hashable:
    """Return what all images of a series share, as far as a header gives it."""
    frame, values = header.frames[0], header.values
    plane = None if frame.orientation is None else tuple(round(value, 2) + 0.0 for value in frame.orientation)
    names = (header.series_number, values["description"], values["protocol_name"])
    size = (values["rows"], values["columns"], frame.spacing)
    return (
        patient_key(header.patient),
        header.study_date,
        header.study_time,
        header.frame_of_reference,
        *names,
        *size,
        plane,
    )


def _by_time(members: Sequence[Header]) -> list[tuple[Header, ...]]:
    """Return one series, or several of different times if positions are repeated."""
    places = {(header.frames[0].position, header.frames[0].echo_time, header.frames[0].image_type) for header in members}
    times: dict[str, list[Header]] = defaultdict(list)
    for header in members:
        times[header.series_time].append(header)
    if len(places) == len(members) or min(len(one) for one in times.values()) < FEWEST_SCATTERED:
        return [tuple(members)]
    return [tuple(one) for one in times.values()]


def _study_key(members: Sequence[Header], uids: set[str]) -> tuple[str, ...]:
    """Return what distinguishes one study from another: its number, unless that is missing or another one in each image."""
    if len(uids) == 1 and uids != {""}:
        return ("number", *uids)
    first = members[0]
    dates, times = ({getattr(header, name) for header in members} for name in ("study_date", "study_time"))
    if any(patient_key(first.patient)) and len(dates) == 1 and dates != {""}:
        return ("date", *dates, *(times if len(times) == 1 else ()))
    frames = {header.frame_of_reference for header in members}
    if len(frames) == 1 and frames != {""}:
        return ("frame of reference", *frames)
    # Nothing says which other series it belongs to; nobody's series may be mixed.
    return ("series", min(header.series_uid for header in members), str(first.path) if not first.series_uid else "")


def _study_uid(series: Sequence[Sequence[Header]]) -> str:
    """Return the study's number.

    Where it is useless, a text that is the same in every run and other for every other study.
    """
    headers = [header for members in series for header in members]
    uids = sorted({header.study_uid for header in headers})
    if len(uids) == 1 and uids[0]:
        return uids[0]
    first = headers[0]
    own = next((uid for uid in uids if uid), "no number")
    return " ".join(
        [own, first.study_date, first.study_time, first.frame_of_reference, min(one.series_uid for one in headers)]
    )


def _notes(scattered: int, several: int, missing: int) -> list[str]:
    notes = []
    if scattered:
        notes.append(
            f"{scattered} images have a SeriesInstanceUID each, which is useless: they were put together by patient, series "
            "number and place."
        )
    if several:
        notes.append(
            f"{several} images of one series have several StudyInstanceUIDs, which is useless: they were put together by "
            "patient, date and series."
        )
    if missing:
        notes.append(f"{missing} images have no StudyInstanceUID: studies were distinguished by patient and date.")
    return notes
