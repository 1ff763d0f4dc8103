"""The manifest of a model file: paths that lead elsewhere, files too many, too large or too few."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.trained.manifest import Manifest, list_files, load_manifest, manifest_from_bytes, path_problem
from mmccd_auto.trained.portable.short_texts import is_plain

FILE = {"bytes": 10, "sha256": "0" * 64}
MODEL = "MMCCDTrainer__mmccdPlans__FLAIR-T1"
NAMES = (
    "MODEL_CARD.md",
    *(f"{MODEL}/{name}" for name in ("plans.json", "dataset.json", "model_card.json")),
    *(f"{MODEL}/fold_0/{name}" for name in ("weights.safetensors", "training.json")),
)


def content(**changed: Any) -> dict[str, Any]:
    given = {
        "format": 1,
        "name": "tiny",
        "models": [MODEL],
        "made_on": "2026-11-27",
        "package_version": "0.1.0",
        "files": dict.fromkeys(NAMES, FILE),
    }
    return given | changed


def read(found: Any) -> Manifest:
    return manifest_from_bytes(json.dumps(found).encode(), "manifest.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fold_0/weights.safetensors", ""),
        ("../weights", "leads out of the model's folder"),
        ("a/../../b", "leads out of the model's folder"),
        ("/etc/passwd", "is an absolute path"),
        ("C:/windows", "is an absolute path"),
        ("a\\b", "holds a backslash"),
        ("a//b", "is no plain path"),
        ("./a", "is no plain path"),
        ("", "is no plain path"),
        ("a\x1b[2J", "is no plain path"),
    ],
)
def test_paths_that_lead_elsewhere_are_named(name: str, words: str) -> None:
    assert path_problem(name).startswith(words)
    assert bool(path_problem(name)) == bool(words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": 2}, "install a newer version"),
        ({"models": [MODEL, MODEL]}, "names a model twice"),
        ({"files": {**content()["files"], "../evil": FILE}}, "leads out of the model's folder"),
        ({"files": {**content()["files"], f"{MODEL}/setup.py": FILE}}, "is none that a model has"),
        ({"files": {name: FILE for name in NAMES if not name.endswith("plans.json")}}, "plans.json is missing"),
        ({"files": {**content()["files"], f"{MODEL}/plans.json": FILE | {"bytes": 2**20 + 1}}}, "are the most"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(MMCCDError, match=words):
        read(content(**changed))


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    manifest = read(content())
    assert manifest.folds(MODEL) == ["0"]
    manifest.save(tmp_path)
    assert load_manifest(tmp_path) == manifest
    (tmp_path / "a.txt").write_bytes(b"four")
    listed = list_files(tmp_path, ["a.txt"])["a.txt"]
    assert asdict(listed) == {
        "bytes": 4,
        "sha256": "04efaf080f5a3e74e1c29d1ca6a48569382cbbcd324e8d59d2b83ef21c039f00",
    }


@pytest.mark.parametrize(("text", "plain"), [("a\nb", True), ("", True), ("a\x1b[31m", False), ("a\tb", False), ("ä", True)])
def test_only_what_can_be_printed_is_plain(text: str, plain: bool) -> None:
    assert is_plain(text) == plain
