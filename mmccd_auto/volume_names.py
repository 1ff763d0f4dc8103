"""What the names of volume files tell: the case, and the modality."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.files import TEMPORARY_PREFIX

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
MASK_WORDS = frozenset({"seg", "segmentation", "mask", "brainmask", "label", "labels"})
OWN_OUTPUTS = ("_anomaly", "_candidates", "_signed", "_cycle")
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


@dataclass(frozen=True)
class NamedFile:
    """A volume file and what its name tells: the case it belongs to, and its modality (None: not told)."""

    path: Path
    folder: tuple[str, ...]
    stem: str
    modality: str | None


def walk(folder: Path, exclude: str | Path | None = None) -> Iterator[Path]:
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


def volume_ending(name: str) -> str | None:
    """The ending of a volume file's name (".nii.gz"), or None if it isn't one."""
    return next((ending for ending in VOLUME_ENDINGS if name.lower().endswith(ending)), None)


def volume_stem(path: Path) -> str:
    """The name of a volume file without its ending."""
    return path.name[: -len(volume_ending(path.name))]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^0-9a-z]+", text.lower()) if word]


def _channel(stem: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(.+)_(\d{4})", stem)
    return (match[1], int(match[2])) if match else None


def no_scan(name: str, channels: int) -> str | None:
    """Why a file is no scan, by its name; a channel number says that it is one."""
    stem = name[: -len(volume_ending(name))]
    channel = _channel(stem)
    if channel and channel[1] < channels:
        return None
    if MASK_WORDS & set(_words(stem)):
        return "a label or mask"
    return "a result of an earlier prediction" if stem.endswith(OWN_OUTPUTS) else None


def standard_modality(modality: str) -> str:
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


def read_names(root: Path, paths: list[Path], modalities: Sequence[str]) -> list[NamedFile]:
    """Case and modality of each file, as its name tells them."""
    known = MODALITY_WORDS | {name.lower(): standard_modality(name) for name in modalities}
    numbered = defaultdict(list)
    for path in paths:
        if channel := _channel(volume_stem(path)):
            numbered[path.parent, channel[0]].append(channel[1])
    files = []
    for path in paths:
        channel = _channel(volume_stem(path))
        folder = path.parent.relative_to(root).parts
        if channel and max(numbered[path.parent, channel[0]]) < len(modalities):
            files.append(NamedFile(path, folder, channel[0], standard_modality(modalities[channel[1]])))
        else:
            files.append(_by_words(path, folder, known))
    return files


def _by_words(path: Path, folder: tuple[str, ...], known: dict[str, str]) -> NamedFile:
    """Read the modality from the words of the file's name, else from those of its folders, the nearest first."""
    stem = volume_stem(path)
    if found := _told(stem, known):
        return NamedFile(path, folder, _without(stem, known), " and ".join(sorted(found)))
    for depth in range(len(folder) - 1, -1, -1):
        if found := _told(folder[depth], known):
            rest = _without(folder[depth], known)
            return NamedFile(
                path, (*folder[:depth], *([rest] if rest else []), *folder[depth + 1 :]), stem, " and ".join(found)
            )
    return NamedFile(path, folder, stem, None)


def _without(text: str, known: dict[str, str]) -> str:
    """A name without the words that tell the modality, and without the separators that stood around them."""
    parts = re.split(r"([^0-9A-Za-z]+)", text)
    kept = [(before, word) for before, word in zip([""] + parts[1::2], parts[::2], strict=True) if word.lower() not in known]
    return "".join(before + word for before, word in kept).strip("_-. ")


def case_names(keys: list[tuple[tuple[str, ...], str]]) -> dict[tuple[tuple[str, ...], str], str]:
    """A case name for each (folder, name): the name alone where that is unique, else with its folders before it."""
    stems = [stem for _, stem in keys]
    names = {}
    for folder, stem in keys:
        unique = stem and stems.count(stem) == 1
        names[folder, stem] = stem if unique else "_".join((*folder, *([stem] if stem else []))) or "case"
    return names
