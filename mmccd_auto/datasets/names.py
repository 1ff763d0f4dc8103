"""Files of a raw dataset that are misnamed or stand alone, each with the name it should have."""

from __future__ import annotations

import re
from pathlib import Path

from mmccd_auto.core.readable_names import NO_TEXT, has_readable_name, shown
from mmccd_auto.datasets.dataset import Dataset, parse_channel_name, visible_files

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def naming_problems(dataset: Dataset, split: str) -> list[str]:
    """List every file of the split's folders that will not be used, with what it should be called or what to do.

    Parameters
    ----------
    dataset : the raw dataset
    split : "Tr" or "Ts"
    """
    problems = []
    for path in visible_files(dataset.images_folder(split)):
        problems += _image_name_problem(dataset, path)
    cases = set(dataset.cases(split))
    folders = {"label": dataset.labels_folder(split), "brain mask": dataset.brain_masks_folder(split)}
    for kind, folder in folders.items():
        for path in visible_files(folder):
            problems += _partner_name_problem(dataset, split, path, kind, cases)
    return problems


def _image_name_problem(dataset: Dataset, path: Path) -> list[str]:
    general = _general_problem(dataset, path)
    if general is not None:
        return [general]
    parts = parse_channel_name(path.name, dataset.file_ending)
    if parts is not None and parts[1] < len(dataset.modalities):
        return []
    stem = path.name.removesuffix(dataset.file_ending)
    if parts is None:
        reason = "has no channel number (_0000 and so on)"
    else:
        channels = f"0000 to {len(dataset.modalities) - 1:04d}"
        reason = f"has the channel number {parts[1]:04d}, but dataset.json names {channels} only"
    guessed = _case_and_modality(stem, dataset)
    if guessed is not None:
        case, modality = guessed
        return [f"{path} {reason}: call it {dataset.channel_file(case, modality).name} ({modality})."]
    choices = ", ".join(f"{dataset.channel_file(stem, name).name} if it is {name}" for name in dataset.modalities)
    return [f"{path} {reason}: call it {choices}."]


def _partner_name_problem(dataset: Dataset, split: str, path: Path, kind: str, cases: set[str]) -> list[str]:
    general = _general_problem(dataset, path)
    if general is not None:
        return [general]
    case = path.name.removesuffix(dataset.file_ending)
    if case in cases:
        return []
    parts = parse_channel_name(path.name, dataset.file_ending)
    if parts is not None and parts[0] in cases:
        return [f"{path} has a channel number, which a {kind} doesn't: call it {parts[0]}{dataset.file_ending}."]
    images = dataset.images_folder(split)
    return [f"{path} is a {kind} without images: add {images / case}_0000{dataset.file_ending} and so on, or remove it."]


def _general_problem(dataset: Dataset, path: Path) -> str | None:
    """Return the folders and files of another ending."""
    if not has_readable_name(path):
        return f"{shown(path)}{NO_TEXT}"
    if path.is_dir():
        return f"{path} is a folder: put its files into {path.parent.name} itself, or move it elsewhere."
    if path.name.endswith(dataset.file_ending) and path.name != dataset.file_ending:
        return None
    ending = next((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), None)
    if ending is None:
        return f"{path} is not an image ending in {dataset.file_ending}: move it elsewhere."
    stem = path.name[: -len(ending)]
    return (
        f"{path} ends in {path.name[len(stem) :]}, not in {dataset.file_ending}: convert it to {stem}{dataset.file_ending}, "
        "or correct file_ending in dataset.json if all files end so."
    )


def _case_and_modality(stem: str, dataset: Dataset) -> tuple[str, str] | None:
    """Return the case and modality of a name such as ``case1_flair``, where exactly one part of it names a modality."""
    parts = re.split(r"([_.-])", stem)
    by_name = {name.lower(): name for name in dataset.modalities}
    found = [index for index, part in enumerate(parts) if part.lower() in by_name]
    if len(found) != 1:
        return None
    index = found[0]
    # The separator before the modality goes with it, or the one after it where the name begins with the modality.
    first = max(0, index - 1)
    case = "".join(parts[:first] + parts[first + 2 :])
    return (case, by_name[parts[index].lower()]) if case else None
