"""The cases of an input, DICOM series and volume files beside each other: who is who, and what is left out.

Import and prediction both take their cases from here, so that a scan has one name and one person in both.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.readable_names import shown
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.subjects import folded
from mmccd_auto.dicom.convert import convert_series
from mmccd_auto.dicom.files.gather_files import HIDDEN
from mmccd_auto.dicom.files.headers import NOT_DICOM
from mmccd_auto.dicom.records import Export, Series, Study
from mmccd_auto.dicom.series.choose_series import SeriesChoice, choose_series
from mmccd_auto.dicom.series.find_series import keep_series_only, read_export
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import shortened, too_long
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.sources.bids.cases import list_bids_cases
from mmccd_auto.sources.bids.dataset import is_bids
from mmccd_auto.sources.bids.options import BidsOptions
from mmccd_auto.sources.nifti_cases import LeftOut, NiftiListing, list_nifti_cases, summarise_left_out
from mmccd_auto.sources.pseudonyms import CODE_LETTERS, Known, Pseudonym, pseudonyms, study_code
from mmccd_auto.sources.series_table import SeriesRow, dicom_rows, file_row, left_out_row


@dataclass(frozen=True)
class SourceCase:
    """One visit of one person.

    Attributes
    ----------
    case, subject : pseudonyms, or what the names of files say
    scans : by wanted modality the file or series that stands for it
    error : why nothing can be made of the case; None if something can
    skipped : it holds nothing that is wanted, which is no failure
    origin : a code of the study, or of the folder that holds the files, by which a later import recognises the case
    beside : by modality what else the visit has of what may be used, but isn't needed
    """

    case: str
    subject: str
    scans: dict[str, Path | Series] = field(repr=False)
    error: str | None = None
    skipped: bool = False
    origin: str = ""
    beside: dict[str, Path | Series] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class SourceListing:
    """What an input holds.

    Attributes
    ----------
    cases : sorted by name; no two have one name, whatever the sources, letter case or form of Unicode
    series, files : a row for each DICOM series and for each volume file that was found
    notes : sentences on what could not be read, what was renamed, and numbers of files left out
    studies, names : of the DICOM part, for the table that leads back to people; else empty
    left_out : volume files that are no scan of any case, and why
    ages : years by case, where a BIDS dataset gives them
    """

    cases: tuple[SourceCase, ...]
    series: tuple[SeriesRow, ...]
    files: tuple[SeriesRow, ...]
    notes: tuple[str, ...]
    studies: tuple[Study, ...] = field(default=(), repr=False)
    names: tuple[Pseudonym, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict)

    @property
    def table(self) -> tuple[SeriesRow, ...]:
        """All rows."""
        return (*self.series, *self.files)


@dataclass(frozen=True)
class SourceOptions:
    """How the cases of an input are looked for.

    Attributes
    ----------
    overrides : pattern by modality (``--series``), for DICOM and BIDS
    key : of the pseudonyms, see :func:`pseudonyms`
    output : folder of the results: it is not searched, and its file system limits the length of names
    channels, alone : see :func:`mmccd_auto.sources.nifti_cases.list_nifti_cases`
    known : pseudonyms that are given already, see :func:`pseudonyms`
    bids : the user's wishes where the source is a BIDS dataset
    beside : modalities that are taken along where a visit has exactly one scan of them; no case needs them
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)
    output: str | Path | None = None
    channels: Sequence[str] = ()
    alone: bool = False
    known: Known | None = field(default=None, repr=False)
    bids: BidsOptions | None = None
    beside: Sequence[str] = ()


ANY_SOURCE = SourceOptions()


