"""A run under fire: two runs in one folder, files that vanish or are damaged, exceptions of single cases."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mmccd_auto.core.disk import locks
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction import folder_prediction
from mmccd_auto.inference.prediction.case_record import finished_record, sealed
from mmccd_auto.inference.prediction.predictor import Predictor

QUICK = {"sampling_steps": 1, "strip_stride": 8}


@pytest.fixture
def predictor(model_folder):
    return Predictor.from_model_folder(model_folder(), LoadOptions(threshold=1.0, **QUICK))


@pytest.fixture
def finished(predictor, scans, tmp_path):
    """Two finished cases: the folder of the scans, and that of the maps."""
    folder, output = scans("a.nii.gz", "b.nii.gz"), tmp_path / "out"
    predictor.predict_folder(folder, output)
    return folder, output


def statuses(summary) -> list[str]:
    return [row.status for row in summary.rows]


HOLD = """
import sys
from mmccd_auto.core.disk.locks import folder_lock
with folder_lock(sys.argv[1], "maps"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_run_into_the_folder_is_refused_and_touches_nothing(predictor, finished, monkeypatch):
    folder, output = finished
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.0)
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MMCCDError, match=f"in use.*process {holder.pid}"):
            predictor.predict_folder(folder, output)
        with pytest.raises(MMCCDError, match="in use"):
            predictor.predict_file(folder / "a.nii.gz", output)
        holder.communicate("\n")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    ("ending", "damage"),
    [("_anomaly.nii.gz", "cut off"), ("_mask.nii.gz", "one bit"), (".png", "removed"), ("_anomaly.nii.gz", "a folder")],
)
def test_a_file_that_is_not_as_it_was_written_is_made_again(predictor, finished, caplog, ending, damage):
    folder, output = finished
    path = output / f"a{ending}"
    whole = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(whole[:300])
    elif damage == "one bit":
        path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    summary = predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))
    assert f"a: predicted again: a{ending}" in caplog.text
    if damage == "a folder":
        assert statuses(summary) == ["failed", "kept"]
        assert path.name in summary.failed[0]
    else:
        assert statuses(summary) == ["done", "kept"]
        assert path.read_bytes() == whole or ending == ".png"


def _without(name):
    return lambda record: {key: value for key, value in record.items() if key != name}


RECORDS = {
    "no warnings": _without("warnings"),
    "no threshold": _without("threshold"),
    "no files": _without("files"),
    "no seal": _without("record_sha256"),
    "another volume": lambda record: record | {"anomalous_ml": 0.0},
    "text for a number": lambda record: record | {"brain_ml": "many"},
    "list of files": lambda record: record | {"files": ["a_anomaly.nii.gz"]},
    "a list": lambda record: [record],
    "a number": lambda record: 5,
    "null": lambda record: None,
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_is_not_believed(tmp_path, caplog, change):
    (tmp_path / "a_anomaly.nii.gz").write_text("map")
    request = {"threshold": 1.0}
    record = sealed({**request, "warnings": [], "brain_ml": 1.5, "anomalous_ml": 0.5}, tmp_path, ["a_anomaly.nii.gz"])
    save_json(record, tmp_path / "a.json")
    assert finished_record(tmp_path, "a", request) == record
    assert finished_record(tmp_path, "a", {"threshold": 2.0}) is None
    assert not caplog.text
    (tmp_path / "a.json").write_text(json.dumps(change(record)))
    assert finished_record(tmp_path, "a", request) is None
    assert re.search(r"a: predicted again: .*a\.json", caplog.text)


def test_a_damaged_record_loses_no_other_case_and_is_made_again(predictor, finished, caplog):
    folder, output = finished
    record = load_json(output / "a.json")
    (output / "a.json").write_text(json.dumps(_without("threshold")(record)))
    assert statuses(predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))) == ["done", "kept"]
    assert re.search(r"a: predicted again: .*a\.json", caplog.text)
    apart = {"seconds": 0, "record_sha256": "", "files": {}}
    assert load_json(output / "a.json") | apart == record | apart


def test_a_record_of_a_version_that_knew_less_is_made_again(predictor, finished, caplog):
    folder, output = finished
    record = load_json(output / "a.json")
    names = record.pop("files")
    del record["record_sha256"], record["case_score"]
    save_json(sealed(record, output, names), output / "a.json")
    assert statuses(predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))) == ["done", "kept"]
    assert "a: predicted again" in caplog.text


def test_a_folder_that_vanishes_while_cases_are_predicted_is_told(predictor, scans, tmp_path, monkeypatch):
    folder, output = scans("a.nii.gz", "b.nii.gz"), tmp_path / "out"
    write = folder_prediction.write_prediction

    def then_remove(prediction, *arguments, **options):
        record = write(prediction, *arguments, **options)
        if prediction.case == "a":
            shutil.rmtree(output)
        return record

    monkeypatch.setattr(folder_prediction, "write_prediction", then_remove)
    summary = predictor.predict_folder(folder, output)
    assert statuses(summary) == ["failed", "done"]
    assert "a.json, a_anomaly.nii.gz" in summary.failed[0]
    assert "vanished" in summary.failed[0]
    assert list(pd.read_csv(output / "summary.csv").status) == ["failed", "done"]
    monkeypatch.undo()
    assert statuses(predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))) == ["done", "kept"]


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("read", OSError(5, "failed")),
        ("compute", RuntimeError("itk::ERROR: odd")),
        ("compute", MemoryError()),
        ("write", KeyError("x")),
    ],
)
def test_an_exception_of_one_case_is_that_cases_alone(predictor, scans, tmp_path, monkeypatch, stage, error):
    folder, output = scans("a.nii.gz", "b.nii.gz", "c.nii.gz"), tmp_path / "out"
    expected = predictor.predict_file(folder / "c.nii.gz", tmp_path / "alone").anomaly
    calls = []

    def failing(real):
        def function(*arguments, **options):
            calls.append(1)
            if len(calls) == 2:
                raise error
            return real(*arguments, **options)

        return function

    if stage == "compute":
        monkeypatch.setattr(type(predictor), "_prediction", failing(type(predictor)._prediction))
    else:
        name = {"read": "read_volume", "write": "write_prediction"}[stage]
        monkeypatch.setattr(folder_prediction, name, failing(getattr(folder_prediction, name)))
    summary = predictor.predict_folder(folder, output)
    assert statuses(summary) == ["done", "failed", "done"]
    assert "b" in summary.failed[0]
    assert "memory" in summary.failed[0] or f"unexpected {type(error).__name__}" in summary.failed[0]
    assert not list(output.glob("b*"))
    np.testing.assert_array_equal(read_volume(output / "c_anomaly.nii.gz").array, expected)
    assert not [name for name in os.listdir(output) if name.startswith(".")]
