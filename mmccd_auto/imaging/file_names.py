"""File names: the endings of volumes and of our own results, which files below a folder count, how names are shown."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.files import TEMPORARY_PREFIX
from mmccd_auto.core.readable_names import shown

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
OTHER_VOLUME_ENDINGS = (
    *(".mgz", ".mgh", ".img.gz", ".img", ".hdr", ".mnc.gz", ".mnc", ".head", ".brik.gz", ".brik", ".par", ".rec"),
    *(".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".nia", ".vti", ".minc"),
)
# What a prediction writes of a case; CASE.json comes last, because it says that the others are complete.
PREDICTED_VOLUMES = (
    *("_anomaly.nii.gz", "_mask.nii.gz", "_candidates.nii.gz", "_scan.nii.gz", "_brain.nii.gz"),
    *("_brighter.nii.gz", "_darker.nii.gz", "_signed.nii.gz", "_cycle.nii.gz", "_control.nii.gz"),
)
CASE_PICTURE, BRAIN_PICTURE = ".png", "_brain.png"
# Not .json: CASE.json of a case whose name ends with _page would be the same file.
PAGE_PART = "_page.json.gz"
PREDICTION_ENDINGS = (*PREDICTED_VOLUMES, "_seg.dcm", "_score.dcm", BRAIN_PICTURE, CASE_PICTURE, PAGE_PART, ".json")
# Other programs write files of these endings too: they are ours where a map stands beside them.
_OURS_BESIDE_A_MAP = frozenset({"_scan", "_brain", "_mask", "_control"})
_MAP = "_anomaly"

BROKEN_LINK = "a link to a file that is not there"
LINK_TO_ITSELF = "a link that leads back to itself"
NOT_REGULAR = "no regular file (a pipe, socket or device), it is not opened"
CLOSED_FOLDER = "a folder that can't be opened"
LONGEST_NAME = 255
# CASE becomes a part of longer names: of the longest ending, and of the temporary file that is written first.
_ROOM_FOR_ENDINGS = 64


@dataclass(frozen=True)
class FoundFile:
    """A file below a folder; ``fault`` says why it can't be opened, None if it can."""

    path: Path
    fault: str | None = None


def walk(folder: Path, exclude: str | Path | None = None) -> Iterator[FoundFile]:
    """List every visible file below a folder, each real folder once (links may lead in circles); nothing is opened."""
    seen = {os.path.realpath(exclude)} if exclude else set()
    closed: list[OSError] = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=closed.append):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith((".", TEMPORARY_PREFIX)):
                path = Path(parent, name)
                yield FoundFile(path, _fault(path))
    yield from (FoundFile(Path(error.filename), CLOSED_FOLDER) for error in closed if error.filename)


def _fault(path: Path) -> str | None:
    try:
        state = os.stat(path)
    except OSError:
        try:
            os.readlink(path)
        except OSError:
            return None
        return LINK_TO_ITSELF if _leads_in_a_circle(path) else BROKEN_LINK
    return None if stat.S_ISREG(state.st_mode) else NOT_REGULAR


def _leads_in_a_circle(path: Path) -> bool:
    seen: set[str] = set()
    place = os.path.abspath(path)
    while os.path.islink(place):
        if place in seen:
            return True
        seen.add(place)
        place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return False


def volume_ending(name: str) -> str | None:
    """Give the ending of a volume file's name (".nii.gz"), or None if it isn't one that is read."""
    return _ending(name, VOLUME_ENDINGS)


def other_volume_ending(name: str) -> str | None:
    """Give the ending of a volume in a format that is not read (".mgz"), or None."""
    return _ending(name, OTHER_VOLUME_ENDINGS)


def volume_stem(path: Path) -> str:
    """Give the name of a volume file without its ending."""
    return path.name[: -len(volume_ending(path.name) or "") or None]


def own_results(paths: list[Path]) -> set[Path]:
    """Find the files that an earlier prediction of ours wrote, by their endings.

    Endings that others use as well (``_mask``, ``_brain``, ``_scan``) count where the case's map stands beside them.
    """
    stems = {(path.parent, volume_stem(path)) for path in paths}
    endings = [ending.split(".")[0] for ending in PREDICTED_VOLUMES]
    found = set()
    for path in paths:
        stem = volume_stem(path)
        for ending in endings:
            case = stem.removesuffix(ending)
            if case and case != stem and (ending not in _OURS_BESIDE_A_MAP or (path.parent, case + _MAP) in stems):
                found.add(path)
    return found


def too_long(case: str, folder: str | Path) -> str | None:
    """Say why no files of a case can be written into ``folder`` (which need not exist yet), or None if they can."""
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        limit = os.pathconf(place, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        limit = LONGEST_NAME
    length, most = len(os.fsencode(case)), limit - _ROOM_FOR_ENDINGS
    if length <= most:
        return None
    return (
        f"{shortened(case)}: its name is too long ({length} bytes, and the file system takes {most} and the endings of "
        "the results): give the file a shorter name."
    )


def shortened(case: str) -> str:
    """Give the beginning of a name that is too long, and a code that distinguishes it from others of the same beginning."""
    return f"{shown(case[:40])}...{zlib.crc32(os.fsencode(case)):08x}"


def _ending(name: str, endings: tuple[str, ...]) -> str | None:
    return next((ending for ending in endings if name.lower().endswith(ending)), None)
