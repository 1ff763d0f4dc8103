"""Models that travel: exported, installed and predicting as at home; and nothing else is installed."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from mmccd_auto.cli import export_model as export_command
from mmccd_auto.cli import install_model as install_command
from mmccd_auto.cli import models as models_command
from mmccd_auto.cli import predict as predict_command
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json, save_json
from mmccd_auto.image_io import read_volume
from mmccd_auto.inference.calibrate import calibrate_model
from mmccd_auto.inference.calibration import load_calibration
from mmccd_auto.inference.exceedance import left_out_shares
from mmccd_auto.model_choice import PredictionOptions, choose_models
from mmccd_auto.paths import Folders
from mmccd_auto.plans.case_fingerprint import CaseFingerprint, ModalityFingerprint, SlicesFingerprint
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.trained.installed_models import INCOMING, OUTGOING, installed_folder
from mmccd_auto.trained.safetensors_weights import load_weights, save_weights
from mmccd_auto.training.checkpoint import load_checkpoint, save_checkpoint
from mmccd_auto.training.model_folder import ModelFolder
from mmccd_auto.workflows.describe_model import MakersWords
from mmccd_auto.workflows.export_model import export_model
from mmccd_auto.workflows.install_model import install_model
from mmccd_auto.workflows.list_models import describe_models, list_models

CPU = torch.device("cpu")
PERSON, CASE = "Geheimrat Mustermann", "mustermann_2019_flair"
DATASET = "Dataset900_Tiny"


def _fingerprint() -> DatasetFingerprint:
    """Two named people."""
    names = ("0.5", "2", "10", "25", "50", "75", "90", "98", "99.5")
    modality = ModalityFingerprint(
        dict.fromkeys(names, 400.0), 400.0, 10.0, 1.0, (4.0, 4.0, 4.0), (0.2, 0.4, 0.5, 0.6, 0.7), "stripped"
    )
    slices = {axis: SlicesFingerprint(5, 5, (90.0, 80.0)) for axis in ("axial", "coronal", "sagittal")}
    cases = {
        f"{CASE}_{number}": CaseFingerprint(
            subject=f"{PERSON} {number}",
            orientation="LPS",
            size=(22, 26, 7),
            spacing=(4.5, 5.0, 7.0 + number),
            slice_axis="axial",
            brain_box=(49.0, 120.0, 90.0),
            brain_volume=300.0,
            mask_given=False,
            one_grid=True,
            brain_overlap=1.0,
            slices=slices,
            modalities={"FLAIR": modality, "T1": modality},
        )
        for number in range(2)
    }
    return DatasetFingerprint.of_cases(DATASET, ("FLAIR", "T1"), cases)


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")


@pytest.fixture
def trained(model_folder, quick_plan, preprocessed) -> tuple[Path, Path]:
    """An ensemble that was chosen as the best: MMCCD of two folds, and Cyclic U-Net. Earlier versions' names are in it."""
    paths = (model_folder("mmccd", ("0", "2"), quick_plan), model_folder("cyclic_unet", plan=quick_plan))
    for path in paths:
        for final in path.glob("fold_*/checkpoint_final.pth"):
            checkpoint = load_checkpoint(final)
            record = {"healthy_slices": 12, "subjects": 3, "training_cases": [CASE], "versions": {"torch": "2"}}
            save_checkpoint(replace(checkpoint, record=record), final)
        calibrate_model(path, preprocessed, device=CPU, max_slices=4)
        for file in path.glob("fold_*/calibration.json"):
            content = load_json(file)
            for subject in content["subjects"]:
                subject["subject"] = f"{PERSON} {subject['subject']}"
            save_json(content, file)
        (path / "fold_0" / "validation").mkdir()
        (path / "fold_0" / "validation" / f"{CASE}.npz").write_bytes(b"maps")
        (path / "fold_0" / "progress.png").write_bytes(b"picture")
        _fingerprint().save(path / FINGERPRINT_FILE)
        save_json(
            {"channel_names": {"0": "FLAIR", "1": "T1"}, "name": "Tiny", "subjects": {CASE: PERSON}}, path / "dataset.json"
        )
    best = {"models": {"FLAIR": [path.name for path in paths]}, "default_modality": "FLAIR"}
    save_json(best, paths[0].parent / "best_configuration.json")
    return paths


