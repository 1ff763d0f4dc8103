"""Which files of a folder are cases, and which file of a case holds the modality that the model examines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.dicom.records import Series, Study
from mmccd_auto.errors import MMCCDError
from mmccd_auto.importing.pseudonyms import Pseudonym
from mmccd_auto.volume_names import (
    VOLUME_ENDINGS,
    NamedFile,
    case_names,
    no_scan,
    read_names,
    standard_modality,
    volume_ending,
    volume_stem,
    walk,
)

CONVERT_DICOM = "convert the series to NIfTI first (for example with dcm2niix)"


@dataclass(frozen=True)
class InputCase:
    """One case to predict: its file or DICOM series, or the sentence that says why it can't be predicted.

    Attributes
    ----------
    case : its name, a pseudonym where it comes from DICOM
    skipped : the case holds nothing that could be predicted (a study without the modality, say), which is no failure
    """

    case: str
    file: Path | None
    error: str | None = None
    series: Series | None = field(default=None, repr=False)
    skipped: bool = False


@dataclass(frozen=True)
class InputListing:
    """What was found.

    Attributes
    ----------
    cases : sorted by name
    ignored : (path, reason) of volume files that are no input
    studies, names : of the DICOM cases, for the table that leads back to people; else empty
    """

    cases: tuple[InputCase, ...]
    ignored: tuple[tuple[Path, str], ...]
    studies: tuple[Study, ...] = field(default=(), repr=False)
    names: tuple[Pseudonym, ...] = ()


def discover_cases(
    source: str | Path, modality: str, modalities: Sequence[str], exclude: str | Path | None = None
) -> InputListing:
    """Find the cases of a folder (or a single file) and in each the file of one modality.

    Names in the dataset's manner (``CASE_0000.nii.gz``) are read by channel number. Other names are read by the words in
    them, then by those in their folders' names (``flair``, ``t1w``, ``t1ce``, ...). Where no name tells a modality, every
    file is a case. Labels and masks are left out. Nothing is opened: only names are looked at.

    Parameters
    ----------
    source : a folder, searched with all its subfolders, or one volume file
    modality : the model's input modality
    modalities : the dataset's modalities in the order of their channel numbers
    exclude : a folder that is not searched (the output)

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``, or nothing in it that can be read: DICOM, or no images at all.
    """
    source = Path(source)
    if source.is_file():
        return InputListing((_single_file(source, modality, modalities),), ())
    if not source.is_dir():
        raise MMCCDError(f"{source} does not exist: give a folder of NIfTI files or one file.")
    paths = sorted(path for path in walk(source, exclude) if volume_ending(path.name))
    if not paths:
        raise MMCCDError(_nothing_found(source, exclude))
    ignored = {path: reason for path in paths if (reason := no_scan(path.name, len(modalities)))}
    files = read_names(source, [path for path in paths if path not in ignored], modalities)
    cases = _assign(files, standard_modality(modality), modality, modalities, ignored)
    if not cases:
        raise MMCCDError(f"{source} holds labels, masks or earlier results only: there is no scan to predict.")
    cases = sorted(_told_apart(source, cases), key=lambda item: item.case)
    return InputListing(tuple(cases), tuple(sorted(ignored.items())))


def _single_file(path: Path, modality: str, modalities: Sequence[str]) -> InputCase:
    if not volume_ending(path.name):
        hint = f"it is DICOM, which this version does not read: {CONVERT_DICOM}" if _is_dicom(path) else "give a NIfTI file"
        raise MMCCDError(f"{path} is no volume file: {hint}.")
    file = read_names(path.parent, [path], modalities)[0]
    if file.modality not in (None, standard_modality(modality)):
        raise MMCCDError(f"{path} is named as {file.modality}: this model examines {modality}.")
    return InputCase(file.stem or volume_stem(path), path)


def _nothing_found(folder: Path, exclude: str | Path | None) -> str:
    files = list(walk(folder, exclude))
    if any(_is_dicom(path) for path in files):
        return f"{folder} holds DICOM files, which this version does not read: {CONVERT_DICOM}."
    if files:
        return f"{folder} holds no volume ({', '.join(VOLUME_ENDINGS)}): there is nothing to predict."
    return f"{folder} is empty: there is nothing to predict."


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _assign(
    files: list[NamedFile], wanted: str, modality: str, modalities: Sequence[str], ignored: dict[Path, str]
) -> list[InputCase]:
    """One case per (folder, name), with the file of the wanted modality or the reason why there is none."""
    groups: dict[tuple[tuple[str, ...], str], list[NamedFile]] = defaultdict(list)
    for file in files:
        groups[file.folder, file.stem].append(file)
    names = case_names(list(groups))
    told = any(file.modality for file in files)
    with_input = {file.folder for file in files if file.modality == wanted and file.folder}
    cases = []
    for key, members in groups.items():
        chosen = [file for file in members if file.modality == wanted or file.modality is None]
        others = [file for file in members if file not in chosen]
        if not chosen and key[0] in with_input:
            ignored |= {file.path: f"{file.modality} beside the {modality} of its folder" for file in others}
            continue
        ignored |= {file.path: f"{file.modality}: only {modality} is needed" for file in others if chosen}
        error = _problem(names[key], chosen, others, told, modality, modalities)
        cases.append(InputCase(names[key], None if error else chosen[0].path, error))
    return cases


def _problem(
    case: str, chosen: list[NamedFile], others: list[NamedFile], told: bool, modality: str, modalities: Sequence[str]
) -> str | None:
    """Why a case can't be predicted, in one sentence; None if it can."""
    if not chosen:
        missing = f"{case}_{list(modalities).index(modality):04d}.nii.gz (or a file with {modality} in its name)"
        found = ", ".join(f"{file.path.name} ({file.modality})" for file in others)
        return f"{case} has no {modality}, only {found}: add {missing}."
    if len(chosen) > 1:
        return f"{case} has several files that may be its {modality}, {_listed(chosen)}: leave only one of them."
    if told and chosen[0].modality is None:
        number = list(modalities).index(modality)
        return (
            f"{chosen[0].path.name} does not tell its modality while other files do: name it {case}_{number:04d} or "
            f"{case}_{modality} if it is a {modality}, else take it away."
        )
    return None


def _told_apart(source: Path, cases: list[InputCase]) -> list[InputCase]:
    """Refuse cases whose results would get one name (where capitals count for nothing, as on Windows)."""
    counts = Counter(item.case.casefold() for item in cases)
    apart = []
    for item in cases:
        if item.file is not None and counts[item.case.casefold()] > 1:
            error = (
                f"{item.file.relative_to(source)} is one of several files whose results would be named {item.case}: give "
                "its file another name."
            )
            item = InputCase(item.case, None, error)
        apart.append(item)
    return apart


def _listed(files: list[NamedFile]) -> str:
    return ", ".join("/".join((*file.folder, file.path.name)) for file in files)
