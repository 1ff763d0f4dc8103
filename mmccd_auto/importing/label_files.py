"""Labels that somebody drew for scans that are imported: which file is whose, and how it comes onto the reference's grid."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.file_names import volume_ending, volume_stem, walk
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.labels import LabelValues, check_inside_brain, label_fault
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.sources.mask_choice import MaskChoice

LABEL_WORDS = frozenset({"label", "labels", "lesion", "lesions", "mask", "seg", "segmentation", "roi", "dseg"})


def assign_labels(folder: str | Path, names: Mapping[str, Sequence[str]], scans: Collection[Path]) -> MaskChoice:
    """Find the label of each case in a folder, by the names of files and of the folders that they lie in.

    Capitals, separators and words such as "lesion" or "seg" at the end of a name count for nothing.

    Parameters
    ----------
    folder : searched with all its subfolders
    names : by case, what its label may be called: its own name first, then those of its scans
    scans : files that are scans, and no labels, even if they lie in the folder

    Raises
    ------
    MMCCDError
        If there is no such folder, or no label in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MMCCDError(f"--labels {folder} is no folder: give the one that holds the labels, CASE.nii.gz.")
    known = {path.resolve() for path in scans}
    there = sorted(found.path for found in walk(folder) if found.fault is None)
    paths = [path for path in there if volume_ending(path.name) and path.resolve() not in known]
    if not paths:
        raise MMCCDError(f"--labels {folder} holds no label: give the folder that holds the labels, CASE.nii.gz.")
    by_name: dict[str, set[Path]] = defaultdict(set)
    for path in paths:
        for name in _names_of(path, folder):
            by_name[name].add(path)
    found = {case: _meant(by_name, own) for case, own in names.items()}
    owners = Counter(path for meant in found.values() for path in meant)
    by_case = {case: min(meant) for case, meant in found.items() if len(meant) == 1 and owners[min(meant)] == 1}
    errors = {case: _why_no_label(case, len(meant), folder) for case, meant in sorted(found.items()) if case not in by_case}
    unclear = frozenset(case for case in errors if found[case])
    return MaskChoice(by_case, errors, len(set(paths) - set(by_case.values())), unclear)


def _names_of(path: Path, folder: Path) -> set[str]:
    """Return the names that a case or scan may have so that a file is its label."""
    parents, stem = path.parent.relative_to(folder).parts, volume_stem(path)
    told = {stem, "_".join((*parents, stem))}
    if set(_words(stem)) <= LABEL_WORDS:
        told = {"_".join(parents)}
    return {plain for name in told if (plain := _plain(name))}


def _meant(by_name: Mapping[str, set[Path]], names: Sequence[str]) -> set[Path]:
    """Return the labels by the first of some names that finds any."""
    found = (by_name.get(_plain(name)) for name in names)
    return next((paths for paths in found if paths), set())


def _why_no_label(case: str, found: int, folder: Path) -> str:
    if found > 1:
        return f"{case} has {found} labels in {folder}: leave only one of them."
    if found == 1:
        return f"{case} shares its label in {folder} with another case: call the labels by their cases, {case}.nii.gz."
    return (
        f"{case} has no label in {folder}: add {case}.nii.gz (all zero where nothing is abnormal), or import this case "
        "by --healthy or --patients."
    )


def read_label(path: Path, values: Sequence[int]) -> Volume:
    """Read a label as uint8 of 0 and 1 (abnormal).

    Parameters
    ----------
    path : of the file
    values : that mark what is abnormal

    Raises
    ------
    MMCCDError
        If it can't be read or holds other values than these and 0.
    """
    volume = read_volume(path, dtype=None, warn=False)
    meaning = LabelValues({"background": 0, "lesion": tuple(values)}, source="--label_values")
    fault = label_fault(volume.array, meaning)
    if fault is None:
        unknown = sorted({int(value) for value in np.unique(np.rint(volume.array))} - meaning.known)
        if unknown:
            shown, known = (", ".join(map(str, some)) for some in (unknown, values))
            fault = f"holds values ({shown}) that are not among those that mark what is abnormal ({known}): correct it."
    if fault is not None:
        raise MMCCDError(f"{path} {fault.replace('add them to labels in', 'name those that are abnormal by')}")
    whole = np.rint(volume.array)
    return Volume(np.isin(whole, values).astype(np.uint8), volume.geometry)


def lay_label(label: Volume, geometry: Geometry, transform: sitk.Transform) -> Volume:
    """Bring a label onto another grid with nearest neighbour; a part that would vanish between the voxels keeps one.

    Parameters
    ----------
    label : uint8, nonzero is abnormal
    geometry : of the result
    transform : from points of the result to points of ``label`` (mm, LPS)
    """
    parts, count = ndimage.label(label.array, structure=np.ones((3, 3, 3)))
    image = Volume(parts.astype(np.int32), label.geometry).to_image()
    size = [int(edge) for edge in geometry.size]
    laid = sitk.GetArrayFromImage(
        sitk.Resample(
            image, size, transform, sitk.sitkNearestNeighbor, geometry.origin, geometry.spacing, geometry.direction, 0
        )
    )
    result = (laid > 0).astype(np.uint8)
    lost = sorted(set(range(1, count + 1)) - set(np.unique(laid).tolist()))
    if lost:
        grid, back = Volume(result, geometry).to_image(), transform.GetInverse()
        for centre in ndimage.center_of_mass(label.array > 0, parts, lost):
            point = image.TransformContinuousIndexToPhysicalPoint([float(place) for place in reversed(centre)])
            index = grid.TransformPhysicalPointToIndex(back.TransformPoint(point))
            if all(0 <= place < edge for place, edge in zip(index, size, strict=True)):
                result[tuple(reversed(index))] = 1
    return Volume(result, geometry)


def check_label(case: str, drawn: Volume, laid: Volume, brain: np.ndarray) -> None:
    """Refuse a label that lies elsewhere than the brain: it is another person's, or on another grid than its header says.

    Parameters
    ----------
    case : named in errors
    drawn, laid : before and after it came onto the reference's grid
    brain : bool [z, y, x] on that grid

    Raises
    ------
    MMCCDError
        If less than half of it lies in the brain, or it lies outside of the reference scan.
    """
    if not drawn.array.any():
        return
    check_inside_brain(case, laid.array > 0, brain)


def _plain(name: str) -> str:
    """Return a name without capitals, separators, and words at its end that say that it is a label."""
    words = _words(name)
    while len(words) > 1 and words[-1] in LABEL_WORDS:
        words.pop()
    return "_".join(words)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", unicodedata.normalize("NFC", name).casefold()) if word]
