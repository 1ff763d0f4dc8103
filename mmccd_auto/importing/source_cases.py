"""The cases of an export, whatever it is made of: DICOM series or NIfTI files, by modality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.dicom.choose_series import SeriesChoice, choose_series
from mmccd_auto.dicom.convert import convert_series
from mmccd_auto.dicom.find_series import keep_series_only, read_export
from mmccd_auto.dicom.records import Export, Series, Study
from mmccd_auto.errors import MMCCDError
from mmccd_auto.image_io import Volume, read_volume
from mmccd_auto.importing.pseudonyms import Pseudonym, pseudonyms
from mmccd_auto.importing.series_table import SeriesRow, dicom_rows, file_row
from mmccd_auto.modalities import contrast
from mmccd_auto.volume_names import NamedFile, no_scan, read_names, volume_ending, walk

MANY_CHANNELS = 10_000


@dataclass(frozen=True)
class SourceCase:
    """One visit of one person.

    Attributes
    ----------
    case, subject : pseudonyms
    scans : by wanted modality the file or series that stands for it
    error : why nothing can be made of the case; None if something can
    """

    case: str
    subject: str
    scans: dict[str, Path | Series] = field(repr=False)
    error: str | None = None


@dataclass(frozen=True)
class SourceListing:
    """What an export holds.

    Attributes
    ----------
    cases : sorted by name
    table : a row for each series or file that was found
    notes : sentences on what could not be read, and numbers of files left out
    studies, names : of a DICOM export, for the table that leads back to people; else empty
    """

    cases: tuple[SourceCase, ...]
    table: tuple[SeriesRow, ...]
    notes: tuple[str, ...]
    studies: tuple[Study, ...] = field(default=(), repr=False)
    names: tuple[Pseudonym, ...] = ()


def list_source_cases(
    source: str | Path,
    wanted: Sequence[str],
    workspace: str | Path,
    overrides: Mapping[str, str] | None = None,
    key: bytes | None = None,
) -> SourceListing:
    """Find the cases of an export and what stands for each wanted modality.

    Parameters
    ----------
    source : folder, zip archive, DICOMDIR, or a folder of NIfTI files
    wanted : modalities
    workspace : folder for what has to be unpacked
    overrides : pattern by modality (``--series``), for DICOM
    key : of the pseudonyms, see :func:`pseudonyms`

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``, or nothing in it that can be used.
    """
    export = read_export(source, workspace)
    if export.is_dicom:
        listing = dicom_cases(export, wanted, overrides or {}, key)
        keep_series_only(workspace, [series for case in listing.cases for series in case.scans.values()])
        return listing
    volumes = [] if not Path(source).is_dir() else [path for path in walk(Path(source)) if volume_ending(path.name)]
    if not volumes:
        raise MMCCDError(nothing_found(export))
    return _nifti_cases(Path(source), sorted(volumes), wanted)


def dicom_cases(
    export: Export, wanted: Sequence[str], overrides: Mapping[str, str], key: bytes | None = None
) -> SourceListing:
    """The cases of a DICOM export: one for each study of each patient."""
    names = pseudonyms(export.studies, key)
    cases, table = [], []
    for study, name in zip(export.studies, names, strict=True):
        try:
            choices = choose_series(study.series, wanted, overrides)
        except MMCCDError as error:
            # A pattern may fit one patient's series and not another's.
            choices = choose_series(study.series, wanted, {})
            cases.append(SourceCase(name.case, name.subject, {}, f"{name.case}: {error}"))
            table += dicom_rows(name.case, choices, used=False)
            continue
        scans = {choice.used_as: choice.series for choice in choices if choice.used_as is not None}
        error = None if scans else f"{name.case} has no usable series of {', '.join(wanted)}: {_found(choices)}."
        cases.append(SourceCase(name.case, name.subject, scans, error))
        table += dicom_rows(name.case, choices)
    if not cases:
        raise MMCCDError(nothing_found(export))
    return SourceListing(
        tuple(sorted(cases, key=lambda one: one.case)), tuple(table), _notes(export), export.studies, tuple(names)
    )


def load_scan(scan: Path | Series, workspace: Path) -> Volume:
    """The volume of a file or of a series (which is converted in ``workspace``)."""
    return read_volume(scan) if isinstance(scan, Path) else convert_series(scan, workspace).volume


def nothing_found(export: Export) -> str:
    """Why an export gives no case, in one sentence."""
    reasons = [problem.rstrip(".") for problem in export.problems]
    reasons += [f"{count} x {reason}" for reason, count in sorted(export.ignored.items())]
    found = f" ({'; '.join(reasons)})" if reasons else ", it is empty"
    return f"The input holds no scan that can be used{found}: give DICOM images or NIfTI volumes of the head."


def _notes(export: Export) -> tuple[str, ...]:
    left_out = [f"{count} files were left out: {reason}." for reason, count in sorted(export.ignored.items())]
    return (*export.problems, *left_out)


def _found(choices: Sequence[SeriesChoice]) -> str:
    return "; ".join(f"series {choice.number} is {choice.kind}, {choice.why}" for choice in choices) or "it has no series"


def _nifti_cases(root: Path, paths: Sequence[Path], wanted: Sequence[str]) -> SourceListing:
    """NIfTI files by the words in their names and folders; cases are named as they are."""
    scans = [path for path in paths if no_scan(path.name, MANY_CHANNELS) is None]
    groups: dict[tuple[tuple[str, ...], str], list[NamedFile]] = defaultdict(list)
    for file in read_names(root, scans, ()):
        groups[file.folder, file.stem].append(file)
    cases, table = [], []
    for (folder, stem), members in sorted(groups.items()):
        case = "_".join((*folder, *([stem] if stem else []))) or "case"
        chosen, error = _by_modality(case, members, wanted)
        cases.append(SourceCase(case, case, chosen, error))
        used = {path: modality for modality, path in chosen.items()}
        table += [file_row(case, file, used.get(file.path)) for file in members]
    if not cases:
        raise MMCCDError("The input holds labels, masks or earlier results only: there is no scan in it.")
    return SourceListing(tuple(cases), tuple(table), ())


def _by_modality(case: str, members: Sequence[NamedFile], wanted: Sequence[str]) -> tuple[dict[str, Path], str | None]:
    found: dict[str, Path] = {}
    for file in members:
        modality = next((name for name in wanted if file.modality and contrast(name) == contrast(file.modality)), None)
        if modality is None:
            continue
        if modality in found:
            return {}, f"{case} has several files that may be its {modality}: leave only one of them."
        found[modality] = file.path
    if found:
        return found, None
    named = ", ".join(wanted)
    return {}, f"{case} has no file whose name tells one of {named}: name them {case}_{wanted[0]}.nii.gz and so on."