@pytest.fixture
def model_file(trained, data, tmp_path) -> Path:
    words = MakersWords("Tiny networks.", "CC-BY-4.0", "20 to 45 years")
    return export_model(data, PredictionOptions(dataset="900"), tmp_path / "model.zip", "tiny", words).path


@pytest.fixture
def other_home(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "there" / "raw", tmp_path / "there" / "preprocessed", tmp_path / "there" / "results")


def _command(module, *arguments: object) -> None:
    sys.argv = ["mmccd", *map(str, arguments)]
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code


def _records(folder: Path) -> list[dict]:
    changing = ("seconds", "record_sha256", "files")
    records = [load_json(path) for path in sorted(folder.glob("*.json"))]
    return [{name: value for name, value in record.items() if name not in changing} for record in records]


def test_an_installed_ensemble_predicts_to_the_last_bit_what_it_did_at_home(
    trained, data, other_home, scans, tmp_path, monkeypatch
) -> None:
    folder, out = scans("a.nii.gz", "b.nii.gz"), tmp_path / "maps"
    for path in trained:
        # Names in calibrations count the people; at home the same.
        assert load_calibration(path / "fold_0" / "calibration.json").subjects
    home, there = ("--results_folder", data.results), ("--results_folder", other_home.results)
    _command(predict_command, "-i", folder, "-o", out / "home", "-device", "cpu", *home)
    _command(export_command, "900", "-o", tmp_path / "model.zip", "--licence", "MIT", *home)
    _command(install_command, tmp_path / "model.zip", "--name", "tiny", *there)
    _command(predict_command, "--model", "tiny", "-i", folder, "-o", out / "named", "-device", "cpu", *there)
    # The only installed model needs no name, and its folder can be named as well.
    _command(predict_command, "-i", folder, "-o", out / "only", "-device", "cpu", *there)
    unpacked = installed_folder(other_home.results) / "tiny"
    _command(predict_command, "-m", unpacked, "-i", folder, "-o", out / "path", "-device", "cpu")
    expected = sorted(path.name for path in (out / "home").glob("*.nii.gz"))
    assert len(expected) >= 4
    for other in ("named", "only", "path"):
        assert sorted(path.name for path in (out / other).glob("*.nii.gz")) == expected
        for name in expected:
            found, wanted = read_volume(out / other / name).array, read_volume(out / "home" / name).array
            np.testing.assert_array_equal(found, wanted)
        assert _records(out / other) == _records(out / "home")
    assert "MMCCDTrainer" in _records(out / "named")[0]["model"]
    assert "CyclicUNetTrainer" in _records(out / "named")[0]["model"]


