"""An export becomes a raw dataset: modalities on one grid, brains without heads, pseudonyms."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.parts import Part, part_lock
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.processes.cluster.connection import Cluster
from mmccd_auto.core.processes.executor import Workers, run_cases
from mmccd_auto.datasets.dataset import DATASET_FILE, DEFAULT_LABELS, Dataset, load_dataset
from mmccd_auto.datasets.health import HEALTH_KEY, HEALTHY, KINDS, LABELLED, UNKNOWN
from mmccd_auto.datasets.integrity import MISSING_CHANNELS_KEY
from mmccd_auto.datasets.subjects import describe_people
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.importing.ages import keep_ages
from mmccd_auto.importing.given_masks import GivenMasks, find_given_masks, source_files
from mmccd_auto.importing.import_case import RECORDS_FOLDER, SPLIT_OF, CaseOptions, import_case, read_case_record
from mmccd_auto.sources.bids.options import ALL_PEOPLE, BidsOptions
from mmccd_auto.sources.cases import SourceCase, SourceListing, SourceOptions, list_source_cases
from mmccd_auto.sources.pseudonyms import Known, Pseudonym, check_link_place, read_key, write_link
from mmccd_auto.sources.series_table import table_text, write_table

SERIES_FILE = "series.csv"
REFERENCE_PREFERENCE = ("FLAIR", "T2", "T1C", "T1")
SESSIONS_DIFFER = 0.15
"""Share by which the brain of one person may differ in volume between two visits before somebody should look."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportOptions:
    """What a user may ask of an import.

    Attributes
    ----------
    health : of all people: "healthy" (without abnormality), "labelled" (``labels`` mark what is abnormal) or "unknown"
        (patients without labels, who never train); it has to be said
    labels : folder of label files, where ``health`` is "labelled"
    label_values : of the labels, that mark what is abnormal
    modalities : to import, in the order of their channels
    reference : onto whose grid the others are laid; None takes the first of FLAIR, T2, T1C, T1 that is imported
    series : pattern by modality, see :func:`mmccd_auto.dicom.series.choose_series.choose_series`
    backend : of the brain extraction
    key_file : secret for pseudonyms that stay the same when the export grows; None numbers the cases
    link_file : where the table goes that leads from pseudonyms to people; None writes none
    keep_head : leave skull and face in the images; else voxels outside the brain are set to a constant
    overwrite : import cases again that are there
    brain_masks : folder of brain masks, CASE.nii.gz or as BIDS has them, on the grid of the reference
    bids : where the export is a BIDS dataset
    """

    health: str | None = None
    labels: str | None = None
    label_values: tuple[int, ...] = (1,)
    modalities: tuple[str, ...] = ("FLAIR", "T1", "T2")
    reference: str | None = None
    series: dict[str, str] = field(default_factory=dict)
    backend: str = "auto"
    key_file: str | None = None
    link_file: str | None = None
    keep_head: bool = False
    overwrite: bool = False
    brain_masks: str | None = None
    bids: BidsOptions = ALL_PEOPLE


@dataclass(frozen=True)
class ImportSummary:
    """What became of an import.

    Attributes
    ----------
    dataset : folder, DatasetXXX_Name
    imported : cases that can be used
    failed : a sentence for each case that can't
    notes : sentences on scans that were left out of their case, files that could not be read, and what a person should
        look at
    health : a sentence on what the imported people count as
    """

    dataset: Path
    imported: tuple[str, ...]
    failed: list[str]
    notes: list[str]
    health: str = ""


