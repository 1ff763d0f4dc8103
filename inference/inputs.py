"""Which files of a folder are cases, and which file of a case holds the modality that the model examines."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import TEMPORARY_PREFIX

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
MASK_WORDS = frozenset({"seg", "segmentation", "mask", "brainmask", "label", "labels"})
OWN_OUTPUTS = ("_anomaly", "_signed", "_cycle")
MODALITY_WORDS = {
    "flair": "FLAIR",
    "t2f": "FLAIR",
    "t1": "T1",
    "t1w": "T1",
    "t1n": "T1",
    "t1c": "T1C",
    "t1ce": "T1C",
    "t1gd": "T1C",
    "t2": "T2",
    "t2w": "T2",
    "pd": "PD",
    "dwi": "DWI",
    "adc": "ADC",
    "swi": "SWI",
}
CONVERT_DICOM = "convert the series to NIfTI first (for example with dcm2niix)"


@dataclass(frozen=True)
class InputCase:
    """One case to predict: its file, or the sentence that says why it can't be predicted."""

    case: str
    file: Path | None
    error: str | None = None


@dataclass(frozen=True)
class InputListing:
    """What was found.

    Attributes
    ----------
    cases : sorted by name
    ignored : (path, reason) of volume files that are no input
    """

    cases: tuple[InputCase, ...]
    ignored: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class _File:
    """A volume file and what its name tells: the case it belongs to, and its modality (None: not told)."""

    path: Path
    folder: tuple[str, ...]
    stem: str
    modality: str | None


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
    paths = sorted(path for path in _walk(source, exclude) if volume_ending(path.name))
    if not paths:
        raise MMCCDError(_nothing_found(source, exclude))
    ignored = {path: reason for path in paths if (reason := _no_scan(path.name, len(modalities)))}
    files = _read_names(source, [path for path in paths if path not in ignored], modalities)
    cases = _assign(files, _standard(modality), modality, modalities, ignored)
    if not cases:
        raise MMCCDError(f"{source} holds labels, masks or earlier results only: there is no scan to predict.")
    cases = sorted(_told_apart(source, cases), key=lambda item: item.case)
    return InputListing(tuple(cases), tuple(sorted(ignored.items())))


def volume_ending(name: str) -> str | None:
    """The ending of a volume file's name (".nii.gz"), or None if it isn't one."""
    return next((ending for ending in VOLUME_ENDINGS if name.lower().endswith(ending)), None)


def _single_file(path: Path, modality: str, modalities: Sequence[str]) -> InputCase:
    if not volume_ending(path.name):
        hint = f"it is DICOM, which this version does not read: {CONVERT_DICOM}" if _is_dicom(path) else "give a NIfTI file"
        raise MMCCDError(f"{path} is no volume file: {hint}.")
    file = _read_names(path.parent, [path], modalities)[0]
    if file.modality not in (None, _standard(modality)):
        raise MMCCDError(f"{path} is named as {file.modality}: this model examines {modality}.")
    return InputCase(file.stem or _stem(path), path)


def _walk(folder: Path, exclude: str | Path | None) -> Iterator[Path]:
    """Every visible file below a folder, each real folder once (links may lead in circles)."""
    seen = {os.path.realpath(exclude)} if exclude else set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in names if not name.startswith((".", TEMPORARY_PREFIX)))


def _nothing_found(folder: Path, exclude: str | Path | None) -> str:
    files = list(_walk(folder, exclude))
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


def _stem(path: Path) -> str:
    return path.name[: -len(volume_ending(path.name))]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^0-9a-z]+", text.lower()) if word]


def _channel(stem: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(.+)_(\d{4})", stem)
    return (match[1], int(match[2])) if match else None


def _no_scan(name: str, channels: int) -> str | None:
    """Why a file is no scan, by its name; a channel number says that it is one."""
    stem = name[: -len(volume_ending(name))]
    channel = _channel(stem)
    if channel and channel[1] < channels:
        return None
    if MASK_WORDS & set(_words(stem)):
        return "a label or mask"
    return "a result of an earlier prediction" if stem.endswith(OWN_OUTPUTS) else None


def _standard(modality: str) -> str:
    """One name for the spellings of a modality; unknown ones stay as they are."""
    return MODALITY_WORDS.get(modality.lower(), modality)


def _told(text: str, known: dict[str, str]) -> set[str]:
    """The modalities that the words of a name tell; "T2 FLAIR" is a FLAIR, "ce T1" is a T1 with contrast agent."""
    words = _words(text)
    found = {known[word] for word in words if word in known}
    if "FLAIR" in found:
        found -= {"T2"}
    if "T1" in found and ("T1C" in found or {"ce", "gd", "post", "contrast"} & set(words)):
        found = (found - {"T1"}) | {"T1C"}
    return found


def _read_names(root: Path, paths: list[Path], modalities: Sequence[str]) -> list[_File]:
    """Case and modality of each file, as its name tells them."""
    known = MODALITY_WORDS | {name.lower(): _standard(name) for name in modalities}
    numbered = defaultdict(list)
    for path in paths:
        if channel := _channel(_stem(path)):
            numbered[path.parent, channel[0]].append(channel[1])
    files = []
    for path in paths:
        channel = _channel(_stem(path))
        folder = path.parent.relative_to(root).parts
        if channel and max(numbered[path.parent, channel[0]]) < len(modalities):
            files.append(_File(path, folder, channel[0], _standard(modalities[channel[1]])))
        else:
            files.append(_by_words(path, folder, known))
    return files


def _by_words(path: Path, folder: tuple[str, ...], known: dict[str, str]) -> _File:
    """Read the modality from the words of the file's name, else from those of its folders, the nearest first."""
    stem = _stem(path)
    if found := _told(stem, known):
        return _File(path, folder, _without(stem, known), " and ".join(sorted(found)))
    for depth in range(len(folder) - 1, -1, -1):
        if found := _told(folder[depth], known):
            rest = _without(folder[depth], known)
            return _File(path, (*folder[:depth], *([rest] if rest else []), *folder[depth + 1 :]), stem, " and ".join(found))
    return _File(path, folder, stem, None)


def _without(text: str, known: dict[str, str]) -> str:
    """A name without the words that tell the modality, and without the separators that stood around them."""
    parts = re.split(r"([^0-9A-Za-z]+)", text)
    kept = [(before, word) for before, word in zip([""] + parts[1::2], parts[::2], strict=True) if word.lower() not in known]
    return "".join(before + word for before, word in kept).strip("_-. ")


def _assign(
    files: list[_File], wanted: str, modality: str, modalities: Sequence[str], ignored: dict[Path, str]
) -> list[InputCase]:
    """One case per (folder, name), with the file of the wanted modality or the reason why there is none."""
    groups: dict[tuple[tuple[str, ...], str], list[_File]] = defaultdict(list)
    for file in files:
        groups[file.folder, file.stem].append(file)
    names = _names(list(groups))
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
    case: str, chosen: list[_File], others: list[_File], told: bool, modality: str, modalities: Sequence[str]
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


def _listed(files: list[_File]) -> str:
    return ", ".join("/".join((*file.folder, file.path.name)) for file in files)


def _names(keys: list[tuple[tuple[str, ...], str]]) -> dict[tuple[tuple[str, ...], str], str]:
    """A case name for each (folder, name): the name alone where that is unique, else with its folders before it."""
    stems = [stem for _, stem in keys]
    names = {}
    for folder, stem in keys:
        unique = stem and stems.count(stem) == 1
        names[folder, stem] = stem if unique else "_".join((*folder, *([stem] if stem else []))) or "case"
    return names
