"""Masks of lesions and brains in the derivatives of a BIDS dataset: which mask is whose."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.readable_names import shown
from mmccd_auto.imaging.file_names import BROKEN_LINK, volume_ending, walk
from mmccd_auto.sources.bids.dataset import NOT_FETCHED, is_bids, read_description
from mmccd_auto.sources.bids.names import BidsName, parse_name
from mmccd_auto.sources.mask_choice import MaskChoice

LESION, BRAIN = "lesion", "brain"
DERIVATIVES = "derivatives"
OUR_NAME = "mmccd_auto"
"""In GeneratedBy of the derivatives that predictions write: what they hold was drawn by nobody."""
_WORDS = {LESION: re.compile(r"l|\w*(?:lesion|wmh|tumou?r|stroke)\w*", re.IGNORECASE), BRAIN: re.compile("(?i)brain")}
logger = logging.getLogger(__name__)
_SUFFIXES = frozenset(("mask", "roi", "dseg", "msk"))
# These say what a mask is of, and nothing of the scan that it was drawn on.
_OF_MASK = frozenset(("label", "desc", "space", "res", "den", "seg", "atlas"))


@dataclass(frozen=True)
class BidsMask:
    """A mask, what its name says, and why it can't be opened (None if it can)."""

    path: Path
    name: BidsName
    fault: str | None


def holds_bids_masks(folder: str | Path) -> bool:
    """Say whether the masks of a folder lie in it as BIDS has them: below ``sub-*``, there or in its derivatives."""
    return any(True for _ in _people_folders(Path(folder)))


def choose_masks(folder: str | Path, kind: str, cases: Mapping[str, Sequence[Path]]) -> MaskChoice:
    """Find the mask of each case.

    Of its person and session, and with the ``acq``, ``ce``, ``rec`` and ``run`` of one of its scans where it names them.

    Masks in the space of a template are passed by, and so are derivatives that a prediction of ours wrote.

    Parameters
    ----------
    folder : a BIDS dataset, whose derivatives are searched too, or one of these
    kind : LESION or BRAIN
    cases : scans of each case, named by BIDS

    Raises
    ------
    MMCCDError
        If the folder holds no such mask.
    """
    masks = find_masks(folder, kind)
    if not masks:
        example = "label-lesion_mask" if kind == LESION else "desc-brain_mask"
        raise MMCCDError(f"{folder} holds no {kind} mask that was drawn: call it sub-LABEL_{example}.nii.gz, as BIDS does.")
    of_visit: dict[str, list[BidsMask]] = defaultdict(list)
    for mask in masks:
        of_visit[mask.name.visit.lower()].append(mask)
    by_case, errors, unclear = {}, {}, set()
    for case, scans in sorted(cases.items()):
        names = [name for name in (parse_name(scan.name) for scan in scans) if name is not None]
        fitting = [mask for name in names[:1] for mask in of_visit[name.visit.lower()] if _matches(mask, names) is not None]
        shared = (_matches(mask, names) for mask in fitting)
        most = max((count for count in shared if count is not None), default=0)
        best = [mask for mask in fitting if _matches(mask, names) == most]
        if len(best) == 1 and best[0].fault is None:
            by_case[case] = best[0].path
        else:
            errors[case] = _why_none(case, kind, best, Path(folder))
            unclear |= {case} if best else set()
    return MaskChoice(by_case, errors, len({mask.path for mask in masks} - set(by_case.values())), frozenset(unclear))


def _why_none(case: str, kind: str, found: Sequence[BidsMask], folder: Path) -> str:
    if len(found) == 1:
        return f"{case}: its {kind} mask {shown(found[0].path.name)} {found[0].fault}."
    if found:
        names = ", ".join(shown(mask.path.relative_to(folder).as_posix()) for mask in found)
        return f"{case} has {len(found)} {kind} masks, {names}: name the folder of one kind of them, or leave only one."
    advice = "add it (all zero where nothing is abnormal), or import this case by --healthy or --patients"
    return f"{case} has no {kind} mask in {folder}: {advice if kind == LESION else 'add it, or leave out --brain_masks'}."


def _matches(mask: BidsMask, scans: Sequence[BidsName]) -> int | None:
    """Count how many entities a mask shares with a scan that it fits, and one more where it names the scan's space.

    None where it contradicts all of them.
    """
    own = {key: value.lower() for key, value in mask.name.entities.items() if key not in _OF_MASK}
    fits = [all(scan.entities.get(key, "").lower() == value for key, value in own.items()) for scan in scans]
    space = mask.name.entities.get("space", "").lower()
    return len(own) + (space in {scan.suffix.lower() for scan in scans}) if any(fits) else None


def find_masks(folder: str | Path, kind: str) -> list[BidsMask]:
    """List the masks of one kind in a dataset and its derivatives, but for those in the space of a template and our own."""
    masks = []
    for person in _people_folders(Path(folder)):
        for found in walk(person):
            name = parse_name(found.path.name) if volume_ending(found.path.name) else None
            if name is None or not _is_kind(name, kind):
                continue
            if found.fault in (None, BROKEN_LINK):
                masks.append(BidsMask(found.path, name, None if found.fault is None else NOT_FETCHED))
    return masks


def _is_kind(name: BidsName, kind: str) -> bool:
    if name.suffix.lower() not in _SUFFIXES or name.in_template_space:
        return False
    return any(_WORDS[kind].fullmatch(name.entities.get(key, "")) for key in ("label", "desc"))


def _people_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders ``sub-*`` of a dataset, of its derivatives, and of each of these.

    None that a prediction of ours wrote.
    """
    inside = folder / DERIVATIVES
    for place in (folder, inside, *(sorted(path for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else ())):
        if place.is_dir() and not _is_ours(place):
            yield from (path for path in sorted(place.iterdir()) if path.name.lower().startswith("sub-") and path.is_dir())


def _is_ours(folder: Path) -> bool:
    """Check whether a prediction of ours wrote a dataset.

    One that can't say who wrote it is passed by too, which is said.
    """
    try:
        made_by: Any = read_description(folder).get("GeneratedBy", []) if is_bids(folder) else []
    except MMCCDError as error:
        logger.warning("%s Masks in this dataset are not used.", error)
        return True
    return isinstance(made_by, list) and any(isinstance(one, dict) and one.get("Name") == OUR_NAME for one in made_by)