def list_source_cases(
    source: str | Path, wanted: Sequence[str], workspace: str | Path, options: SourceOptions = ANY_SOURCE
) -> SourceListing:
    """Find the cases of an input and what stands for each wanted modality.

    Parameters
    ----------
    source : folder, zip archive or DICOMDIR; volume files may lie beside DICOM; of a BIDS dataset only these are read
    wanted : modalities
    workspace : folder for what has to be unpacked
    options : how they are looked for

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``, or nothing in it that can be used.
    """
    source, output, alone = Path(source), options.output, options.alone
    export, nifti, others, ages = _read_source(source, wanted, workspace, options)
    taken = {folded(case.name) for case in nifti.cases} | {folded(case.subject) for case in nifti.cases}
    dicom = dicom_cases(export, wanted, options, taken)
    scans = [scan for case in dicom.cases for scan in (*case.scans.values(), *case.beside.values())]
    keep_series_only(workspace, [scan for scan in scans if isinstance(scan, Series)])
    if not dicom.cases and not nifti.cases:
        raise MMCCDError(nothing_found(export, nifti.left_out, source))
    notes = [*dicom.notes, *_stray_notes(export, nifti)]
    # Folders of a DICOM export may be called by patients.
    odd = [item for item in nifti.left_out if not (alone and item.unneeded)]
    notes += [f"Left out: {line}." for line in summarise_left_out(odd, None if export.studies else source)]
    notes += _notes_beside(nifti, others)
    cases = _beside_each_other(dicom.cases, _nifti_part(nifti, source, _files_beside(others, wanted)))
    if output is not None:
        cases = [_fitting(case, Path(output)) for case in cases]
    if not alone and any(case.scans for case in cases):
        notes += [case.error for case in cases if case.skipped and case.error]
        cases = [case for case in cases if not case.skipped]
    return SourceListing(
        tuple(sorted(cases, key=lambda one: one.case)),
        dicom.series,
        _file_rows(nifti, source),
        tuple(notes),
        dicom.studies,
        dicom.names,
        nifti.left_out,
        ages,
    )


def _read_source(
    source: Path, wanted: Sequence[str], workspace: str | Path, options: SourceOptions
) -> tuple[Export, NiftiListing, NiftiListing, Mapping[str, float]]:
    """Read what lies in an input: DICOM files, volume files, and ages in years by case where a BIDS dataset gives them.

    The volume files are listed twice: those of the wanted modalities, and those of all that are taken along as well.
    """
    output, alone, all_wanted = options.output, options.alone, [*wanted, *options.beside]
    others = NiftiListing((), ())
    if source.is_dir() and is_bids(source):
        needed = {name: text for name, text in options.overrides.items() if not _is_one_of(name, options.beside)}
        people = list_bids_cases(source, wanted, options.bids, needed, output, alone)
        if options.beside:
            others = list_bids_cases(source, all_wanted, options.bids, options.overrides, output).files
        # The DICOM files in its sourcedata are the same scans.
        return Export((), {}, people.notes), people.files, others, people.ages
    export = read_export(source, workspace)
    if not source.is_dir():
        return export, NiftiListing((), ()), others, {}
    nifti = list_nifti_cases(source, wanted, options.channels, output, alone)
    if options.beside:
        others = list_nifti_cases(source, all_wanted, options.channels, output)
    return _without_volumes(export, nifti), nifti, others, {}


