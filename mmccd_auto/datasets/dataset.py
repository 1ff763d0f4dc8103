"""Raw datasets in nnU-Net's naming: which cases there are, and which file is what."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import name_problem
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.datasets.ages import read_ages
from mmccd_auto.datasets.health import LABELLED, UNKNOWN, health_of, nobody_to_train_on, read_health
from mmccd_auto.datasets.subjects import complete_subjects
from mmccd_auto.imaging.labels import DEFAULT_LABELS, LabelValues

DATASET_FILE = "dataset.json"
DEFAULT_FILE_ENDING = ".nii.gz"
SPLITS = ("Tr", "Ts")

_DATASET_NAME = re.compile(r"Dataset(?P<number>\d+)_(?P<name>.+)")
# Modality names become parts of folder names, in which a double underscore separates trainer, plans and configuration.
_MODALITY_NAME = re.compile(r"(?!.*__)\w[\w+.-]*")


@dataclass(frozen=True)
class Dataset:
    """One raw dataset.

    Attributes
    ----------
    folder : that holds dataset.json
    name : of the folder, such as ``Dataset001_RealBrain``
    modalities : channel names in the order of their channel numbers, two or more
    labels : name -> value; what is neither background (0) nor "ignore" is abnormal
    file_ending : of every image and label, such as ``.nii.gz``
    subjects : case -> person, for the cases where dataset.json gives it
    stated_health : case -> "healthy", "labelled" or "unknown"; None where dataset.json says nothing of it
    content : dataset.json as it is
    ages : case -> years at the scan, where dataset.json gives them
    """

    folder: Path
    name: str
    modalities: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    subjects: dict[str, str]
    content: dict[str, Any]
    stated_health: dict[str, str] | None = None
    ages: dict[str, float] = field(default_factory=dict)

    def images_folder(self, split: str = "Tr") -> Path:
        """Return folder ``imagesTr`` (training) or ``imagesTs`` (test)."""
        return self._folder("images", split)

    def labels_folder(self, split: str = "Tr") -> Path:
        """Return folder ``labelsTr`` or ``labelsTs``; it need not exist."""
        return self._folder("labels", split)

    def brain_masks_folder(self, split: str = "Tr") -> Path:
        """Return folder ``brain_masksTr`` or ``brain_masksTs``; it need not exist."""
        return self._folder("brain_masks", split)

    def cases(self, split: str = "Tr") -> list[str]:
        """Return the cases that have at least one channel, sorted.

        Hidden files and files named otherwise are passed over.
        """
        found = set()
        for path in visible_files(self.images_folder(split)):
            parts = parse_channel_name(path.name, self.file_ending)
            if parts is not None and parts[1] < len(self.modalities):
                found.add(parts[0])
        return sorted(found)

    def channel_file(self, case: str, modality: str, split: str = "Tr") -> Path:
        """Find where the case's scan of this modality is, or would be (see :meth:`available_modalities`).

        Raises
        ------
        MMCCDError
            If the dataset has no such modality.
        """
        if modality not in self.modalities:
            raise MMCCDError(
                f"{self.folder / DATASET_FILE} has no modality {modality}: choose from {_list(self.modalities)}."
            )
        return self.images_folder(split) / f"{case}_{self.modalities.index(modality):04d}{self.file_ending}"

    def available_modalities(self, case: str, split: str = "Tr") -> tuple[str, ...]:
        """Return the modalities of which the case has a file, in channel order."""
        return tuple(name for name in self.modalities if self.channel_file(case, name, split).is_file())

    def label_file(self, case: str, split: str = "Tr") -> Path | None:
        """Return the case's drawn abnormalities; None where there is no file, which means: healthy, or not examined."""
        return _if_file(self.labels_folder(split) / f"{case}{self.file_ending}")

    def brain_mask_file(self, case: str, split: str = "Tr") -> Path | None:
        """Return the case's given brain mask, or None: then the mask is found from the images."""
        return _if_file(self.brain_masks_folder(split) / f"{case}{self.file_ending}")

    @property
    def label_values(self) -> LabelValues:
        """What the values in its labels mean."""
        return LabelValues(self.labels, str(self.folder / DATASET_FILE))

    def subject(self, case: str) -> str:
        """Find the person the case is of; where dataset.json doesn't, the names of the cases do (``P1_T1``, ``P1_T2``)."""
        return self.people.get(case) or self.subjects.get(case, case)

    @cached_property
    def people(self) -> dict[str, str]:
        """The person of every case that has images, see :func:`mmccd_auto.datasets.subjects.complete_subjects`."""
        return complete_subjects([*self.cases("Tr"), *self.cases("Ts")], self.subjects)

    def layout(self) -> Dataset:
        """Give the dataset without what it tells of single cases, which is long where it is sent with each of them."""
        return replace(self, subjects={}, content={}, stated_health=None, ages={})

    def health(self, case: str, split: str = "Tr") -> str:
        """Give "healthy", "labelled" or "unknown" (a patient without labels).

        See :func:`mmccd_auto.datasets.health.health_of`.
        """
        return health_of(self.stated_health, case, self.label_file(case, split) is not None)

    def training_cases(self) -> list[str]:
        """List the cases of imagesTr that may be trained and calibrated on: all but those of unknown health.

        Raises
        ------
        MMCCDError
            If every case is of unknown health, or one has no label that dataset.json says is labelled.
        """
        kinds = {case: self.health(case) for case in self.cases("Tr")}
        for case, kind in kinds.items():
            if kind == LABELLED and self.label_file(case) is None:
                raise MMCCDError(
                    f"{self.folder / DATASET_FILE} says that case {case} is labelled, but "
                    f"{self.labels_folder() / case}{self.file_ending} does not exist: add it, or correct the entry."
                )
        usable = [case for case, kind in kinds.items() if kind != UNKNOWN]
        patients = len(kinds) + sum(self.health(case, "Ts") == UNKNOWN for case in self.cases("Ts"))
        if not usable and patients and self.stated_health is not None:
            raise MMCCDError(nobody_to_train_on(self.folder, patients))
        return usable

    def _folder(self, kind: str, split: str) -> Path:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is neither Tr nor Ts")
        return self.folder / f"{kind}{split}"


