"""What the path of a volume file says: modality, the visit that it belongs to, and whether it is a scan at all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.readable_names import shown
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import volume_stem
from mmccd_auto.sources.modality_words import ANATOMY, MASK_WORDS, SEPARATORS, VISIT, Told, has_agent_words, tell_modality

# Folders of BIDS and of converters: they sort the files of one visit.
_SORTING = frozenset(["anat", "anatomical", "structural", "func", "dwi", "fmap", "perf", "nifti", "niftis", "nii"])
_DERIVED = frozenset(("derivatives", "derivative", "derived"))
_ENTITIES = frozenset(
    [
        "sub",
        "ses",
        "task",
        "acq",
        "rec",
        "dir",
        "run",
        "mod",
        "echo",
        "flip",
        "inv",
        "mt",
        "part",
        "space",
        "split",
        "recording",
        "res",
        "den",
        "label",
        "desc",
        "from",
        "to",
        "mode",
        "hemi",
        "tsl",
        "chunk",
        "seg",
        "scale",
        "atlas",
        "trc",
        "stain",
        "sample",
        "proc",
        "recon",
    ]
)
_PLAIN = frozenset(["flair", "t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t1post", "t2", "t2w", "t2f", "mprage", "t2flair"])
NO_AGENT_VALUES = re.compile(r"none|no|non\w*|pre|without|0|false|nativ\w*", re.IGNORECASE)
# dcm2niix by default: folder_protocol_time_series, where the series differs from scan to scan.
_DCM2NIIX = re.compile(r"(?P<name>.*\d{14})_(?P<series>\d{1,5}(?:_?[a-z]\w{0,3})?)")


@dataclass(frozen=True)
class NamedFile:
    """A volume file and what its path says.

    Attributes
    ----------
    path : of the file
    folder : the folders below the root that give person or visit
    stem : the name without the words that give the modality
    modality : None where nothing gives it
    extra : what distinguishes several scans of one modality in one visit ("run-2", "tra"); else empty
    person : BIDS's ``sub-...``, or None
    doubt : why the name can be read in two ways, as the second half of a sentence
    mask : the word that makes it a label or mask
    derived : it lies in a folder of derivatives, or its name says that it was computed from another
    fault : why it can't be opened
    plain : the modality is called by its plain name ("T1", not "3DT1")
    """

    path: Path
    folder: tuple[str, ...]
    stem: str
    modality: str | None
    extra: str = ""
    person: str | None = None
    doubt: str | None = None
    mask: str | None = None
    derived: bool = False
    fault: str | None = None
    plain: bool = True

    @property
    def sentence(self) -> str:
        """Why the name can't be relied on, as one sentence."""
        return f"{shown(self.path.name)} {self.doubt}: give it a name with one modality, at its end."


def read_names(root: Path, paths: Sequence[Path], modalities: Sequence[str] = ()) -> list[NamedFile]:
    """Find visit and modality of each file by its path.

    Parameters
    ----------
    root : folder of the search; what lies above it says nothing
    paths : of volumes
    modalities : of the dataset, in the order of the channel numbers (``CASE_0000``); none: such numbers say nothing
    """
    numbered: dict[tuple[Path, str], list[int]] = defaultdict(list)
    for path in paths:
        if channel := channel_number(volume_stem(path)):
            numbered[path.parent, channel[0]].append(channel[1])
    known = _further_words(modalities)
    context = _Context(root, paths, known)
    files = []
    for path in paths:
        channel = channel_number(volume_stem(path))
        if channel and max(numbered[path.parent, channel[0]]) < len(modalities):
            files.append(_by_number(path, context, channel, modalities, known))
        else:
            files.append(_by_words(path, context, known))
    return files


def channel_number(stem: str) -> tuple[str, int] | None:
    """Take ``CASE_0001`` apart into the case and the number; None for other names."""
    match = re.fullmatch(r"(.+)_([0-9]{4})", stem)
    return (match[1], int(match[2])) if match else None


