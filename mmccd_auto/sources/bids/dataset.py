"""A BIDS dataset on disk: what makes a folder one, what it leaves to others, and the files of its people."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.strict_json import read_json_bytes
from mmccd_auto.imaging.file_names import BROKEN_LINK, other_volume_ending, volume_ending, walk
from mmccd_auto.sources.bids.names import BidsName, parse_name

DESCRIPTION_FILE, IGNORE_FILE = "dataset_description.json", ".bidsignore"
VERSION_KEY = "BIDSVersion"
LARGEST_IGNORE_FILE = 2**20
ANATOMY = "anat"
OUTSIDE = "lies outside of anat"
# What git-annex and git-lfs leave in the place of a file that wasn't fetched; real volumes are larger.
_POINTERS = (b"/annex/objects/", b"version https://git-lfs.github.com/spec/")
_LARGEST_POINTER = 1024
NOT_FETCHED = "is not on this disk, only its link is: run datalad get (or git annex get) on it first"


@dataclass(frozen=True)
class BidsFile:
    """A volume in the ``anat`` folder of a person.

    Attributes
    ----------
    path : of the file
    name : what its name says
    fault : why it can't be opened, as the end of a sentence; None if it can
    """

    path: Path
    name: BidsName
    fault: str | None = None


@dataclass(frozen=True)
class BidsFiles:
    """The files of the people of a dataset.

    Attributes
    ----------
    anatomy : volumes in ``anat``, sorted by path
    left_out : of other volumes why they are no such
    empty : people (``sub-01``) without any volume
    """

    anatomy: tuple[BidsFile, ...]
    left_out: dict[Path, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()


def is_bids(folder: str | Path) -> bool:
    """Say whether a folder is a BIDS dataset, raw or derivative: it has a dataset_description.json with BIDSVersion.

    Raises
    ------
    MMCCDError
        If that file can't be read.
    """
    path = Path(folder) / DESCRIPTION_FILE
    return path.is_file() and VERSION_KEY in read_record(JsonObject, path)


def check_bids(folder: str | Path) -> None:
    """Raise :class:`MMCCDError` where a folder is no BIDS dataset."""
    if not Path(folder).is_dir():
        raise MMCCDError(f"{folder} is no folder: give that of a BIDS dataset.")
    if not is_bids(folder):
        raise MMCCDError(
            f"{folder} is no BIDS dataset: it has no {DESCRIPTION_FILE} that names its {VERSION_KEY}; add it (Name and "
            f"{VERSION_KEY} are enough)."
        )


def read_description(folder: str | Path) -> dict[str, Any]:
    """Read dataset_description.json."""
    return read_record(JsonObject, Path(folder) / DESCRIPTION_FILE)


def list_bids_files(root: str | Path, exclude: str | Path | None = None) -> BidsFiles:
    """List the volumes of the people of a dataset; only names are looked at, and the beginning of very small files.

    What lies outside of ``sub-*`` (derivatives, sourcedata, code) and hidden files are passed by.

    Parameters
    ----------
    root : folder of the dataset
    exclude : a folder that is not searched (the output)
    """
    root = Path(root)
    ignored = _read_ignore(root)
    anatomy: list[BidsFile] = []
    left_out: dict[Path, str] = {}
    empty = []
    for person in _people(root):
        before = len(anatomy) + len(left_out)
        for found in walk(person, exclude):
            path, parts = found.path, found.path.relative_to(root).parts
            if not volume_ending(path.name):
                if other_volume_ending(path.name) and _is_anatomy(parts):
                    left_out[path] = f"a volume in a format that is not read ({other_volume_ending(path.name)})"
                continue
            reason = "named by .bidsignore" if ignored.match_file("/".join(parts)) else _why_no_anatomy(parts)
            name = parse_name(path.name)
            if reason is None:
                reason = "not named by BIDS" if name is None else _why_elsewhere(name, parts)
            if reason is None and found.fault not in (None, BROKEN_LINK):
                reason = found.fault
            if reason is not None:
                left_out[path] = reason
            elif name is not None:
                anatomy.append(BidsFile(path, name, _fault(path, found.fault)))
        if len(anatomy) + len(left_out) == before:
            empty.append(person.name)
    return BidsFiles(tuple(_without_copies(anatomy, left_out)), left_out, tuple(empty))


def _people(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if path.name.lower().startswith("sub-") and path.is_dir():
            yield path


def _read_ignore(root: Path) -> GitIgnoreSpec:
    path = root / IGNORE_FILE
    if not path.is_file():
        return GitIgnoreSpec.from_lines([])
    lines = read_json_bytes(path, LARGEST_IGNORE_FILE).decode("utf-8-sig", "replace").splitlines()
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise MMCCDError(f"{path} holds a pattern that can't be read ({error}): write it as for .gitignore.") from error


def _is_anatomy(parts: tuple[str, ...]) -> bool:
    return len(parts) >= 3 and parts[-2].lower() == ANATOMY


def _why_no_anatomy(parts: tuple[str, ...]) -> str | None:
    """Explain why a volume is none of ``sub-*/[ses-*/]anat``."""
    if _is_anatomy(parts):
        return None
    kind = parts[-2] if len(parts) > 2 and not parts[-2].lower().startswith("ses-") else ""
    return f"{OUTSIDE}, in {kind}" if kind else OUTSIDE


def _why_elsewhere(name: BidsName, parts: tuple[str, ...]) -> str | None:
    """Explain why a volume isn't of the person or session in whose folder it lies."""
    session = parts[1] if len(parts) == 4 else ""
    if name.person.lower() != parts[0].lower():
        return "lies in the folder of another person than its name says"
    if len(parts) > 4 or name.session.lower() != session.lower():
        return "lies in the folder of another session than its name says"
    return None


def _fault(path: Path, fault: str | None) -> str | None:
    if fault == BROKEN_LINK:
        return NOT_FETCHED
    try:
        if os.path.getsize(path) <= _LARGEST_POINTER and path.read_bytes().startswith(_POINTERS):
            return NOT_FETCHED
    except OSError:
        # Reading the scan shows what is wrong with it.
        return None
    return None


def _without_copies(files: list[BidsFile], left_out: dict[Path, str]) -> list[BidsFile]:
    """Take the compressed one of files that differ by their ending alone (``.nii`` beside ``.nii.gz``)."""
    same: dict[tuple[Path, str], list[BidsFile]] = defaultdict(list)
    for file in files:
        same[file.path.parent, file.path.name[: -len(file.name.ending)]].append(file)
    kept = []
    for copies in same.values():
        copies.sort(key=lambda file: (file.fault is not None, file.name.ending.lower() != ".nii.gz", file.path.name))
        kept.append(copies[0])
        reason = f"the same scan as a {copies[0].name.ending} beside it"
        left_out |= {file.path: reason for file in copies[1:]}
    return sorted(kept, key=lambda file: file.path)
