"""Labels and brain masks that are given to an import: which file is whose, by the names of cases or by BIDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted
from mmccd_auto.imaging.file_names import volume_stem
from mmccd_auto.importing.label_files import assign_labels
from mmccd_auto.sources.bids.dataset import is_bids
from mmccd_auto.sources.bids.masks import BRAIN, LESION, choose_masks, find_masks, holds_bids_masks
from mmccd_auto.sources.cases import SourceCase, SourceListing
from mmccd_auto.sources.mask_choice import MaskChoice

NONE = MaskChoice({}, {}, 0)


@dataclass(frozen=True)
class GivenMasks:
    """The labels and the brain masks of the cases of an import, and sentences on what isn't used."""

    labels: MaskChoice
    brains: MaskChoice
    notes: tuple[str, ...] = ()

    def of(self, case: str) -> tuple[Path | None, Path | None]:
        """Return the label and the brain mask of a case; None where none is given."""
        return self.labels.by_case.get(case), self.brains.by_case.get(case)

    @property
    def errors(self) -> dict[str, str]:
        """Why a case lacks one of them, in a sentence, by case."""
        return self.labels.errors | self.brains.errors


def find_given_masks(
    labels: str | None, brain_masks: str | None, listing: SourceListing, usable: Sequence[SourceCase], source: Path
) -> GivenMasks:
    """Find the label and the brain mask of each case.

    In a BIDS dataset they are those of its derivatives, or of the derivatives folder that is named.

    Parameters
    ----------
    labels, brain_masks : folders; None where none is given
    listing, usable : all cases of the source, and those of them that can be imported
    source : of the scans

    Raises
    ------
    MMCCDError
        If there is no such folder, or nothing of this kind in it.
    """
    by_bids = is_bids(source)
    return GivenMasks(
        NONE if labels is None else _labels(labels, listing, usable, source, by_bids),
        NONE if brain_masks is None else _brains(brain_masks, usable, by_bids),
        _lesions_passed_by(source, usable) if by_bids and labels is None else (),
    )


def source_files(listing: SourceListing, root: Path) -> list[tuple[str, str, str]]:
    """Return (case, subject, file below ``root``) of NIfTI files; empty for DICOM, whose files are nameless."""
    return [
        (case.case, case.subject, scan.relative_to(root).as_posix())
        for case in listing.cases
        for scan in case.scans.values()
        if isinstance(scan, Path)
    ]


def _labels(folder: str, listing: SourceListing, usable: Sequence[SourceCase], source: Path, by_bids: bool) -> MaskChoice:
    if by_bids and holds_bids_masks(folder):
        return _of_bids(folder, LESION, usable)
    scans = [scan for case in listing.cases for scan in case.scans.values() if isinstance(scan, Path)]
    names = {case.case: [case.case] for case in usable}
    for case, _, file in source_files(listing, source):
        if case in names:
            names[case].append("_".join((*Path(file).parent.parts, volume_stem(Path(file)))))
    return assign_labels(folder, names, scans)


def _brains(folder: str, usable: Sequence[SourceCase], by_bids: bool) -> MaskChoice:
    if not Path(folder).is_dir():
        raise MMCCDError(f"--brain_masks {folder} is no folder: give the one that holds the brain masks, CASE.nii.gz.")
    if by_bids and holds_bids_masks(folder):
        return _of_bids(folder, BRAIN, usable)
    paths = {case.case: Path(folder) / f"{case.case}.nii.gz" for case in usable}
    missing = {case: path for case, path in paths.items() if not path.is_file()}
    errors = {
        case: f"{case} has no brain mask {path}: add it, or leave out --brain_masks." for case, path in missing.items()
    }
    return MaskChoice({case: path for case, path in paths.items() if case not in missing}, errors, 0)


def _lesions_passed_by(source: Path, usable: Sequence[SourceCase]) -> tuple[str, ...]:
    """Return a sentence where somebody has marked lesions of people whose labels were not asked for."""
    marked = {mask.name.person.lower() for mask in find_masks(source, LESION)} & {case.subject.lower() for case in usable}
    if not marked:
        return ()
    people = counted(len(marked), "imported person has", "imported people have")
    return (f"{people} lesion masks in the derivatives, which are not used: --labels {source} takes them.",)


def _of_bids(folder: str, kind: str, usable: Sequence[SourceCase]) -> MaskChoice:
    scans: Mapping[str, list[Path]] = {
        case.case: [scan for scan in case.scans.values() if isinstance(scan, Path)] for case in usable
    }
    return choose_masks(folder, kind, scans)
