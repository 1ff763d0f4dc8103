"""manifest.json of a model file: what is in it, how large each file is, and its hash."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval, Len

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import ModelName, PortableName, is_fold
from mmccd_auto.core.records import dataclass_from_json
from mmccd_auto.core.strict_json import parse_json, read_json_bytes, shown
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE
from mmccd_auto.plans.plan import PLANS_FILE
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, INFERENCE_FILE
from mmccd_auto.trained.portable.model_card import CARD_FILE, CARD_TEXT_FILE, Day
from mmccd_auto.trained.portable.portable_fold import TRAINING_FILE, WEIGHTS_FILE, Sha256
from mmccd_auto.trained.portable.safetensors_weights import REMEDY
from mmccd_auto.trained.portable.short_texts import ShortText

MANIFEST_FILE = "manifest.json"
FORMAT = 1
MOST_MODELS, MOST_FILES = 32, 4096
LARGEST_MANIFEST = 4 * 2**20
OF_MODEL = {PLANS_FILE: True, DATASET_FILE: True, CARD_FILE: True, FINGERPRINT_FILE: False, INFERENCE_FILE: False}
"""Files of a model folder, and whether they must be there."""
OF_FOLD = {WEIGHTS_FILE: True, TRAINING_FILE: True, CALIBRATION_FILE: False}
LARGEST = {WEIGHTS_FILE: 16 * 2**30, CARD_TEXT_FILE: 2**20, DATASET_FILE: 2**20, CARD_FILE: 2**20, PLANS_FILE: 2**20}
"""Bytes; of every other file LARGEST_OTHER."""
LARGEST_OTHER = 64 * 2**20
LARGEST_TEXTS = 512 * 2**20
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class ListedFile:
    """Size and hash of a file."""

    bytes: Annotated[int, Ge(0)]
    sha256: Sha256


@dataclass(frozen=True)
class Manifest:
    """manifest.json.

    Attributes
    ----------
    format : of the model file
    name : of the export
    models : names of the model folders; the maps of several are averaged
    made_on, package_version : when, and by which version of this package
    files : every other file, by its path with / between folders
    """

    format: Annotated[int, Interval(ge=FORMAT, le=FORMAT)]
    name: PortableName
    models: Annotated[tuple[ModelName, ...], Len(1, MOST_MODELS)]
    made_on: Day
    package_version: ShortText
    files: Annotated[dict[str, ListedFile], Len(1, MOST_FILES)]

    def __post_init__(self) -> None:
        if len(set(self.models)) < len(self.models):
            raise MMCCDError("models names a model twice")
        for name in self.files:
            problem = path_problem(name) or self._unknown(name)
            if problem:
                raise MMCCDError(f"the file {shown(name)} {problem}")
        for name in self.required():
            if name not in self.files:
                raise MMCCDError(f"the file {name} is missing")
        texts = 0
        for name, listed in self.files.items():
            if listed.bytes > largest(name):
                raise MMCCDError(f"the file {name} would have {listed.bytes} bytes, and {largest(name)} are the most")
            texts += 0 if name.endswith(WEIGHTS_FILE) else listed.bytes
        if texts > LARGEST_TEXTS:
            raise MMCCDError(f"the files beside the weights would have {texts} bytes together, more than {LARGEST_TEXTS}")

    def folds(self, model: str) -> list[str]:
        """Return the folds of a model, "0" .. "4" or "all"."""
        parts = [name.split("/") for name in self.files]
        return sorted({part[1].removeprefix("fold_") for part in parts if len(part) == 3 and part[0] == model})

    def required(self) -> list[str]:
        """Return the files that must be there."""
        found = [CARD_TEXT_FILE]
        for model in self.models:
            found += [f"{model}/{name}" for name, needed in OF_MODEL.items() if needed]
            folds = self.folds(model) or ["0"]
            found += [f"{model}/fold_{fold}/{name}" for fold in folds for name, needed in OF_FOLD.items() if needed]
        return found

    def save(self, folder: Path) -> None:
        """Write manifest.json."""
        save_json(asdict(self), folder / MANIFEST_FILE)

    def _unknown(self, name: str) -> str:
        parts = name.split("/")
        of_model = len(parts) == 2 and parts[1] in OF_MODEL
        fold = parts[1].removeprefix("fold_") if len(parts) == 3 else ""
        of_fold = len(parts) == 3 and parts[1] == f"fold_{fold}" and is_fold(fold) and parts[2] in OF_FOLD
        known = name == CARD_TEXT_FILE or (parts[0] in self.models and (of_model or of_fold))
        return "" if known else "is none that a model has"


def largest(name: str) -> int:
    """Count how many bytes a file of a model may have."""
    return LARGEST.get(name.rsplit("/", 1)[-1], LARGEST_OTHER)


def path_problem(name: str) -> str:
    """Describe what is wrong with a path of a model file, as the end of a sentence; empty where nothing is."""
    if "\\" in name:
        return "holds a backslash, which leads out of the folder on some systems"
    if name.startswith("/") or _DRIVE.match(name):
        return "is an absolute path, which leads out of the model's folder"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the model's folder"
    if not name.isprintable() or any(part in ("", ".") for part in parts):
        return "is no plain path of a file"
    return ""


def manifest_from_bytes(content: bytes, source: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    MMCCDError
        If it isn't one, or was written by a newer version of this package.
    """
    found = parse_json(content, source)
    version = found.get("format") if isinstance(found, dict) else None
    if type(version) is int and version > FORMAT:
        raise MMCCDError(
            f"{source}: the model file has the format {version}, and this version of mmccd_auto knows {FORMAT}: install a "
            "newer version of mmccd_auto."
        )
    return dataclass_from_json(Manifest, found, source, REMEDY)


def load_manifest(folder: str | Path) -> Manifest:
    """Read the manifest.json of an unpacked model file; errors as for :func:`manifest_from_bytes`."""
    path = Path(folder) / MANIFEST_FILE
    return manifest_from_bytes(read_json_bytes(path, LARGEST_MANIFEST), str(path))


def list_files(folder: Path, names: Iterable[str]) -> dict[str, ListedFile]:
    """Measure files below a folder for its manifest."""
    return {name: ListedFile((folder / name).stat().st_size, file_sha256(folder / name)) for name in sorted(names)}


def is_unpacked(folder: str | Path) -> bool:
    """Check whether a folder holds an unpacked model file."""
    return (Path(folder) / MANIFEST_FILE).is_file()