def import_dataset(
    source: str | Path, dataset: str | Path, options: ImportOptions, processes: Workers, part: Part | None = None
) -> ImportSummary:
    """Turn an export into a raw dataset, or add it to one that was imported; an interrupted import continues where it was.

    Parameters
    ----------
    source : folder, zip archive or DICOMDIR; DICOM files, else NIfTI files named by their modality; or a BIDS dataset
    dataset : folder to make, or to add to, DatasetXXX_Name
    options : the user's wishes
    processes : workers; 0 works in this process; or a cluster, whose machines have to see the source
    part : of the cases; then their files and records alone are written, and what tells of the whole dataset (dataset.json,
        series.csv, the link to people) is left to a later call without

    Raises
    ------
    MMCCDError
        If it isn't said who is healthy, there is nothing to import, or the dataset's folder holds something else; or if
        parts are asked for of an export whose cases would be numbered.
    """
    dataset = Path(dataset)
    _check_health(options)
    _check_places(dataset, options)
    reference = _reference(options)
    key = None if options.key_file is None else read_key(options.key_file)
    with part_lock(dataset, part, "a dataset"), workspace("import") as temporary:
        present = _present(dataset)
        earlier = {record["case"]: record.get("health") for record in _records(dataset)}
        looked_for = SourceOptions(options.series, key, dataset, known=_known(dataset), bids=options.bids)
        listing = list_source_cases(source, options.modalities, temporary, looked_for)
        logger.info("%s", table_text(listing.table))
        if part is None:
            _write_listing(listing, source, dataset, options)
        else:
            _check_names_last(listing, source, key)
        channels = _channels(listing, options.modalities, present)
        usable = [case for case in listing.cases if case.error is None]
        subjects = _subjects(present, usable)
        logger.info("%s; correct subjects in %s if this is wrong", describe_people(subjects), DATASET_FILE)
        masks = find_given_masks(options.labels, options.brain_masks, listing, usable, Path(source))
        case_options = _case_options(options, channels, reference)
        scratch = _scratch(processes, usable, temporary, source)
        arguments = [
            (one.case, (one, case_options, dataset, scratch and scratch / f"work-{index}", *masks.of(one.case)))
            for index, one in enumerate(usable)
            if _in(part, one.case) and one.case not in masks.errors
        ]
        outcomes = run_cases(import_case, arguments, processes, "importing")
        records = {outcome.case: outcome.result for outcome in outcomes if outcome.result is not None}
        aged: list[str] = []
        if part is None and (records or present is not None):
            _describe(dataset, channels, records, subjects, present, earlier)
            aged = keep_ages(dataset, listing.ages, records)
    failed = _unusable(listing, masks, part) + [outcome.error for outcome in outcomes if outcome.error is not None]
    notes = [*masks.notes, *_notes(records), *_unlike_sessions(records, subjects), *aged]
    if part is None:
        notes = [*listing.notes, *notes, *_unused_labels(masks, options)]
    return ImportSummary(
        dataset, tuple(records), failed, notes, _told_health(dataset, len({subjects[case] for case in records}), options)
    )


def _check_health(options: ImportOptions) -> None:
    if options.health not in KINDS or (options.labels is None) != (options.health != LABELLED):
        raise MMCCDError(
            "An import has to know who is in it: --healthy (all people are without abnormality), --labels FOLDER (labels "
            "mark what is abnormal) or --patients (people may be abnormal and nothing is marked: they never train)."
        )
    if not options.label_values or any(value < 1 for value in options.label_values):
        raise MMCCDError("--label_values must be whole numbers above 0; 0 is what is healthy.")


def _check_places(dataset: Path, options: ImportOptions) -> None:
    if (dataset / DATASET_FILE).exists() and not (dataset / RECORDS_FOLDER).is_dir():
        raise MMCCDError(f"{dataset} holds a dataset that was not imported: choose another number or name.")
    if options.link_file is not None:
        check_link_place(options.link_file, dataset)


def _in(part: Part | None, case: str) -> bool:
    return part is None or part.holds(case)


def _write_listing(listing: SourceListing, source: str | Path, dataset: Path, options: ImportOptions) -> None:
    """Write what the export holds: the table of its series and, where it is wished, the link to its people."""
    write_table(listing.table, dataset / RECORDS_FOLDER / SERIES_FILE)
    if options.link_file is not None:
        write_link(options.link_file, listing.studies, listing.names, source_files(listing, Path(source)))


def _check_names_last(listing: SourceListing, source: str | Path, key: bytes | None) -> None:
    """Raise :class:`MMCCDError` where each part of an import would give the cases other names."""
    if key is None and listing.studies:
        raise MMCCDError(
            f"{source} holds DICOM studies, whose cases are numbered in the order in which they are imported: --part "
            "needs --pseudonym_key, which names them alike in all parts."
        )