def parse_channel_name(file_name: str, file_ending: str) -> tuple[str, int] | None:
    """Parse (case, channel) of ``CASE_0000.nii.gz``, or None where the name isn't of that form.

    The channel is the LAST ``_dddd`` before the file ending, so case ids may contain such groups themselves.
    """
    match = re.fullmatch(rf"(?P<case>.+)_(?P<channel>[0-9]{{4}}){re.escape(file_ending)}", file_name)
    return None if match is None else (match["case"], int(match["channel"]))


def split_case_and_channel(file_name: str, file_ending: str) -> tuple[str, int]:
    """Return (case, channel) of a file name: ``BraTS2021_00006_0000.nii.gz`` is channel 0 of case ``BraTS2021_00006``.

    Raises
    ------
    MMCCDError
        If the name isn't ``CASE_dddd`` + the file ending.
    """
    parts = parse_channel_name(file_name, file_ending)
    if parts is None:
        raise MMCCDError(
            f"{file_name} is not named CASE_0000{file_ending}: put the channel number, four digits after an underscore, "
            "before the file ending."
        )
    return parts


def list_datasets(raw: str | Path) -> list[Path]:
    """List the folders ``DatasetXXX_Name`` in the raw folder, by number and then by name.

    Empty where the folder doesn't exist.
    """
    raw = Path(raw)
    if not raw.is_dir():
        return []
    named = [(_DATASET_NAME.fullmatch(path.name), path) for path in raw.iterdir() if path.is_dir()]
    found = [(int(match["number"]), path.name, path) for match, path in named if match is not None]
    return [path for _, _, path in sorted(found)]


_HOW_TO_FILL = {
    "raw": "make this folder and put datasets (DatasetXXX_Name) in it",
    "preprocessed": "run mmccd_plan_and_preprocess first",
    "results": "run mmccd_train first",
}