def test_a_model_file_holds_no_names_no_pictures_and_no_code(model_file: Path) -> None:
    with zipfile.ZipFile(model_file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, content in contents.items():
        for word in (PERSON, CASE, "mustermann", "Geheimrat", "training_cases"):
            assert word.encode() not in content, name
            assert word not in name
    endings = {name.rsplit(".", 1)[-1] for name in contents}
    assert endings == {"json", "md", "safetensors"}
    assert not any("validation" in name for name in contents)


def test_the_card_says_what_is_known(model_file: Path, data: Folders) -> None:
    with zipfile.ZipFile(model_file) as archive:
        name = next(one for one in archive.namelist() if one.startswith("MMCCD") and one.endswith("model_card.json"))
        card, text = json.loads(archive.read(name)), archive.read("MODEL_CARD.md").decode()
    assert (card["people"], card["scans"], card["modalities"]) == (2, 2, {"FLAIR": 2, "T1": 2})
    assert card["voxel_mm_median"] == [4.5, 5.0, 7.5]
    assert card["healthy_slices"] == {"0": 12, "2": 12}
    assert (card["licence"], card["ages"]) == ("CC-BY-4.0", "20 to 45 years")
    assert card["calibrated_on"] == 3
    assert card["promised_false_alarm_rate"] == 0.005
    assert 0 <= card["found_false_alarm_rate"] <= 1
    for words in ("Tiny networks.", "CC-BY-4.0", "2 people", "3 healthy people", "not a medical device", "averaged"):
        assert words in text


def test_equal_models_give_equal_files(model_file: Path, data: Folders, tmp_path: Path) -> None:
    words = MakersWords("Tiny networks.", "CC-BY-4.0", "20 to 45 years")
    again = export_model(data, PredictionOptions(dataset="900"), tmp_path / "again.zip", "tiny", words)
    assert again.path.read_bytes() == model_file.read_bytes()


def test_the_list_shows_installed_and_trained_models(model_file: Path, data: Folders, capsys) -> None:
    install_model(data, model_file)
    _command(models_command, "--results_folder", data.results)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4
    assert "--model tiny" in said
    (installed, *others) = list_models(data)
    assert (installed.name, installed.state, installed.people, installed.calibrated_on) == ("tiny", "installed", 2, 2)
    assert {one.state for one in others} == {"trained"}
    broken = installed_folder(data.results) / "tiny" / "manifest.json"
    broken.write_text("{}")
    assert "can't be used" in describe_models(list_models(data), data)


def test_a_taken_name_is_kept_unless_it_is_to_be_replaced(model_file: Path, data: Folders) -> None:
    first = install_model(data, model_file)
    with pytest.raises(MMCCDError, match="installed already"):
        install_model(data, model_file)
    (first.path / "of the old one").touch()
    assert not (install_model(data, model_file, overwrite=True).path / "of the old one").exists()
    assert install_model(data, model_file, name="other").path.name == "other"
    with pytest.raises(MMCCDError, match="no name of one folder"):
        install_model(data, model_file, name="../other")


def test_a_model_of_nobody_is_a_sentence(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="neither an installed model"):
        choose_models(data, PredictionOptions(models=("nowhere",)))


def test_a_killed_installation_is_finished_by_the_next_one(model_file: Path, data: Folders) -> None:
    home = installed_folder(data.results)
    install_model(data, model_file)
    # Killed between both renamings, and while files were copied.
    (home / "tiny").rename(home / f"{OUTGOING}tiny")
    (home / f"{INCOMING}tiny").mkdir()
    install_model(data, model_file, name="other")
    assert sorted(path.name for path in home.iterdir()) == ["other", "tiny"]


def test_killed_at_any_moment_nothing_half_is_installed(model_file: Path, data: Folders) -> None:
    home, script = installed_folder(data.results), Path(sys.executable).parent / "mmccd_install_model"
    for patience in (0.0, 0.3, 0.02):
        command = [str(script), str(model_file), "--overwrite", "--results_folder", str(data.results)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 600
        # The library's loading takes most of the time: kill when the folder appears, or a moment later.
        while patience and process.poll() is None and not home.exists() and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(patience if patience < 0.1 else 0)
        process.kill()
        process.wait()
        names = [path.name for path in home.iterdir() if not path.name.startswith(".")] if home.exists() else []
        assert names in ([], ["tiny"])
        if names:
            assert not list_models(data)[0].problem
    install_model(data, model_file, overwrite=True)
    assert sorted(path.name for path in home.iterdir() if "mmccd-lock" not in path.name) == ["tiny"]


def test_left_out_people_of_one_kind_find_what_was_promised() -> None:
    histogram = [0] * 60 + [1000 - 7 * number for number in range(100)] + [0]
    histograms = [tuple(histogram)] * 3
    assert left_out_shares(0.005, histograms) == pytest.approx([0.005] * 3, rel=0.05)
    assert left_out_shares(0.005, histograms[:1]) == []


# Hostile files: each changes a good one.
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
        from safetensors.torch import load, save

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


def test_weights_are_kept_to_the_bit(tmp_path: Path) -> None:
    weights = {"b": torch.randn(3, 4), "a": torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)}
    save_weights(weights, tmp_path / "w.safetensors")
    found = load_weights(tmp_path / "w.safetensors", weights)
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    with pytest.raises(MMCCDError, match="not floating-point"):
        save_weights({"a": torch.zeros(2, dtype=torch.int64)}, tmp_path / "x.safetensors")


def test_a_damaged_installed_model_is_a_sentence(model_file: Path, data: Folders, scans, tmp_path: Path) -> None:
    installed = install_model(data, model_file).path
    weights = installed / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(MMCCDError, match="another SHA-256"):
        ModelFolder(installed / MEMBER).checkpoint("0")
    shutil.rmtree(installed)