def _unusable(listing: SourceListing, masks: GivenMasks, part: Part | None) -> list[str]:
    """List why cases of the export, or of the part, can't be imported."""
    failed = [one.error for one in listing.cases if one.error is not None and _in(part, one.case)]
    return failed + [sentence for case, sentence in masks.errors.items() if _in(part, case)]


def _unused_labels(masks: GivenMasks, options: ImportOptions) -> list[str]:
    unused = masks.labels.unused
    return [f"{unused} volumes of {options.labels} are the label of no imported case."] if unused else []


def _scratch(processes: Workers, cases: Sequence[SourceCase], temporary: Path, source: str | Path) -> Path | None:
    """Choose the folder for temporary files; None at a cluster, where each case makes one on the machine that imports it."""
    if not isinstance(processes, Cluster) or processes.here:
        return temporary
    _check_seen(cases, temporary, source)
    return None


def _check_seen(cases: Sequence[SourceCase], temporary: Path, source: str | Path) -> None:
    """Refuse scans that were unpacked on this machine, where the workers of a cluster can't read them."""
    for case in cases:
        for scan in case.scans.values():
            for file in [scan] if isinstance(scan, Path) else scan.files:
                if temporary in Path(file).parents:
                    raise MMCCDError(
                        f"{source} has to be unpacked, which the machines of a cluster would not see: unpack it into a "
                        "folder that all of them share, and give that."
                    )


def _present(dataset: Path) -> Dataset | None:
    """Return the dataset of an earlier import; None where there is none."""
    return load_dataset(dataset) if (dataset / DATASET_FILE).exists() else None


def _records(dataset: Path) -> list[dict[str, Any]]:
    """Return the records of earlier imports.

    One that can't be read counts for nothing, so that its case is imported again.
    """
    records = (read_case_record(path) for path in sorted((dataset / RECORDS_FOLDER).glob("*.json")))
    return [record for record in records if record is not None]


def _known(dataset: Path) -> Known:
    """Return the pseudonyms that the dataset has already."""
    records = [record for record in _records(dataset) if record.get("origin") and record.get("subject")]
    by_study = {record["origin"]: Pseudonym(record["case"], record["subject"]) for record in records}
    return Known(by_study, {record["case"] for record in records}, {record["subject"] for record in records})


def _subjects(present: Dataset | None, cases: Sequence[SourceCase]) -> dict[str, str]:
    """Return the person of each case: as dataset.json says, which somebody may have corrected, else as the source says."""
    corrected = {} if present is None else present.subjects
    return {case.case: corrected.get(case.case, case.subject) for case in cases}


def _case_options(options: ImportOptions, channels: Sequence[str], reference: str) -> CaseOptions:
    return CaseOptions(
        health=str(options.health),
        channels={modality: number for number, modality in enumerate(channels)},
        reference=reference,
        backend=options.backend,
        keep_head=options.keep_head,
        label_values=options.label_values,
        overwrite=options.overwrite,
    )


def _describe(
    dataset: Path,
    channels: Sequence[str],
    records: Mapping[str, dict],
    subjects: Mapping[str, str],
    present: Dataset | None,
    earlier: Mapping[str, str | None],
) -> None:
    """Write dataset.json: what it said of other cases stays, and so does what a person edited there.

    Parameters
    ----------
    subjects : person by case
    present : the dataset as it was
    earlier : health by case that earlier imports wrote, by which edits are known
    """
    before = {} if present is None else present.content
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": before.get("labels", DEFAULT_LABELS),
        "numTraining": 0,
        "file_ending": ".nii.gz",
        "subjects": dict(before.get("subjects", {})),
        HEALTH_KEY: dict(before.get(HEALTH_KEY) or {}),
        MISSING_CHANNELS_KEY: dict(before.get(MISSING_CHANNELS_KEY, {})),
    }
    content = {**before, **content}
    for case, record in records.items():
        content["subjects"][case] = subjects[case]
        # A case that is not there yet was written by an import that ended before dataset.json.
        if content[HEALTH_KEY].get(case, earlier.get(case)) == earlier.get(case):
            content[HEALTH_KEY][case] = record.get("health", UNKNOWN)
        missing = [name for name in channels if name not in record["modalities"]]
        content[MISSING_CHANNELS_KEY].pop(case, None)
        if missing:
            content[MISSING_CHANNELS_KEY][case] = missing
    # Cases that an import removed because they can no longer be used are no part of the dataset.
    there = {record["case"]: record.get("health", HEALTHY) for record in _records(dataset)}
    for entry in ("subjects", HEALTH_KEY, MISSING_CHANNELS_KEY):
        content[entry] = {case: value for case, value in content[entry].items() if case in there}
    content["numTraining"] = sum(SPLIT_OF[health] == "Tr" for health in there.values())
    save_json(content, dataset / DATASET_FILE)


