"""Ready models: taken where nothing else is there, named, listed, and refused where they are damaged."""

from __future__ import annotations

import logging
import operator
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from mmccd_auto.cli.commands import predict as predict_command
from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_geometry, read_volume
from mmccd_auto.inference.options import NIFTI_ONLY, PredictionOptions
from mmccd_auto.ready.build import place_ready_models
from mmccd_auto.trained import ready_models as ready
from mmccd_auto.trained.select import choose_model, choose_models
from mmccd_auto.workflows.running.ready_modality import ready_modality_of
from mmccd_auto.workflows.sharing.calibrate_on_scans import HealthyScans, calibrate_on_scans
from mmccd_auto.workflows.sharing.install_model import install_model
from mmccd_auto.workflows.sharing.list_models import list_models

BEST = operator.itemgetter(0)
WEIGHTS = "MMCCDTrainer__mmccdPlans__FLAIR-T1/fold_0/weights.safetensors"


@pytest.fixture
def shipped(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ready models in place of the package's: tiny networks, called of FLAIR and of T2."""
    folder = tmp_path / "package" / "models"
    place_ready_models({"FLAIR": model_file, "T2": model_file}, folder)
    monkeypatch.setattr(ready, "MODELS_FOLDER", folder)
    return folder


def _predict(*arguments: object) -> int:
    with patch.object(sys, "argv", ["mmccd_predict", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        predict_command.main()
    return int(ended.value.code or 0)


def _content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_it_predicts_voxel_on_voxel_where_nothing_is_trained(
    shipped: Path, other_home: Folders, scans, tmp_path: Path, capfd
) -> None:
    folder, before = scans("a.nii.gz"), _content(shipped)
    home = ("--results_folder", other_home.results)
    assert _predict("-i", folder, "-o", tmp_path / "maps", "-device", "cpu", *home) == 0
    # After those on the folders.
    first = capfd.readouterr().err.splitlines()[3]
    for words in ("no model is trained or installed", "ready model of FLAIR", "2 simulated heads", "mmccd_run --healthy"):
        assert words in first
    assert not read_geometry(tmp_path / "maps" / "a_anomaly.nii.gz").differences(read_geometry(folder / "a.nii.gz"))
    assert _predict("--model", "ready", "-i", folder, "-o", tmp_path / "named", "-device", "cpu", *home) == 0
    found, named = (read_volume(tmp_path / name / "a_anomaly.nii.gz").array for name in ("maps", "named"))
    np.testing.assert_array_equal(found, named)
    assert found.max() > 0
    assert _content(shipped) == before


def test_a_calibration_takes_the_ready_model_of_what_the_scans_are(
    shipped: Path, other_home: Folders, scans, tmp_path: Path, caplog
) -> None:
    caplog.set_level(logging.INFO)
    folder = scans("a_T2.nii.gz")
    asked = PredictionOptions(models=("ready",))
    # The tiny model that is called of T2 is one of FLAIR.
    with pytest.raises(MMCCDError, match="holds no scan of FLAIR"):
        calibrate_on_scans(other_home, asked, HealthyScans(str(folder)), "ours", torch.device("cpu"))
    assert f"ready: ready_T2, by what {folder} holds" in caplog.text


def test_two_runs_read_the_same_files(shipped: Path, other_home: Folders) -> None:
    """Nothing is unpacked for a run, so that none can take another's away."""
    first, second = (choose_models(other_home, PredictionOptions(), ready_for=BEST) for _ in range(2))
    assert [one.path for one in first] == [one.path for one in second]
    assert all(one.path.is_relative_to(shipped / "FLAIR") for one in first)


def test_trained_and_installed_models_come_first(
    shipped: Path, portable_home: Folders, other_home: Folders, model_file: Path
) -> None:
    trained = choose_models(portable_home, PredictionOptions(), ready_for=BEST)
    assert all(one.path.is_relative_to(portable_home.results) for one in trained)
    install_model(other_home, model_file)
    installed = choose_models(other_home, PredictionOptions(), ready_for=BEST)
    assert all(one.path.is_relative_to(other_home.results) for one in installed)


@pytest.mark.parametrize(
    "options",
    [
        PredictionOptions(dataset="900"),
        PredictionOptions(configurations=("T1-FLAIR",)),
        PredictionOptions(trainer="DAETrainer"),
    ],
)
def test_it_stands_in_for_nothing_that_was_asked_for(shipped: Path, other_home: Folders, options: PredictionOptions) -> None:
    with pytest.raises(MMCCDError):
        choose_models(other_home, options, ready_for=BEST)


def test_what_writes_into_a_model_never_gets_it(shipped: Path, other_home: Folders) -> None:
    with pytest.raises(MMCCDError, match="holds no trained model"):
        choose_model(other_home, PredictionOptions())


def test_each_modality_has_a_name_and_a_line(shipped: Path, other_home: Folders, caplog) -> None:
    assert ready.ready_names() == ["ready", "ready_FLAIR", "ready_T2"]
    (model, *_) = choose_models(other_home, PredictionOptions(models=("ready_T2",)))
    assert model.path.is_relative_to(shipped / "T2")
    assert [one.name for one in list_models(other_home) if one.state == "ready"] == ["ready_FLAIR", "ready_T2"]
    with pytest.raises(MMCCDError, match="there are: ready, ready_FLAIR, ready_T2"):
        choose_models(other_home, PredictionOptions(models=("ready_T1",)))


@pytest.mark.parametrize("damage", ["cut off", "altered", "gone", "manifest"])
def test_a_damaged_one_is_a_sentence(shipped: Path, other_home: Folders, scans, tmp_path, caplog, damage: str) -> None:
    weights = shipped / "FLAIR" / WEIGHTS
    content = weights.read_bytes()
    if damage == "cut off":
        weights.write_bytes(content[:-8])
    elif damage == "altered":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        weights.unlink()
    else:
        (shipped / "FLAIR" / "manifest.json").write_text("{}")
    with pytest.raises(MMCCDError, match="install mmccd_auto again"):
        choose_models(other_home, PredictionOptions(), ready_for=BEST)
    assert "install mmccd_auto again" in next(one.problem for one in list_models(other_home) if one.name == "ready_FLAIR")
    out = ("-o", tmp_path / "maps", "-device", "cpu", "--results_folder", other_home.results)
    with caplog.at_level(logging.ERROR):
        assert _predict("-i", scans("a.nii.gz"), *out) == 1
    assert not (tmp_path / "maps").exists()


def test_without_any_the_user_is_told_what_to_do(other_home: Folders, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ready, "MODELS_FOLDER", tmp_path / "none")
    with pytest.raises(MMCCDError, match="run mmccd_train first"):
        choose_models(other_home, PredictionOptions(), ready_for=BEST)


def test_a_later_build_takes_the_place_of_an_earlier_one(shipped: Path, model_file: Path) -> None:
    (shipped / "FLAIR" / "of the old one").touch()
    place_ready_models({"FLAIR": model_file}, shipped)
    assert not (shipped / "FLAIR" / "of the old one").exists()
    assert sorted(path.name for path in shipped.iterdir()) == ["FLAIR", "T2"]
    shutil.rmtree(shipped / "T2")
    assert ready.ready_names() == ["ready", "ready_FLAIR"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a_FLAIR.nii.gz", "a_T2.nii.gz"), "FLAIR"),
        (("a_T1.nii.gz", "a_T2.nii.gz"), "T2"),
        (("a_T2.nii.gz", "b_FLAIR.nii.gz"), "FLAIR"),
        (("scan.nii.gz",), "FLAIR"),
        (("a_0000.nii.gz", "a_T2.nii.gz"), "FLAIR"),
        (("a_0001.nii.gz", "b_T2.nii.gz"), "T2"),
        (("a_T1.nii.gz",), "FLAIR"),
    ],
)
def test_the_model_of_what_the_input_holds_is_taken(
    shipped: Path, other_home: Folders, scans, tmp_path: Path, names: tuple[str, ...], expected: str
) -> None:
    folder = scans(*names)
    for options in (PredictionOptions(), PredictionOptions(models=("ready",))):
        (model, *_) = choose_models(
            other_home, options, lambda there: ready_modality_of(folder, tmp_path / "maps", there, NIFTI_ONLY)
        )
        assert model.path.is_relative_to(shipped / expected)


@pytest.mark.parametrize(("name", "expected"), [("brain_t2.nii.gz", "T2"), ("brain.nii.gz", "FLAIR")])
def test_a_single_file_is_told_by_its_name(shipped: Path, scans, tmp_path: Path, name: str, expected: str) -> None:
    file = scans(name) / name
    assert ready_modality_of(file, tmp_path / "maps", ready.ready_modalities(), NIFTI_ONLY) == expected


def test_a_named_modality_is_obeyed(shipped: Path, other_home: Folders) -> None:
    (model, *_) = choose_models(other_home, PredictionOptions(models=("ready_T2",)), ready_for=lambda there: "FLAIR")
    assert model.path.is_relative_to(shipped / "T2")
    (model, *_) = choose_models(other_home, PredictionOptions(models=("ready",)), ready_for=lambda there: there[1])
    assert model.path.is_relative_to(shipped / "T2")
