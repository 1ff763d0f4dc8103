"""The cases of a folder of volume files: which file is which modality of which visit, and what is left out, and why."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.readable_names import NO_TEXT, has_readable_name, shown
from mmccd_auto.datasets.subjects import folded, people_by_names, person_by_name, says_only_a_session
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import BROKEN_LINK, FoundFile, other_volume_ending, own_results, volume_ending, walk
from mmccd_auto.sources.modality_words import ANATOMY
from mmccd_auto.sources.named_files import NamedFile, channel_number, read_names

MANY_CHANNELS = 10_000
UNREAD_FORMAT = "a volume in a format that is not read ({}): convert it to NIfTI"
_Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class NiftiCase:
    """One visit of one person, by its files.

    Attributes
    ----------
    name : of the case
    subject : the person, by BIDS's rules or by the name
    scans : wanted modality -> file
    files : all files of the visit, used or not
    error : why nothing can be made of it; None if something can
    skipped : it holds no scan that is wanted, while another visit of the person does, which is no failure
    """

    name: str
    subject: str
    scans: dict[str, NamedFile] = field(repr=False)
    files: tuple[NamedFile, ...] = field(repr=False)
    error: str | None = None
    skipped: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A file that is no scan of any case, and why.

    ``unneeded``: nothing is odd about it, it is of a modality that isn't wanted.
    """

    path: Path
    reason: str
    unneeded: bool = False


@dataclass(frozen=True)
class NiftiListing:
    """What a folder of volume files holds: cases by name, and files that were left out by path."""

    cases: tuple[NiftiCase, ...]
    left_out: tuple[LeftOut, ...]


def list_nifti_cases(
    root: Path, wanted: Sequence[str], channels: Sequence[str] = (), exclude: str | Path | None = None, alone: bool = False
) -> NiftiListing:
    """Find the cases of a folder and in each the files of the wanted modalities; only names are looked at.

    Parameters
    ----------
    root : folder, searched with all its subfolders
    wanted : modalities, as the caller spells them
    channels : the dataset's modalities in the order of their channel numbers (``CASE_0000``); none: numbers say nothing
    exclude : a folder that is not searched (the output)
    alone : each scan is examined alone (prediction): where no name gives a modality every file is a case, and scans of one
        modality in one visit are cases of their own if their names distinguish them
    """
    left_out: dict[Path, str] = {}
    scans = _scans(root, list(walk(root, exclude)), channels, left_out)
    visits = _Visits(scans, wanted, channels, alone, left_out)
    cases = visits.cases()
    listed = tuple(LeftOut(path, reason, path in visits.unneeded) for path, reason in sorted(left_out.items()))
    return NiftiListing(tuple(sorted(cases, key=lambda case: case.name)), listed)


def summarise_left_out(left_out: Sequence[LeftOut], root: Path | None) -> list[str]:
    """Count what was left out by reason, with the first names: "2 x a label or mask by its name (seg) (p1_seg.nii.gz, ...)".

    Parameters
    ----------
    root : below which names are shown; None shows none
    """
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for item in left_out:
        by_reason[item.reason].append(item.path)
    lines = []
    for reason, paths in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        names = "" if root is None else ", ".join(relative_name(path, root) for path in paths[:3])
        more = ", ..." if len(paths) > 3 else ""
        lines.append(f"{len(paths)} x {reason}" + (f" ({names}{more})" if names else ""))
    return lines


def relative_name(path: Path, root: Path) -> str:
    """Give a path below the root as it can be printed; folders above the root are nobody's business."""
    return shown(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)


def name_faults(path: Path, fault: str | None) -> str | None:
    """Say in one sentence why a volume can't be opened, by its name or as what it is."""
    if fault == BROKEN_LINK:
        return (
            f"{shown(path.name)} is {BROKEN_LINK}: get that file first (git annex get or datalad get, where the data are "
            "kept so), or remove the link."
        )
    if not has_readable_name(path):
        return f"{shown(path.name)}{NO_TEXT}"
    return None if fault is None else f"{shown(path.name)} is {fault}."