def dicom_cases(export: Export, wanted: Sequence[str], options: SourceOptions, taken: Collection[str] = ()) -> SourceListing:
    """Return the cases of the DICOM files: one for each study of each patient.

    Parameters
    ----------
    export : the files
    wanted : modalities
    options : patterns, key, known pseudonyms, and what is taken along
    taken : folded names of other cases and people, which numbered pseudonyms pass over
    """
    overrides = options.overrides
    names = pseudonyms(export.studies, options.key, options.known)
    notes = []
    if options.key is None:
        numbered, names = names, _passing_over(names, taken)
        notes = [
            f"The DICOM study that would be {before.case} is called {name.case}, because a file has that name."
            for before, name in zip(numbered, names, strict=True)
            if folded(before.case) in taken
        ]
    cases: list[SourceCase] = []
    table: list[SeriesRow] = []
    for study, name in zip(export.studies, names, strict=True):
        beside, lacking = _beside_of(study.series, options)
        notes += [f"{name.case}: {reason} It is examined without." for reason in lacking.values()]
        try:
            patterns = {modality: pattern for modality, pattern in overrides.items() if modality not in lacking}
            choices = choose_series(study.series, [*wanted, *beside], patterns)
        except MMCCDError as error:
            # A pattern may fit one patient's series and not another's.
            choices = choose_series(study.series, wanted, {})
            cases.append(SourceCase(name.case, name.subject, {}, f"{name.case}: {error}"))
            table += dicom_rows(name.case, choices, used=False)
            continue
        used: dict[str, Path | Series] = {choice.used_as: choice.series for choice in choices if choice.used_as is not None}
        scans = {modality: one for modality, one in used.items() if modality in wanted}
        others = {modality: one for modality, one in used.items() if modality not in wanted} if scans else {}
        unusable = None if scans else f"{name.case} has no usable series of {', '.join(wanted)}: {_found(choices)}."
        skipped = not scans and not overrides
        cases.append(SourceCase(name.case, name.subject, scans, unusable, skipped, study_code(study), others))
        table += dicom_rows(name.case, choices)
    notes += _notes(export) if cases else []
    return SourceListing(tuple(cases), tuple(table), (), tuple(notes), export.studies, tuple(names))


def _beside_of(series: Sequence[Series], options: SourceOptions) -> tuple[list[str], dict[str, str]]:
    """Return the further modalities to look for in a study, and why the patterns of others fit none of its series."""
    lacking: dict[str, str] = {}
    for modality in options.beside:
        if modality in options.overrides:
            try:
                choose_series(series, [modality], {modality: options.overrides[modality]})
            except MMCCDError as error:
                lacking[modality] = str(error)
    return [modality for modality in options.beside if modality not in lacking], lacking


def load_scan(scan: Path | Series, workspace: Path) -> Volume:
    """Load the volume of a file, whose warnings it carries, or of a series (which is converted in ``workspace``)."""
    return read_volume(scan, warn=False) if isinstance(scan, Path) else convert_series(scan, workspace).volume


def nothing_found(export: Export, left_out: Sequence[LeftOut] = (), root: Path | None = None) -> str:
    """Explain why an input gives no case, in one sentence."""
    reasons = [problem.rstrip(".") for problem in export.problems]
    reasons += [f"{count} x {reason}" for reason, count in sorted(export.ignored.items())]
    reasons += summarise_left_out(left_out, None if export.is_dicom else root)
    found = f" ({'; '.join(reasons)})" if reasons else ", it is empty"
    return f"The input holds no scan that can be used{found}: give DICOM images or NIfTI volumes of the head."


def _passing_over(names: Sequence[Pseudonym], taken: Collection[str]) -> list[Pseudonym]:
    """Return numbered pseudonyms with free numbers instead of those that are taken."""
    given = dict.fromkeys(part for name in names for part in (name.case, name.subject))
    new: dict[str, str] = {}
    for part in given:
        new[part] = _free(part, {*taken, *given, *new.values()}) if folded(part) in taken else part
    return [Pseudonym(new[name.case], new[name.subject]) for name in names]


def _free(name: str, taken: Collection[str]) -> str:
    """Return the next numbered name after all that are taken."""
    word = name.rsplit("_", 1)[0]
    numbers = [
        int(match[1]) for other in {*taken, name} if (match := re.fullmatch(rf"{re.escape(word)}_(\d{{1,9}})", other))
    ]
    return next(free for number in count(max(numbers) + 1) if (free := f"{word}_{number:04d}") not in taken)


def _is_one_of(modality: str, modalities: Sequence[str]) -> bool:
    return contrast(modality) in {contrast(name) for name in modalities}


def _notes_beside(nifti: NiftiListing, others: NiftiListing) -> list[str]:
    """Explain why the other modalities of a visit are not taken along, where it isn't clear which file is which."""
    used = {file.path for case in nifti.cases for file in case.scans.values()}
    return [
        f"{shown(case.name)}: its other modalities are not used: {case.error}"
        for case in others.cases
        if case.error is not None and any(file.path in used for file in case.files)
    ]


