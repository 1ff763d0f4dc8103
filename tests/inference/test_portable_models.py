"""Models that travel: exported, installed and predicting as at home; and nothing else is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from mmccd_auto.cli.commands import predict as predict_command
from mmccd_auto.cli.commands.sharing import export_model as export_command
from mmccd_auto.cli.commands.sharing import install_model as install_command
from mmccd_auto.cli.commands.sharing import models as models_command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.scores.false_alarm_rate import left_out_shares
from mmccd_auto.trained import ready_models as ready
from mmccd_auto.trained.installed_models import INCOMING, OUTGOING, installed_folder
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.trained.portable.safetensors_weights import load_weights, save_weights
from mmccd_auto.trained.select import choose_models
from mmccd_auto.workflows.sharing.describe_model import MakersWords
from mmccd_auto.workflows.sharing.export_model import export_model
from mmccd_auto.workflows.sharing.install_model import install_model
from mmccd_auto.workflows.sharing.list_models import describe_models, list_models

PERSON, CASE = "Geheimrat Mustermann", "mustermann_2019_flair"
MEMBER = "MMCCDTrainer__mmccdPlans__FLAIR-T1"
WEIGHTS = f"{MEMBER}/fold_0/weights.safetensors"


def _command(module, *arguments: object) -> None:
    with patch.object(sys, "argv", ["mmccd", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code


def _records(folder: Path) -> list[dict]:
    changing = ("seconds", "record_sha256", "files")
    records = [load_json(path) for path in sorted(folder.glob("*.json"))]
    return [{name: value for name, value in record.items() if name not in changing} for record in records]


def test_an_installed_ensemble_predicts_to_the_last_bit_what_it_did_at_home(
    trained_ensemble, portable_home, other_home, scans, tmp_path
) -> None:
    folder, out = scans("a.nii.gz", "b.nii.gz"), tmp_path / "maps"
    home, there = ("--results_folder", portable_home.results), ("--results_folder", other_home.results)
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


def test_the_card_says_what_is_known(model_file: Path, portable_home: Folders) -> None:
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
    assert card["gain_over_control"] == {"0": None, "2": None}
    assert f"| {card['reconstruction_r2']:.3f}; a constant has 0 |" in text
    for words in ("Tiny networks.", "CC-BY-4.0", "2 people", "3 healthy people", "not a medical device", "averaged"):
        assert words in text


def test_equal_models_give_equal_files(model_file: Path, portable_home: Folders, tmp_path: Path) -> None:
    words = MakersWords("Tiny networks.", "CC-BY-4.0", "20 to 45 years")
    again = export_model(portable_home, PredictionOptions(dataset="900"), tmp_path / "again.zip", "tiny", words)
    assert again.path.read_bytes() == model_file.read_bytes()


def test_the_list_shows_installed_and_trained_models(
    model_file: Path, portable_home: Folders, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(ready, "MODELS_FOLDER", tmp_path / "no ready ones")
    install_model(portable_home, model_file)
    _command(models_command, "--results_folder", portable_home.results)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4
    assert "--model tiny" in said
    (installed, *others) = list_models(portable_home)
    assert (installed.name, installed.state, installed.people, installed.calibrated_on) == ("tiny", "installed", 2, 2)
    assert {one.state for one in others} == {"trained"}
    broken = installed_folder(portable_home.results) / "tiny" / "manifest.json"
    broken.write_text("{}")
    assert "can't be used" in describe_models(list_models(portable_home), portable_home)


def test_a_taken_name_is_kept_unless_it_is_to_be_replaced(model_file: Path, portable_home: Folders) -> None:
    first = install_model(portable_home, model_file)
    with pytest.raises(MMCCDError, match="installed already"):
        install_model(portable_home, model_file)
    (first.path / "of the old one").touch()
    assert not (install_model(portable_home, model_file, overwrite=True).path / "of the old one").exists()
    assert install_model(portable_home, model_file, name="other").path.name == "other"
    with pytest.raises(MMCCDError, match="no name of one folder"):
        install_model(portable_home, model_file, name="../other")


def test_a_model_of_nobody_is_a_sentence(portable_home: Folders, tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="neither an installed model"):
        choose_models(portable_home, PredictionOptions(models=("nowhere",)))


def test_a_killed_installation_is_finished_by_the_next_one(model_file: Path, portable_home: Folders) -> None:
    home = installed_folder(portable_home.results)
    install_model(portable_home, model_file)
    # Killed between both renamings, and while files were copied.
    (home / "tiny").rename(home / f"{OUTGOING}tiny")
    (home / f"{INCOMING}tiny").mkdir()
    install_model(portable_home, model_file, name="other")
    assert sorted(path.name for path in home.iterdir()) == ["other", "tiny"]


def test_killed_at_any_moment_nothing_half_is_installed(model_file: Path, portable_home: Folders) -> None:
    home, script = installed_folder(portable_home.results), Path(sys.executable).parent / "mmccd_install_model"
    for patience in (0.0, 0.3, 0.02):
        command = [str(script), str(model_file), "--overwrite", "--results_folder", str(portable_home.results)]
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
            assert not list_models(portable_home)[0].problem
    install_model(portable_home, model_file, overwrite=True)
    assert sorted(path.name for path in home.iterdir() if "mmccd-lock" not in path.name) == ["tiny"]


def test_left_out_people_of_one_kind_find_what_was_promised() -> None:
    histogram = [0] * 60 + [1000 - 7 * number for number in range(100)] + [0]
    histograms = [tuple(histogram)] * 3
    assert left_out_shares(0.005, histograms) == pytest.approx([0.005] * 3, rel=0.05)
    assert left_out_shares(0.005, histograms[:1]) == []


def test_weights_are_kept_to_the_bit(tmp_path: Path) -> None:
    weights = {"b": torch.randn(3, 4), "a": torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)}
    save_weights(weights, tmp_path / "w.safetensors")
    found = load_weights(tmp_path / "w.safetensors", weights)
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    with pytest.raises(MMCCDError, match="not floating-point"):
        save_weights({"a": torch.zeros(2, dtype=torch.int64)}, tmp_path / "x.safetensors")


def test_a_damaged_installed_model_is_a_sentence(model_file: Path, portable_home: Folders, scans, tmp_path: Path) -> None:
    installed = install_model(portable_home, model_file).path
    weights = installed / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(MMCCDError, match="another SHA-256"):
        ModelFolder(installed / MEMBER).checkpoint("0")
    shutil.rmtree(installed)
