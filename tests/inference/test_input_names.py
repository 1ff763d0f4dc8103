"""Names of input files through the whole prediction: one bad name costs its own case only."""

from __future__ import annotations

import logging
import os
import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from mmccd_auto.core.files import load_json
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.predictor import Predictor

QUICK = {"sampling_steps": 1, "strip_stride": 8, "threshold": 1.0}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    return Predictor.from_model_folder(model_folder(), LoadOptions(**QUICK))


def summary_of(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / "summary.csv", keep_default_na=False)


def test_bad_names_cost_their_own_cases_only(predictor, scans, tmp_path):
    folder = scans("sound_FLAIR.nii.gz")
    sound = folder / "sound_FLAIR.nii.gz"
    latin = os.path.join(os.fsencode(folder), "M\xfcller_FLAIR.nii.gz".encode("latin-1"))
    try:
        shutil.copy(sound, latin)
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    shutil.copy(sound, folder / f"{'n' * 235}_FLAIR.nii.gz")
    (folder / "annexed_FLAIR.nii.gz").symlink_to("../nowhere.nii.gz")
    (folder / "self_FLAIR.nii.gz").symlink_to("self_FLAIR.nii.gz")
    os.mkfifo(folder / "pipe_FLAIR.nii.gz")
    summary = predictor.predict_folder(folder, tmp_path / "out")
    assert len(summary.failed) == 3
    assert all(sentence.endswith(".") for sentence in summary.failed)
    table = summary_of(tmp_path / "out")
    assert sorted(table["status"]) == ["done", "failed", "failed", "failed", "left out", "left out"]
    assert table.set_index("case").loc["Müller", "status"] == "failed"
    left_out = table[table["status"] == "left out"]
    assert set(left_out["input_file"]) == {"self_FLAIR.nii.gz", "pipe_FLAIR.nii.gz"}
    assert {path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".json"} == {"sound.json"}


@pytest.mark.parametrize("name", ["José", unicodedata.normalize("NFD", "José"), "山田", "Ψ (2)"])
def test_a_name_beyond_ascii_is_the_name_of_the_results(predictor, scans, tmp_path, name):
    summary = predictor.predict_folder(scans(f"{name}_FLAIR.nii.gz"), tmp_path / "out")
    assert summary.failed == []
    assert load_json(tmp_path / "out" / f"{name}.json")["case"] == name
    assert (tmp_path / "out" / f"{name}_anomaly.nii.gz").is_file()


def test_results_below_the_input_are_not_predicted(predictor, scans, tmp_path):
    folder = scans("p_FLAIR.nii.gz")
    predictor.predict_folder(folder, folder / "maps", OutputOptions(save_cycle=True))
    written = {path.name for path in (folder / "maps").glob("*.nii.gz")}
    assert len(written) >= 4
    summary = predictor.predict_folder(folder, tmp_path / "out")
    assert [row.case for row in summary.rows] == ["p"]
    table = summary_of(tmp_path / "out")
    assert {name.split("/")[-1] for name in table[table["status"] == "left out"]["input_file"]} == written


def test_what_is_left_out_is_counted_on_the_screen(predictor, scans, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = scans("p_FLAIR.nii.gz")
    for name in ("p_T1", "p_seg", "p_bold", "Mask_p"):
        shutil.copy(folder / "p_FLAIR.nii.gz", folder / f"{name}.nii.gz")
    (folder / "p_T2.mgz").touch()
    (folder / "report.pdf").write_bytes(b"%PDF")
    summary = predictor.predict_folder(folder, tmp_path / "out")
    assert [row.status for row in summary.rows] == ["done"]
    for word in ("2 files of what isn't needed", "label or mask by its name (seg)", "(Mask)", ".mgz"):
        assert word in caplog.text
    assert list(summary_of(tmp_path / "out")["status"]) == ["done"] + 3 * ["left out"]