def _files_beside(nifti: NiftiListing, wanted: Sequence[str]) -> dict[Path, dict[str, Path | Series]]:
    """List the other modalities of the visit of each wanted scan."""
    return {
        case.scans[name].path: {other: file.path for other, file in case.scans.items() if other not in wanted}
        for case in nifti.cases
        for name in wanted
        if name in case.scans
    }


def _nifti_part(nifti: NiftiListing, root: Path, others: Mapping[Path, dict[str, Path | Series]]) -> list[SourceCase]:
    origin = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:CODE_LETTERS]
    cases = []
    for case in nifti.cases:
        scans: dict[str, Path | Series] = {name: file.path for name, file in case.scans.items()}
        beside = {name: other for file in case.scans.values() for name, other in others.get(file.path, {}).items()}
        cases.append(SourceCase(case.name, case.subject, scans, case.error, case.skipped, origin, beside))
    return cases


def _beside_each_other(dicom: Sequence[SourceCase], nifti: Sequence[SourceCase]) -> list[SourceCase]:
    """Return all cases; a file's case that has a study's name all the same (keyed pseudonyms) is refused."""
    studies = {folded(case.case) for case in dicom}
    files = []
    for number, case in enumerate(nifti, 1):
        if folded(case.case) in studies:
            error = f"{case.case} is the name of a file and of a DICOM study: give the file another name."
            case = replace(case, case=f"{case.case}_file_{number}", scans={}, error=error, skipped=False)
        files.append(case)
    return [*dicom, *files]


def _fitting(case: SourceCase, output: Path) -> SourceCase:
    reason = too_long(case.case, output)
    if reason is None:
        return case
    return replace(case, case=shortened(case.case), scans={}, error=reason, skipped=False)


def _file_rows(nifti: NiftiListing, root: Path) -> tuple[SeriesRow, ...]:
    dropped = {item.path for item in nifti.left_out}
    rows = []
    for case in nifti.cases:
        used = {file.path: modality for modality, file in case.scans.items()}
        for file in case.files:
            if file.path not in dropped and (file.path in used or not case.scans):
                why = "named so" if case.scans else "nothing can be made of its case"
                rows.append(file_row(shown(case.name), file, used.get(file.path), why))
    rows += [left_out_row(shown(item.path.name), item.reason) for item in nifti.left_out]
    return tuple(rows)


def _without_volumes(export: Export, nifti: NiftiListing) -> Export:
    """Return the export without the volume files among those that are not DICOM: they are reported by name."""
    volumes = len(nifti.left_out) + sum(len(case.files) for case in nifti.cases)
    left = export.ignored.get(NOT_DICOM, 0) - volumes
    ignored = {reason: number for reason, number in export.ignored.items() if reason != NOT_DICOM}
    return replace(export, ignored=ignored | ({NOT_DICOM: left} if left > 0 else {}))


def _stray_notes(export: Export, nifti: NiftiListing) -> list[str]:
    """Describe what lies beside volume files, where no study of DICOM says it already."""
    if export.studies or not nifti.cases:
        return []
    return list(_notes(replace(export, ignored={k: v for k, v in export.ignored.items() if k not in (NOT_DICOM, HIDDEN)})))


def _notes(export: Export) -> tuple[str, ...]:
    left_out = [f"{counted(number, 'file')} left out: {reason}." for reason, number in sorted(export.ignored.items())]
    return (*export.problems, *left_out)


def _found(choices: Sequence[SeriesChoice]) -> str:
    """Describe what the series are, and why none is used, for the middle of a sentence."""
    told = [
        f"{choice.series.label} is {choice.kind}, {choice.why}"
        if choice.why != choice.series.problem
        else choice.why.rstrip(".")
        for choice in choices
    ]
    return "; ".join(told) or "it has no series"
