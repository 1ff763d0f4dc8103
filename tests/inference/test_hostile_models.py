"""Model files that were damaged or made to do harm: each is refused with a sentence and leaves nothing behind."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.workflows.sharing.install_model import install_model

Contents = dict[str, bytes]
MEMBER = "MMCCDTrainer__mmccdPlans__FLAIR-T1"
WEIGHTS = f"{MEMBER}/fold_0/weights.safetensors"


def _relisted(contents: Contents) -> Contents:
    """The same with a manifest that lists what is there."""
    manifest = json.loads(contents["manifest.json"])
    others = {name: content for name, content in contents.items() if name != "manifest.json"}
    manifest["files"] = {name: {"bytes": len(one), "sha256": sha256(one).hexdigest()} for name, one in others.items()}
    return {"manifest.json": json.dumps(manifest).encode(), **others}


def _edited(name: str, change: Callable[[dict], object]) -> Callable[[Contents], Contents]:
    def edit(contents: Contents) -> Contents:
        content = json.loads(contents[name])
        change(content)
        new = {**contents, name: json.dumps(content).encode()}
        return new if name == "manifest.json" else _relisted(new)

    return edit


def _with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Contents], Contents]:
    def edit(contents: Contents) -> Contents:
        weights = load(contents[WEIGHTS])
        change(weights)
        return _weights_bytes(contents, save(weights, {"format": "pt"}))

    return edit


def _weights_bytes(contents: Contents, content: bytes) -> Contents:
    training = json.loads(contents[f"{MEMBER}/fold_0/training.json"])
    training["weights_sha256"] = sha256(content).hexdigest()
    new = {**contents, WEIGHTS: content, f"{MEMBER}/fold_0/training.json": json.dumps(training).encode()}
    return _relisted(new)


def _first(weights: dict[str, torch.Tensor]) -> str:
    return min(weights)


def _nan(weights: dict[str, torch.Tensor]) -> None:
    weights[_first(weights)].view(-1)[0] = torch.nan


def _other_shape(weights: dict[str, torch.Tensor]) -> None:
    weights[_first(weights)] = torch.zeros(3, 5)


def _whole_numbers(weights: dict[str, torch.Tensor]) -> None:
    weights[_first(weights)] = weights[_first(weights)].to(torch.int32)


def _renamed(weights: dict[str, torch.Tensor]) -> None:
    weights["another"] = weights.pop(_first(weights))


def _header(length: int, text: bytes = b"") -> Callable[[Contents], Contents]:
    return lambda contents: _weights_bytes(contents, length.to_bytes(8, "little") + text)


def _absurd_plan(content: dict) -> None:
    content["plan"]["network"] |= {"base_channels": 64, "channel_multipliers": [1, 64], "residual_blocks": 16}


def _deep(contents: Contents) -> Contents:
    name = f"{MEMBER}/dataset.json"
    return _relisted({**contents, name: b'{"labels":' + b"[" * 100_000 + b"]" * 100_000 + b"}"})


def _extra(name: str, content: bytes = b"x", listed: bool = True) -> Callable[[Contents], Contents]:
    def edit(contents: Contents) -> Contents:
        new = {**contents, name: content}
        return _relisted(new) if listed else new

    return edit


PICKLE = (
    b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."
)
HOSTILE: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "leads out": (_extra("../evil.json"), "leads out of the model's folder"),
    "leads out below": (_extra(f"{MEMBER}/../../evil"), "leads out of the model's folder"),
    "absolute": (_extra("/tmp/evil"), "absolute path"),
    "drive letter": (_extra("C:/evil"), "absolute path"),
    "backslash": (_extra("..\\evil"), "backslash"),
    "control characters": (_extra("evil\x1b[31m"), "no plain path"),
    "a pickle": (_extra(f"{MEMBER}/fold_0/checkpoint_final.pth", PICKLE), "none that a model has"),
    "code": (_extra(f"{MEMBER}/trainer.py", b"import os"), "none that a model has"),
    "a pickle as weights": (lambda contents: _weights_bytes(contents, PICKLE), "no safetensors file"),
    "an unlisted file": (_extra(f"{MEMBER}/inference.json", b"{}", listed=False), "not listed"),
    "a missing file": (lambda c: {name: one for name, one in c.items() if name != WEIGHTS}, "is missing"),
    "missing and not listed": (lambda c: _relisted({n: one for n, one in c.items() if n != WEIGHTS}), "is missing"),
    "no manifest": (lambda c: {n: one for n, one in c.items() if n != "manifest.json"}, "no manifest.json"),
    "wrong hash": (lambda c: {**c, WEIGHTS: c[WEIGHTS][:-1] + b"?"}, "another size or SHA-256"),
    "wrong size": (lambda c: {**c, WEIGHTS: c[WEIGHTS] + b"?"}, "lists"),
    "future version": (_edited("manifest.json", lambda m: m.update(format=2)), "newer version"),
    "absurd sizes": (
        _edited("manifest.json", lambda m: m["files"][WEIGHTS].update(bytes=2**60)),
        "are the most",
    ),
    "wrong shape": (_with_weights(_other_shape), "has the shape"),
    "wrong kind": (_with_weights(_whole_numbers), "of the kind"),
    "wrong name": (_with_weights(_renamed), "unlike the networks"),
    "NaN": (_with_weights(_nan), "NaN or infinite"),
    "absurd header": (_header(2**62), "no safetensors file"),
    "header beyond the end": (_header(1000, b"{}"), "ends within its header"),
    "deep header": (_header(200_000, b"[" * 200_000), "header"),
    "cut weights": (lambda c: _weights_bytes(c, c[WEIGHTS][:-8]), "by its header"),
    "absurd network": (_edited(f"{MEMBER}/fold_0/training.json", _absurd_plan), "weights.safetensors"),
    "names that lead out": (
        _edited(f"{MEMBER}/plans.json", lambda p: p.update(plans_name="../../evil")),
        "plans_name",
    ),
    "models that lead out": (_edited("manifest.json", lambda m: m.update(models=["../evil"])), "models"),
    "an unknown entry": (_edited(f"{MEMBER}/plans.json", lambda p: p.update(run="rm")), "unknown entry run"),
    "another trainer": (_edited(f"{MEMBER}/fold_0/training.json", lambda t: t.update(trainer="Other")), "trainer is Other"),
    "other weights' calibration": (
        _edited(f"{MEMBER}/fold_0/training.json", lambda t: t.update(checkpoint_sha256="0" * 64)),
        "other weights",
    ),
    "a method of nobody": (_edited(f"{MEMBER}/fold_0/training.json", lambda t: t.update(method="evil")), "method is evil"),
    "people": (_edited(f"{MEMBER}/dataset.json", lambda d: d.update(subjects={"a": "b"})), "more than a model needs"),
    "deep JSON": (_deep, "nested too deeply"),
    "a card that steers terminals": (
        _edited(f"{MEMBER}/model_card.json", lambda c: c.update(licence="\x1b[2J")),
        "licence",
    ),
    "a text that steers terminals": (_extra("MODEL_CARD.md", b"\x1b[2J"), "no plain text"),
    "no JSON": (_extra(f"{MEMBER}/plans.json", b"\xff\xfe{"), "not valid JSON"),
}


def _contents(model_file: Path) -> Contents:
    with zipfile.ZipFile(model_file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(contents: Contents, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo("plain")
            entry.filename = name
            archive.writestr(entry, content)


def _refused(path: Path, home: Folders, words: str) -> None:
    """One sentence, and nothing is left behind."""
    with pytest.raises(MMCCDError) as refusal:
        install_model(home, path)
    assert re.search(re.escape(words), str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.name in str(refusal.value)
    assert not home.results.exists()


def test_hostile_files_are_refused_and_leave_nothing(
    model_file: Path, other_home: Folders, tmp_path: Path, monkeypatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    good, path = _contents(model_file), tmp_path / "hostile.zip"
    for name, (change, words) in HOSTILE.items():
        _write(change(dict(good)), path)
        try:
            _refused(path, other_home, words)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        assert not list(temporary.iterdir()), name
    assert not list(tmp_path.rglob("evil*"))
    _write(_relisted(good), path)
    assert install_model(other_home, path).path.is_dir()


def _raw_archives(good: Contents, folder: Path) -> dict[str, tuple[bytes, str]]:
    """Faults of the archive itself."""
    path = folder / "raw.zip"

    def with_entry(name: str, content: bytes, **attributes: object) -> bytes:
        with zipfile.ZipFile(path, "w") as archive:
            for one, bytes_of in good.items():
                archive.writestr(one, bytes_of)
            entry = zipfile.ZipInfo(name)
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            archive.writestr(entry, content)
        return path.read_bytes()

    whole = with_entry("x", b"x")
    link = with_entry("link", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)
    bomb = with_entry(f"{MEMBER}/inference.json", b" " * 2**26, compress_type=zipfile.ZIP_DEFLATED)
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = with_entry("manifest.json", b"{}")
    utf8 = with_entry("\u00e4", b"x").replace("\u00e4".encode(), b"\xff\xff")
    encrypted = bytearray(whole)
    place = encrypted.rfind(b"PK\x01\x02")
    encrypted[place + 8] |= 1
    lying = bytearray(whole)
    at = lying.find(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (10).to_bytes(4, "little")
    return {
        "a link": (link, "is a link"),
        "a zip bomb": (bomb, "not listed"),
        "twice": (twice, "is there twice"),
        "no UTF-8": (utf8, "damaged"),
        "encrypted": (bytes(encrypted), "is encrypted"),
        "a false size": (bytes(lying), ""),
        "cut off": (whole[: len(whole) // 2], "damaged"),
        "no zip": (b"hello", "damaged"),
        "empty": (b"", "damaged"),
    }


def test_hostile_archives_are_refused_and_leave_nothing(model_file: Path, other_home: Folders, tmp_path: Path) -> None:
    for name, (content, words) in _raw_archives(_contents(model_file), tmp_path).items():
        path = tmp_path / "hostile.zip"
        path.write_bytes(content)
        try:
            _refused(path, other_home, words)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_a_bomb_stops_where_it_breaks_its_promise(model_file: Path, other_home: Folders, tmp_path: Path) -> None:
    """64 MiB of spaces that the manifest and the archive's own list both call small."""
    good, path = _contents(model_file), tmp_path / "bomb.zip"
    name = f"{MEMBER}/dataset.json"
    small = _relisted({**good, name: b"{}"})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in small.items():
            method = zipfile.ZIP_STORED if one.endswith("safetensors") else zipfile.ZIP_DEFLATED
            archive.writestr(one, b" " * 2**26 if one == name else content, method)
    content = bytearray(path.read_bytes())
    at = content.find(name.encode(), content.find(b"PK\x01\x02")) - 46
    content[at + 24 : at + 28] = (2).to_bytes(4, "little")
    path.write_bytes(content)
    _refused(path, other_home, "")
