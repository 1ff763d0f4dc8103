"""The cases of a BIDS dataset: one for each visit of each person, and which scan stands for which modality."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.readable_names import shown
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.sources.bids.dataset import OUTSIDE, BidsFile, list_bids_files
from mmccd_auto.sources.bids.names import BidsName, parse_name
from mmccd_auto.sources.bids.options import ALL_PEOPLE, BidsOptions
from mmccd_auto.sources.bids.participants import read_ages
from mmccd_auto.sources.named_files import NamedFile
from mmccd_auto.sources.nifti_cases import LeftOut, NiftiCase, NiftiListing, told_apart

SHOWN_PEOPLE = 5
MASKS = frozenset(("mask", "dseg", "probseg", "defacemask", "roi"))
PREPROCESSED = "desc-preproc"
COPIES: tuple[tuple[Callable[[BidsName], bool], str], ...] = (
    (lambda name: name.derived, "computed from a scan that is there"),
    (lambda name: name.in_template_space, "in a template's space, and there is another"),
    (lambda name: name.suffix.lower() == "unit1", "a UNIT1 beside a T1w"),
    (lambda name: name.defaced, "a defaced copy of a scan that is there"),
)
"""What is left out where an original of the same contrast and visit is there, and why."""


@dataclass(frozen=True)
class BidsListing:
    """What a BIDS dataset holds.

    Attributes
    ----------
    files : cases by name, and files that were left out
    ages : years by case, where they are known
    notes : sentences on people without scans, and on ages
    """

    files: NiftiListing
    ages: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def list_bids_cases(
    root: str | Path,
    wanted: Sequence[str],
    options: BidsOptions | None = None,
    patterns: Mapping[str, str] | None = None,
    exclude: str | Path | None = None,
    alone: bool = False,
) -> BidsListing:
    """Find the visits of the people of a dataset and in each the scans of the wanted modalities.

    Parameters
    ----------
    root : folder of the dataset
    wanted : modalities, as the caller spells them
    options : the user's wishes
    patterns : by modality a part of the name of the file to use (``--series``)
    exclude : a folder that is not searched (the output)
    alone : each scan is examined alone (prediction): scans of one contrast that differ by more than the run are cases of
        their own

    Raises
    ------
    MMCCDError
        If a participant or session that is asked for isn't there, or a table can't be read.
    """
    root, options, patterns = Path(root), options or ALL_PEOPLE, _by_contrast(patterns or {}, wanted)
    files = list_bids_files(root, exclude)
    labels = [{_bare(label) for label in given} for given in (options.participants, options.sessions)]
    chosen = [file for file in files.anatomy if _is_asked_for(file.name, *labels)]
    _check_asked_for(options, files.anatomy, root)
    people = {file.path.relative_to(root).parts[0] for file in chosen}
    left_out = {
        path: why for path, why in files.left_out.items() if path.relative_to(root).parts[0] in people or not labels[0]
    }
    visits: dict[str, list[BidsFile]] = defaultdict(list)
    for file in chosen:
        visits[file.name.visit].append(file)
    unneeded = {path for path, why in left_out.items() if why.startswith(OUTSIDE)}
    work = _Choice({contrast(name): name for name in wanted}, patterns, options.all_runs, alone, left_out, unneeded)
    cases = told_apart([case for members in visits.values() for case in work.cases(members[0].name.visit, members)])
    listed = tuple(LeftOut(path, reason, path in unneeded) for path, reason in sorted(left_out.items()))
    ages = read_ages(root)
    known = {case.name: ages.of(case.subject, _session(case)) for case in cases}
    notes = [*([] if options.participants else _empty_note(files.empty)), *ages.notes]
    return BidsListing(
        NiftiListing(tuple(sorted(cases, key=lambda case: case.name)), listed),
        {case: age for case, age in known.items() if age is not None},
        tuple(notes),
    )


@dataclass(frozen=True)
class _Choice:
    """What becomes of the scans of a visit.

    Attributes
    ----------
    wanted : modality, as the caller spells it, by contrast
    patterns : part of the file's name by contrast
    all_runs, alone : see :func:`list_bids_cases`
    left_out : is filled with the files that are no scan of any case, and why
    unneeded : is filled with those of them about which nothing is odd
    """

    wanted: Mapping[str, str]
    patterns: Mapping[str, str]
    all_runs: bool
    alone: bool
    left_out: dict[Path, str]
    unneeded: set[Path]

    def cases(self, visit: str, members: Sequence[BidsFile]) -> list[NiftiCase]:
        """Return the cases of a visit: mostly one."""
        candidates: dict[str, list[BidsFile]] = defaultdict(list)
        for file in members:
            reason = self._why_unwanted(file.name)
            if reason is None:
                candidates[file.name.contrast].append(file)
            else:
                self.left_out[file.path] = reason
                self.unneeded.add(file.path)
        if not candidates:
            there = ", ".join(sorted({file.name.suffix for file in members}))
            error = f"{visit} has no {' or '.join(self.wanted.values())}, only {there}."
            return [self._case(visit, members, {}, error, skipped=True)]
        try:
            return [self._made(name, members, scans) for name, scans in self._named(visit, candidates).items()]
        except MMCCDError as error:
            return [self._case(visit, members, {}, str(error))]

    def _why_unwanted(self, name: BidsName) -> str | None:
        if name.suffix.lower() in MASKS:
            return f"a label or mask ({name.suffix})"
        if not name.is_magnitude:
            return f"part-{name.entities['part']}: only magnitude is read"
        return None if name.contrast in self.wanted else f"{name.suffix}: only {', '.join(self.wanted.values())} needed"

    def _named(self, visit: str, candidates: Mapping[str, list[BidsFile]]) -> dict[str, dict[str, BidsFile]]:
        """Collect the scans by modality, by the names of cases."""
        if self.alone:
            named: dict[str, dict[str, BidsFile]] = {}
            for shows, files in candidates.items():
                variants = self._variants(visit, shows, files)
                for variant, runs in variants.items():
                    name = "_".join(part for part in (visit, variant if len(variants) > 1 else "") if part)
                    named |= self._by_run(name, {self.wanted[shows]: runs})
            return named
        scans = {}
        for shows, files in candidates.items():
            variants = self._variants(visit, shows, files)
            scans[self.wanted[shows]] = self._only(visit, self.wanted[shows], variants)
        return self._by_run(visit, scans)

    def _variants(self, visit: str, shows: str, files: list[BidsFile]) -> dict[str, list[BidsFile]]:
        """Return the scans of one contrast by what distinguishes them, without copies of scans that are there."""
        pattern = self.patterns.get(shows)
        if pattern is not None:
            fitting = [file for file in files if pattern.casefold() in file.path.name.casefold()]
            if not fitting:
                asked = f"--series {self.wanted[shows]}={pattern}"
                raise MMCCDError(f"{visit}: {asked} is in the name of none of its files: give a part of one.")
            self._leave(files, fitting, "not what --series names")
            files = fitting
        for is_copy, reason in COPIES:
            originals = [file for file in files if not is_copy(file.name)]
            if originals:
                self._leave(files, originals, reason)
                files = originals
        variants: dict[str, list[BidsFile]] = defaultdict(list)
        for file in sorted(files, key=lambda file: (file.name.run, file.path)):
            variants[file.name.variant].append(file)
        return dict(sorted(variants.items()))

    def _only(self, visit: str, modality: str, variants: Mapping[str, list[BidsFile]]) -> list[BidsFile]:
        """Return the runs of the only variant, or of the plain one."""
        plain = next((name for name in ("", PREPROCESSED) if name in variants), None)
        if plain is None and len(variants) > 1:
            listed = ", ".join(shown(runs[-1].path.name) for runs in variants.values())
            raise MMCCDError(
                f"{visit} has several scans that may be its {modality}, {listed}: say which by --series {modality}=PART, a "
                "part of the file's name."
            )
        used = variants[plain] if plain is not None else next(iter(variants.values()))
        others = [file for runs in variants.values() for file in runs]
        self._leave(others, used, f"another {modality} of its visit: {shown(used[-1].path.name)} is used")
        return used

    def _by_run(self, name: str, scans: Mapping[str, list[BidsFile]]) -> dict[str, dict[str, BidsFile]]:
        """Return the last run, or a case for each: of a modality without this run the one before it."""
        numbers = sorted({file.name.run for runs in scans.values() if len(runs) > 1 for file in runs})
        if not self.all_runs or len(numbers) < 2:
            for runs in scans.values():
                self._leave(runs, runs[-1:], f"an earlier run: {shown(runs[-1].path.name)} is used")
            return {name: {modality: runs[-1] for modality, runs in scans.items()}}
        cases = {}
        for number in numbers:
            until = {one: [file for file in runs if file.name.run <= number] or runs[:1] for one, runs in scans.items()}
            case = f"{name}_run-{number[1]}" if number[1] else name
            cases[case] = {modality: runs[-1] for modality, runs in until.items()}
        return cases

    def _leave(self, files: Sequence[BidsFile], used: Sequence[BidsFile], reason: str) -> None:
        kept = {file.path for file in used}
        self.left_out.update({file.path: reason for file in files if file.path not in kept})

    def _made(self, name: str, members: Sequence[BidsFile], scans: Mapping[str, BidsFile]) -> NiftiCase:
        """Return a case of the scans that can be opened."""
        faulty = [file for file in scans.values() if file.fault]
        if len(faulty) == len(scans):
            return self._case(name, members, {}, f"{shown(faulty[0].path.name)} {faulty[0].fault}.")
        self.left_out.update({file.path: file.fault for file in faulty if file.fault})
        return self._case(name, members, {modality: file for modality, file in scans.items() if not file.fault})

    def _case(
        self,
        name: str,
        members: Sequence[BidsFile],
        scans: Mapping[str, BidsFile],
        error: str | None = None,
        skipped: bool = False,
    ) -> NiftiCase:
        named = {modality: _named_file(file) for modality, file in scans.items()}
        files = tuple(_named_file(file) for file in members)
        return NiftiCase(name, members[0].name.person, named, files, error, skipped)


def _named_file(file: BidsFile) -> NamedFile:
    name = file.name
    return NamedFile(file.path, (), name.visit, name.contrast, name.variant, name.person, derived=name.derived)


def _session(case: NiftiCase) -> str:
    name = parse_name(case.files[0].path.name)
    return "" if name is None else name.session


def _by_contrast(patterns: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    known = {contrast(name) for name in wanted}
    for name in patterns:
        if contrast(name) not in known:
            raise MMCCDError(f"--series {name}: {name} is not needed here, only {', '.join(wanted)}: leave the option out.")
    return {contrast(name): pattern for name, pattern in patterns.items()}


def _bare(label: str) -> str:
    return re.sub(r"^(sub|ses)-", "", label.lower())


def _is_asked_for(name: BidsName, participants: set[str], sessions: set[str]) -> bool:
    asked = not participants or name.entities["sub"].lower() in participants
    return asked and (not sessions or name.entities.get("ses", "").lower() in sessions)


def _check_asked_for(options: BidsOptions, files: Sequence[BidsFile], root: Path) -> None:
    """Raise :class:`MMCCDError` where a label is in no file's name."""
    for key, given in (("sub", options.participants), ("ses", options.sessions)):
        there = sorted({file.name.entities[key] for file in files if key in file.name.entities})
        known = {label.lower() for label in there}
        for label in given:
            if _bare(label) not in known:
                some = ", ".join(f"{key}-{name}" for name in there[:SHOWN_PEOPLE]) or "none"
                more = ", ..." if len(there) > SHOWN_PEOPLE else ""
                raise MMCCDError(f"{root} holds no anatomical scan of {key}-{_bare(label)}: choose among {some}{more}.")


def _empty_note(empty: Sequence[str]) -> list[str]:
    if not empty:
        return []
    names = ", ".join(shown(name) for name in empty[:SHOWN_PEOPLE]) + (", ..." if len(empty) > SHOWN_PEOPLE else "")
    what = "folder of a person holds" if len(empty) == 1 else "folders of people hold"
    return [f"{len(empty)} {what} no volume at all ({names}): where the data are kept by datalad, run datalad get on them."]