def find_dataset(raw: str | Path, identifier: int | str, kind: str = "raw") -> Path:
    """Find the folder of one dataset.

    Parameters
    ----------
    raw : the raw folder, or that of preprocessed data or of results
    identifier : number (1, "1", "001", "Dataset001"), full name ("Dataset001_RealBrain") or name ("RealBrain")
    kind : "raw", "preprocessed" or "results": what the folder is for, so that the error gives the advice that helps

    Raises
    ------
    MMCCDError
        If there is none, or more than one, of that number or name; the message lists what there is.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise MMCCDError(
            f"{raw} does not exist: {_HOW_TO_FILL[kind]}, or name another one by --{kind}_folder or the environment "
            f"variable mmccd_{kind}."
        )
    folders = list_datasets(raw)
    wanted = str(identifier).strip()
    exact = [folder for folder in folders if folder.name == wanted]
    matching = exact or [folder for folder in folders if _is_meant(folder, wanted)]
    if len(matching) > 1:
        raise MMCCDError(
            f"{raw} holds several datasets that {wanted} could mean ({_list(folder.name for folder in matching)}): "
            "give the full name, or renumber one of them."
        )
    if not matching:
        there = f"it holds {_list(folder.name for folder in folders)}" if folders else "it holds no folder DatasetXXX_Name"
        remedy = "" if kind == "raw" else f"; {_HOW_TO_FILL[kind]}"
        raise MMCCDError(f"{raw} has no dataset {wanted}: {there}{remedy}.")
    return matching[0]


def load_dataset(folder: str | Path) -> Dataset:
    """Read dataset.json.

    Raises
    ------
    MMCCDError
        If dataset.json is missing or broken, or an entry isn't what it must be (documentation/dataset_format.md).
    """
    folder = Path(folder)
    path = folder / DATASET_FILE
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist: write it as documentation/dataset_format.md shows.")
    content = read_record(JsonObject, path)
    return Dataset(
        folder=folder,
        name=folder.resolve().name,
        modalities=_modalities(content, path),
        labels=_labels(content, path),
        file_ending=_file_ending(content, path),
        subjects=_subjects(content, path),
        content=content,
        stated_health=read_health(content, path),
        ages=read_ages(content, path),
    )


def read_label_values(path: str | Path) -> LabelValues:
    """Read from a dataset.json, nnU-Net's regions included, what the values of its labels mean; the rest is not looked at.

    Raises
    ------
    MMCCDError
        If it can't be read or its labels aren't names and values.
    """
    content = read_record(JsonObject, path)
    return LabelValues(_labels(content, Path(path), regions=True), str(path))


def visible_files(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted by name, without hidden files (``._x`` of macOS); empty where it doesn't exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_meant(folder: Path, wanted: str) -> bool:
    match = _DATASET_NAME.fullmatch(folder.name)
    if match is None:
        return False
    number = re.fullmatch(r"(?:Dataset)?([0-9]+)", wanted)
    if number is not None:
        return int(match["number"]) == int(number[1])
    return match["name"] == wanted


def _modalities(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    channels = content.get("channel_names")
    example = '{"0": "FLAIR", "1": "T1"}'
    if not isinstance(channels, dict):
        raise MMCCDError(f"{path} has no object channel_names: write it as {example}.")
    if sorted(channels) != sorted(str(number) for number in range(len(channels))):
        raise MMCCDError(f"{path}: the keys of channel_names must be the numbers from 0 without a gap, as in {example}.")
    names = [channels[str(number)] for number in range(len(channels))]
    for name in names:
        if not isinstance(name, str) or _MODALITY_NAME.fullmatch(name) is None or name_problem("modality", name):
            raise MMCCDError(
                f"{path}: the channel name {name!r} can't be used in folder names: use letters, digits and single _ + . - "
                "only, beginning with a letter or digit, at most 39 bytes."
            )
    for index, name in enumerate(names):
        if name.lower() in (earlier.lower() for earlier in names[:index]):
            raise MMCCDError(f"{path} names two channels {name}: give each modality a name of its own.")
    if len(names) < 2:
        raise MMCCDError(
            f"{path} names {len(names)} modality, and the method learns from two or more of the same people: add "
            "another one to channel_names, and its scans."
        )
    return tuple(names)


def _labels(content: dict[str, Any], path: Path, regions: bool = False) -> dict[str, Any]:
    """Name -> value, and with ``regions`` also name -> values."""
    labels = content.get("labels", DEFAULT_LABELS)
    example = '{"background": 0, "lesion": 1}'
    if not isinstance(labels, dict) or not all(_is_value(value, regions) for value in labels.values()):
        raise MMCCDError(f"{path}: labels must be an object of names and whole numbers, as in {example}.")
    single = [value for value in labels.values() if isinstance(value, int)]
    if labels.get("background") != 0 or len(set(single)) != len(single):
        raise MMCCDError(f"{path}: labels must give background the value 0 and every other name its own, as in {example}.")
    return {name: value if isinstance(value, int) else tuple(value) for name, value in labels.items()}


def _is_value(value: Any, regions: bool) -> bool:
    """Check for a whole number, or the several of one of nnU-Net's regions."""
    if regions and isinstance(value, list):
        return bool(value) and all(type(one) is int for one in value)
    return type(value) is int


def _file_ending(content: dict[str, Any], path: Path) -> str:
    ending = content.get("file_ending", DEFAULT_FILE_ENDING)
    if not isinstance(ending, str) or re.fullmatch(r"(\.\w+)+", ending) is None:
        raise MMCCDError(f'{path}: file_ending is {ending!r}: write the ending with its full stop, such as ".nii.gz".')
    return ending


def _subjects(content: dict[str, Any], path: Path) -> dict[str, str]:
    """Return case -> person, from ``subjects`` and from ``cases.CASE.subject``."""
    subjects = content.get("subjects", {})
    if not isinstance(subjects, dict) or not all(_is_name(value) for value in subjects.values()):
        raise MMCCDError(f'{path}: subjects must be an object of cases and people, as in {{"case1": "person1"}}.')
    found = {case: str(subject) for case, subject in subjects.items()}
    cases = content.get("cases", {})
    if not isinstance(cases, dict):
        return found
    for case, entry in cases.items():
        if not isinstance(entry, dict) or "subject" not in entry:
            continue
        if not _is_name(entry["subject"]):
            raise MMCCDError(f"{path}: the subject of case {case} must be a text: put it in quotes.")
        if found.setdefault(case, str(entry["subject"])) != str(entry["subject"]):
            raise MMCCDError(
                f"{path} names two subjects for case {case} ({found[case]} in subjects, {entry['subject']} in cases): "
                "fix one of them."
            )
    return found


def _is_name(value: Any) -> bool:
    return (isinstance(value, str) and value.strip() != "") or type(value) is int


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _list(names: Any) -> str:
    return ", ".join(names)