def _scans(root: Path, found: Sequence[FoundFile], channels: Sequence[str], left_out: dict[Path, str]) -> list[NamedFile]:
    """Return the files that may be scans; what can't be one is put down as left out."""
    volumes = []
    for file in found:
        if file.fault is not None and file.fault != BROKEN_LINK:
            left_out[file.path] = file.fault
        elif volume_ending(file.path.name):
            volumes.append(file)
        elif ending := other_volume_ending(file.path.name):
            left_out[file.path] = UNREAD_FORMAT.format(ending)
    ours = own_results([file.path for file in volumes])
    left_out |= dict.fromkeys(ours, "a result of an earlier prediction")
    faults = {file.path: file.fault for file in volumes if file.path not in ours}
    scans = []
    for named in read_names(root, sorted(faults), channels):
        if named.mask is not None and not _is_numbered(named, channels):
            left_out[named.path] = f"a label or mask by its name ({shown(named.mask)})"
        else:
            scans.append(replace(named, fault=name_faults(named.path, faults[named.path])))
    return scans


def _is_numbered(file: NamedFile, channels: Sequence[str]) -> bool:
    channel = channel_number(file.path.name.split(".")[0])
    return channel is not None and channel[1] < (len(channels) or MANY_CHANNELS)


@dataclass(frozen=True)
class _Made:
    """What was made of a visit: its scans, or why there are none; ``lacks``: nothing that is wanted is there."""

    scans: dict[str, NamedFile]
    members: list[NamedFile]
    error: str | None = None
    lacks: bool = False