def _notes(records: Mapping[str, dict]) -> list[str]:
    """Describe what of the cases was left out, and what is odd of their brains."""
    notes = [sentence for record in records.values() for sentence in record["left_out"].values()]
    for case, record in records.items():
        for modality, warnings in record.get("warnings", {}).items():
            notes += [f"{case}: {modality}: {warning}" for warning in warnings]
        if record["brain_extraction"]["warning"]:
            notes.append(f"{case}: {record['brain_extraction']['warning']}")
    return notes


def _unlike_sessions(records: Mapping[str, dict], subjects: Mapping[str, str]) -> list[str]:
    """Return a sentence on each person whose brain differs in volume between visits: one of its outlines may be wrong."""
    volumes: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for case, record in records.items():
        volumes[subjects[case]].append((record["brain_extraction"]["brain_ml"], case))
    notes = []
    for (smallest, first), (largest, second) in ((min(one), max(one)) for one in volumes.values()):
        if largest > (1 + SESSIONS_DIFFER) * smallest:
            notes.append(
                f"The brain of one person takes {smallest:.0f} ml in {first} and {largest:.0f} ml in {second}: look at the "
                f"outlines in {RECORDS_FOLDER}/{first}.png and {RECORDS_FOLDER}/{second}.png, one of them may be wrong."
            )
    return notes


def _told_health(dataset: Path, people: int, options: ImportOptions) -> str:
    """Say what the imported people count as, and why."""
    who = "1 person" if people == 1 else f"{people} people"
    if options.health == HEALTHY:
        return f"{who} {'counts' if people == 1 else 'count'} as healthy, because --healthy was given."
    if options.health == LABELLED:
        return f"{who} {'has' if people == 1 else 'have'} labels (--labels): slices with what they mark train nothing."
    return (
        f"{who} may be abnormal (--patients): the scans lie in {dataset / ('images' + SPLIT_OF[UNKNOWN])}, to be predicted, "
        "and train and calibrate nothing."
    )


def _channels(listing: SourceListing, modalities: Sequence[str], present: Dataset | None) -> list[str]:
    """Return the channels of the dataset: those that it has, and then those that the export adds."""
    there = {modality for case in listing.cases for modality in case.scans}
    channels = [modality for modality in modalities if modality in there]
    if len(channels) < 2:
        found = f"only {channels[0]} was" if channels else "none of them was"
        raise MMCCDError(
            f"Two modalities of {', '.join(modalities)} are needed to train, and {found} found: look at {SERIES_FILE} in "
            f"the dataset's folder {RECORDS_FOLDER}, and name the series by --series."
        )
    before = [] if present is None else list(present.modalities)
    for name, known in itertools.product(channels, before):
        if name != known and contrast(name) == contrast(known):
            raise MMCCDError(f"The dataset calls {known} what --modalities calls {name}: give it the same name.")
    return [*before, *(name for name in channels if name not in before)]


def _reference(options: ImportOptions) -> str:
    names = {contrast(modality): modality for modality in options.modalities}
    if options.reference is not None:
        if contrast(options.reference) not in names:
            raise MMCCDError(
                f"--reference {options.reference} is not imported: choose one of {', '.join(options.modalities)}."
            )
        return names[contrast(options.reference)]
    return next((names[one] for one in REFERENCE_PREFERENCE if one in names), options.modalities[0])