def _further_words(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the names of channels that no file would be known by otherwise ("MTC"), in small letters."""
    names = [name.lower() for name in modalities]
    return tuple(name for name in names if re.fullmatch(r"\w+", name) and tell_modality(name).modality is None)


def _by_number(
    path: Path, context: _Context, channel: tuple[str, int], modalities: Sequence[str], known: tuple[str, ...]
) -> NamedFile:
    modality = contrast(modalities[channel[1]])
    told = tell_modality(channel[0], known)
    doubt = None
    # A case may hold T1 or T2 as a visit; any other modality beside the number is one too many.
    if told.modality in ANATOMY - {"T1", "T2"} and contrast(told.modality) != modality:
        doubt = f"says {told.modality}, and its number {channel[1]:04d} says {modality}"
    folder = tuple(part for part in context.folders(path) if part.lower() not in _SORTING)
    return NamedFile(path, folder, channel[0], modality, doubt=doubt)


def _by_words(path: Path, context: _Context, known: tuple[str, ...]) -> NamedFile:
    """Read the modality from the words of the file's name, else from those of its folders, the nearest first."""
    folders = context.folders(path)
    stem = volume_stem(path)
    numbered = _DCM2NIIX.fullmatch(stem)
    entities, name = _take_entities(numbered["name"] if numbered else stem)
    told = tell_modality(name, known, context.visits(path))
    kept = "_".join(
        [*(f"{key}-{value}" for key, value in entities if key in ("sub", "ses")), *([told.rest] if told.rest else [])]
    )
    modality, doubt = _with_entities(told, entities)
    if doubt is None and told.told and told.told[-1] == _split(name)[-1] and context.is_numbered(path, name):
        doubt = f"may be the modality {modality} or a visit of that name, for others like it have higher numbers"
    if modality is None and not told.mask:
        modality, doubt = _by_folder(folders, context, known)
    person = next((f"sub-{value}" for key, value in entities if key == "sub"), None)
    person = person or next((part for part in reversed(folders) if part.lower().startswith("sub-")), None)
    plain = set(told.told) <= _PLAIN
    extra = [f"{key}-{value}" for key, value in entities if key not in ("sub", "ses")]
    extra += [
        *told.protocol,
        *(word for word in told.told if word not in _PLAIN),
        *([numbered["series"]] if numbered else []),
    ]
    derived = any(part.lower() in _DERIVED for part in folders) or any(key in ("desc", "space") for key, _ in entities)
    return NamedFile(
        path,
        _telling(folders, context, known, modality),
        kept,
        modality,
        "_".join(extra),
        person,
        doubt,
        told.mask or _mask_folder(folders),
        derived,
        plain=plain,
    )


def _take_entities(stem: str) -> tuple[list[tuple[str, str]], str]:
    """Take BIDS's ``key-value`` parts out of a name."""
    entities: list[tuple[str, str]] = []
    rest: list[str] = []
    for part in stem.split("_"):
        key, hyphen, value = part.partition("-")
        # Without sub- it is no name of BIDS: ses- stays where it is.
        known = key.lower() in _ENTITIES and (key.lower() != "ses" or entities)
        if hyphen and value and (known or (key.lower() == "ce" and entities)):
            entities.append((key.lower(), value))
        else:
            rest.append(part)
    return entities, "_".join(rest)


def _with_entities(told: Told, entities: Sequence[tuple[str, str]]) -> tuple[str | None, str | None]:
    """Return the modality and doubt, with what BIDS's entities add: an agent, a phase image, a contrast that differs."""
    modality, doubt = told.modality, told.doubt
    values = dict(entities)
    if values.get("part", "mag") != "mag" and modality is not None:
        return f"{values['part']} image", None
    if "task" in values and modality is None:
        return "bold", None
    acquired = [values[key] for key in ("acq", "rec") if key in values]
    if modality == "T1":
        agent = "ce" in values and not NO_AGENT_VALUES.fullmatch(values["ce"])
        if agent or any(has_agent_words(value) for value in acquired):
            return "T1C", doubt
    for value in acquired:
        other = tell_modality(re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", value) if value.islower() else value).modality
        if modality in ("T1", "T2") and other == "FLAIR":
            doubt = f"says {value} and {modality}"
    return modality, doubt


def _by_folder(folders: tuple[str, ...], context: _Context, known: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the modality that the nearest folder says, and why that is doubtful."""
    for place in range(len(folders) - 1, -1, -1):
        told = tell_modality(folders[place], known)
        below = folders[: place + 1]
        if told.modality is None or folders[place].lower() in _SORTING - {"dwi"} or below in context.mixed:
            continue
        if below in context.doubtful:
            return told.modality, f"lies in a folder {folders[place]}, which may be a visit or a modality"
        return told.modality, told.doubt
    return None, None


def _telling(folders: tuple[str, ...], context: _Context, known: tuple[str, ...], modality: str | None) -> tuple[str, ...]:
    """Return the folders without those that only sort files, and without the words by which they give the modality."""
    kept = []
    for place, part in enumerate(folders):
        if part.lower() in _SORTING:
            continue
        told = tell_modality(part, known)
        if told.modality is not None and told.modality == modality and folders[: place + 1] not in context.mixed:
            part = told.rest
        if part:
            kept.append(part)
    return tuple(kept)


def _mask_folder(folders: tuple[str, ...]) -> str | None:
    """Return the folder that holds labels or masks only, by its name."""
    for part in reversed(folders):
        words = [word for word in re.split(SEPARATORS, part.lower()) if word]
        if words and MASK_WORDS.fullmatch(words[-1]) and words[-1] not in ("wmh", "lesion", "lesions"):
            return part
    return None


class _Context:
    """What the other files and folders say about one: which folders and words are visits T1, T2, T3.

    Attributes
    ----------
    mixed : folders that hold other modalities than the one that their name says: it is a visit, or a name
    doubtful : folders of which nothing says whether they are a visit or a modality
    """

    def __init__(self, root: Path, paths: Sequence[Path], known: tuple[str, ...]) -> None:
        self.root = root
        below: dict[tuple[str, ...], set[str | None]] = defaultdict(set)
        self._numbered: set[tuple[Path, tuple[str, ...]]] = set()
        self._visit_names: set[tuple[Path, tuple[str, ...]]] = set()
        for path in paths:
            told = tell_modality(_take_entities(volume_stem(path))[1], known)
            folders = self.folders(path)
            for place in range(len(folders)):
                below[folders[: place + 1]].add(None if told.mask else told.modality)
            self._note_visits(path, known)
        tells = {folder: tell_modality(folder[-1], known).modality for folder in below}
        self.mixed = {
            folder
            for folder, modalities in below.items()
            if tells[folder] in ANATOMY and (modalities & ANATOMY) - {tells[folder]}
        }
        # Beside a folder T3 a folder T1 is no modality either, or at least nobody knows.
        visits = {
            folder[:-1]
            for folder in below
            if VISIT.fullmatch(folder[-1].lower()) and (tells[folder] is None or folder in self.mixed)
        }
        self.doubtful = {
            folder
            for folder in below
            if VISIT.fullmatch(folder[-1].lower()) and folder[:-1] in visits and tells[folder] and folder not in self.mixed
        }

    def folders(self, path: Path) -> tuple[str, ...]:
        """Return the folders between the root and the file."""
        return path.parent.relative_to(self.root).parts

    def visits(self, path: Path) -> frozenset[str]:
        """Return the words of the file's name that are visits.

        Its folders are called so, or the names of its neighbours show it.
        """
        folders = self.folders(path)
        found = {part.lower() for place, part in enumerate(folders) if folders[: place + 1] in self.mixed | self.doubtful}
        words = _split(volume_stem(path))
        for place, word in enumerate(words):
            if VISIT.fullmatch(word) and (path.parent, words[:place]) in self._visit_names:
                found.add(word)
        return frozenset(found)

    def is_numbered(self, path: Path, name: str) -> bool:
        """Check whether a name ends in T1 or T2 beside others that end in T3, T4 or T0, which are no modalities."""
        words = _split(name)
        return VISIT.fullmatch(words[-1]) is not None and (path.parent, words[:-1]) in self._numbered

    def _note_visits(self, path: Path, known: tuple[str, ...]) -> None:
        """Remember a word such as T1 that stands before another modality and doesn't belong to it."""
        words = _split(volume_stem(path))
        if words and VISIT.fullmatch(words[-1]) and tell_modality(words[-1], known).modality is None:
            self._numbered.add((path.parent, words[:-1]))
        for place, word in enumerate(words[:-1]):
            if not VISIT.fullmatch(word) or words[place + 1].endswith("space"):
                continue
            following = tell_modality(words[place + 1], known).modality
            if following not in ANATOMY:
                continue
            belongs = (word, following) == ("t2", "FLAIR") or (
                word == "t1" and following == "T1" and words[place + 1][:2] != "t1"
            )
            alone = (
                word == "t1" and following == "FLAIR" and (place == 0 or tell_modality("t1_" + words[place - 1]).rest == "")
            )
            if not belongs and not alone:
                self._visit_names.add((path.parent, words[:place]))


def _split(stem: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(SEPARATORS, stem.lower()) if word)