class _Visits:
    """The files by visit, and what becomes of each visit."""

    def __init__(
        self,
        files: Sequence[NamedFile],
        wanted: Sequence[str],
        channels: Sequence[str],
        alone: bool,
        left_out: dict[Path, str],
    ) -> None:
        self.wanted = {contrast(name): name for name in wanted}
        self.needed = f"{', '.join(self.wanted.values())} {'is' if len(self.wanted) == 1 else 'are'} needed"
        self.names = ", ".join(self.wanted.values())
        self.number = list(channels).index(wanted[0]) if wanted[0] in channels else 0
        self.alone, self.left_out = alone, left_out
        self.unneeded: set[Path] = set()
        self.told = any(file.modality for file in files)
        self.visits: dict[_Key, list[NamedFile]] = defaultdict(list)
        for file in files:
            self.visits[file.folder, file.stem].append(file)
        self._drop_derived()
        self.chosen = {key: [file for file in members if self._wants(file)] for key, members in self.visits.items()}

    def cases(self) -> list[NiftiCase]:
        """Return the cases with their names: those that hold something wanted, and those that should but don't."""
        made: dict[_Key, _Made] = {}
        for key, members in self.visits.items():
            if not self.chosen[key]:
                if not self._is_beside(key, members):
                    made[key] = _Made({}, members, lacks=True)
                continue
            try:
                for extra, scans in self._scans_of(key, members).items():
                    made[_with_extra(key, extra)] = _Made(scans, members)
            except MMCCDError as error:
                made[key] = _Made({}, members, str(error))
        return told_apart(self._finished(case_names(list(made)), made))

    def _wants(self, file: NamedFile) -> bool:
        if file.modality is None:
            return self.alone and not self.told
        return contrast(file.modality) in self.wanted

    def _wanted_name(self, file: NamedFile) -> str:
        return next(iter(self.wanted.values())) if file.modality is None else self.wanted[contrast(file.modality)]

    def _drop_derived(self) -> None:
        """Leave out what was computed from a scan that is there: BIDS's derivatives, ``desc-`` and ``space-``."""
        files = [file for members in self.visits.values() for file in members]
        raw = {(_person(file), file.modality) for file in files if not file.derived and self._wants(file)}
        for key, members in list(self.visits.items()):
            kept = [file for file in members if not (file.derived and (_person(file), file.modality) in raw)]
            dropped = [file for file in members if file not in kept]
            self.left_out |= {file.path: f"derived from the {file.modality} that is there as well" for file in dropped}
            if kept:
                self.visits[key] = kept
            else:
                del self.visits[key]

    def _scans_of(self, key: _Key, members: list[NamedFile]) -> dict[str, dict[str, NamedFile]]:
        """Return the scans of a visit, by what distinguishes several cases of it (mostly nothing)."""
        by_modality: dict[str, list[NamedFile]] = defaultdict(list)
        for file in self.chosen[key]:
            by_modality[self._wanted_name(file)].append(file)
        single: dict[str, NamedFile] = {}
        for modality, candidates in by_modality.items():
            files = candidates if self.alone else self._plainest(candidates)
            if len(files) > 1 and self.alone and len({file.extra for file in files}) == len(files):
                self._leave_others(members, files)
                return {file.extra: {modality: file} for file in files}
            if len(files) > 1:
                name = shown("_".join((*key[0], *([key[1]] if key[1] else []))) or "The folder")
                listed = ", ".join(shown("/".join((*file.folder, file.path.name))) for file in files)
                raise MMCCDError(f"{name} has several files that may be its {modality}, {listed}: leave only one of them.")
            single[modality] = files[0]
        if not self.alone:
            single = self._reliable(single)
        self._leave_others(members, list(single.values()))
        return {"": single}

    def _reliable(self, scans: dict[str, NamedFile]) -> dict[str, NamedFile]:
        """Return the scans that can be opened and whose names are clear, if there are any.

        The case is made of these alone.
        """
        good = {name: file for name, file in scans.items() if not (file.fault or file.doubt)}
        if not good:
            return scans
        bad = [file for name, file in scans.items() if name not in good]
        self.left_out |= {file.path: (file.fault or file.sentence).rstrip(".") for file in bad}
        return good

    def _plainest(self, files: list[NamedFile]) -> list[NamedFile]:
        """Choose among several scans of one modality in one visit: the last run, or the only one with a plain name."""
        if all(re.fullmatch(r"run-\w+", file.extra) for file in files):
            used, why = max(files, key=lambda file: (len(file.extra), file.extra)), "an earlier run"
        else:
            plain = [file for file in files if not file.extra]
            if len(plain) != 1:
                return files
            used, why = plain[0], f"another {files[0].modality} of its case"
        others = [file for file in files if file is not used]
        self.left_out |= {file.path: f"{why}: {shown(used.path.name)} is used" for file in others}
        return [used]

    def _leave_others(self, members: Sequence[NamedFile], used: Sequence[NamedFile]) -> None:
        for file in members:
            if file not in used:
                self.left_out.setdefault(file.path, f"{file.modality or 'no modality given'}: only {self.needed}")
                self.unneeded |= self._unneeded([file])

    def _is_beside(self, key: _Key, members: list[NamedFile]) -> bool:
        """Leave out a visit without anything wanted where its person's scan is there, or where it is no anatomical scan."""
        anatomical = any(file.modality is None or file.modality in ANATOMY for file in members)
        beside = any(chosen and other != key and self._is_near(key, other) for other, chosen in self.chosen.items())
        if not beside and (anatomical or not any(self.chosen.values())):
            return False
        where = f"beside the {self.names} of its case" if beside else f"only {self.needed}"
        self.left_out |= {file.path: f"{file.modality or 'no modality given'}: {where}" for file in members}
        self.unneeded |= self._unneeded(members)
        return True

    def _unneeded(self, files: Sequence[NamedFile]) -> set[Path]:
        return {file.path for file in files if file.modality is not None and contrast(file.modality) not in self.wanted}

    def _is_near(self, key: _Key, other: _Key) -> bool:
        """Check whether a visit with a scan is of the same person and folder, as far as the names say."""
        shorter = min(len(key[0]), len(other[0]))
        if key[0][:shorter] != other[0][:shorter]:
            return False
        if other[1] and _begins(key[1], other[1]):
            return True
        if shorter == 0:
            return False
        alone_there = sum(1 for one, files in self.chosen.items() if files and one[0][:shorter] == key[0][:shorter]) == 1
        return not other[1] or alone_there

    def _finished(self, names: dict[_Key, str], made: dict[_Key, _Made]) -> list[NiftiCase]:
        people = _people(names, made)
        with_scans = {people[key] for key, one in made.items() if one.scans}
        cases = []
        for key, one in made.items():
            error = self._lacking(names[key], one.members) if one.lacks else one.error
            files = one.scans.values()
            error = error or next((file.fault or file.sentence for file in files if file.fault or file.doubt), None)
            skipped = one.lacks and people[key] in with_scans
            scans = {} if error else one.scans
            cases.append(NiftiCase(names[key], people[key], scans, tuple(one.members), error, skipped))
        return cases

    def _lacking(self, case: str, members: Sequence[NamedFile]) -> str:
        """Describe what a case lacks, and what its files should be called."""
        name = next(iter(self.wanted.values()))
        if all(file.modality is None for file in members):
            others = " while other files do" if self.told else ""
            numbered = f"{case}_{self.number:04d} or " if self.alone else ""
            return (
                f"{shown(members[0].path.name)} does not give its modality{others}: name it {numbered}{case}_{name} if it "
                f"is a {name}, else take it away."
            )
        found = ", ".join(f"{shown(file.path.name)} ({file.modality or 'not given'})" for file in members)
        example = f"{case}_{self.number:04d}.nii.gz (or a file with {name} in its name)"
        if not self.alone:
            example = f"{case}_{name}.nii.gz"
        return f"{case} has no {' or '.join(self.wanted.values())}, only {found}: add {example}."


def case_names(keys: Sequence[_Key]) -> dict[_Key, str]:
    """Name each visit (folders, name): by its name alone where that is unique, else with the folders that add to it."""
    counts = Counter(folded(stem) for _, stem in keys)
    names = {}
    for folder, stem in keys:
        if stem and counts[folded(stem)] == 1 and not (folder and says_only_a_session(stem)):
            names[folder, stem] = stem
            continue
        parts: list[str] = []
        for part in (*folder, *([stem] if stem else [])):
            # A folder that the next part repeats (sub-01/sub-01_ses-1) adds nothing.
            parts = [earlier for earlier in parts if not _begins(part, earlier)]
            parts.append(part)
        names[folder, stem] = "_".join(parts) or "case"
    return {key: _without_controls(name) for key, name in names.items()}


def _people(names: dict[_Key, str], made: dict[_Key, _Made]) -> dict[_Key, str]:
    folders = {part for folder, _ in names for part in folder}
    by_name = people_by_names(names.values(), folders)
    people = {}
    for key, name in names.items():
        told = next((file.person for file in made[key].members if file.person), None)
        people[key] = told or by_name[name]
    return people


def _person(file: NamedFile) -> str:
    """Return whose a file is, as far as its own path says."""
    if file.person:
        return folded(file.person)
    return folded(person_by_name(file.stem or (file.folder[-1] if file.folder else "")))


def told_apart(cases: Sequence[NiftiCase]) -> list[NiftiCase]:
    """Refuse cases whose results would get one name where capitals and forms of Unicode count for nothing."""
    counts = Counter(folded(case.name) for case in cases)
    apart = []
    for case in cases:
        if counts[folded(case.name)] > 1:
            files = ", ".join(shown("/".join(file.path.parts[-2:])) for file in case.files[:2])
            error = (
                f"{files} is one of several files whose results would be named {shown(case.name)} (capitals and forms of "
                "Unicode count for nothing on some disks): give its file another name."
            )
            case = replace(case, scans={}, error=error, skipped=False)
        apart.append(case)
    return apart


def _with_extra(key: _Key, extra: str) -> _Key:
    """Return the key of one of several cases of a visit.

    Where folders alone name the visit, the last one gets the addition.
    """
    folder, stem = key
    if not extra:
        return key
    if stem or not folder:
        return folder, f"{stem}_{extra}" if stem else extra
    return folder[:-1], f"{folder[-1]}_{extra}"


def _begins(text: str, start: str) -> bool:
    return text == start or text.startswith(tuple(start + mark for mark in "_-. "))


def _without_controls(name: str) -> str:
    # Bytes that are no UTF-8 are mostly Latin-1, and the case has failed anyhow: its name is for the summary.
    text = "".join(chr(ord(letter) - 0xDC00) if 0xDC80 <= ord(letter) <= 0xDCFF else letter for letter in name)
    return "".join(letter if letter.isprintable() else "_" for letter in text)
