"""Prediction at a cluster's workers and part by part: the same maps as of one process, and one model a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from mmccd_auto.cli.commands import predict
from mmccd_auto.cli.common import run_command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.inference.prediction.case_files import SummaryRow
from mmccd_auto.inference.prediction.cases.at_workers import predict_at_worker
from mmccd_auto.sources.inputs import InputCase

CASES = ("a", "b", "c", "d", "e")


@pytest.fixture
def scans(tmp_path: Path, make_scan) -> Path:
    """Five scans, and a file that is none."""
    folder = tmp_path / "scans"
    for seed, case in enumerate(CASES):
        scan = make_scan(seed)
        write_volume(scan.array, scan.geometry, folder / f"{case}_FLAIR.nii.gz")
    (folder / "f_FLAIR.nii.gz").write_bytes(b"no scan")
    return folder


def predicted(model: Path, scans: Path, output: Path, *options: str) -> int:
    arguments = ["-m", str(model), "-i", str(scans), "-o", str(output), "--preset", "fast", "-device", "cpu", "--quiet"]
    return run_command(predict._command, [*arguments, *options])


def comparable(folder: Path) -> dict[str, object]:
    """What a run has written, without how long it took."""
    content: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            content[path.name] = {name: record[name] for name in record if name not in ("seconds", "record_sha256")}
        elif path.name == "summary.csv":
            table = pd.read_csv(path).drop(columns=["seconds", "status"])
            content[path.name] = table.to_json()
        elif path.name != "report.html":
            content[path.name] = path.read_bytes()
    return content


def test_workers_make_the_same_maps(model_folder, quick_plan, scans, tmp_path, capfd) -> None:
    pytest.importorskip("distributed")
    model = model_folder(plan=quick_plan)
    assert predicted(model, scans, tmp_path / "one") == 1
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert predicted(model, scans, tmp_path / "cluster", "--cluster", "local:2") == 1
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")] == told
    assert "f_FLAIR.nii.gz" in told[-1]
    assert comparable(tmp_path / "cluster") == comparable(tmp_path / "one")
    assert (tmp_path / "cluster" / "report.html").is_file()
    assert list(pd.read_csv(tmp_path / "cluster" / "summary.csv")["status"]) == ["done"] * 5 + ["failed"]


def test_parts_make_the_same_maps(model_folder, quick_plan, scans, tmp_path) -> None:
    model = model_folder(plan=quick_plan)
    predicted(model, scans, tmp_path / "one")
    for part in ("1/2", "2/2", "1/2"):
        predicted(model, scans, tmp_path / "parts", "--part", part, "--continue_prediction")
    assert not (tmp_path / "parts" / "summary.csv").exists()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*_anomaly.nii.gz")}
    assert len(written) == len(CASES)
    predicted(model, scans, tmp_path / "parts", "--continue_prediction")
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is predicted twice"
    assert comparable(tmp_path / "parts") == comparable(tmp_path / "one")
    assert list(pd.read_csv(tmp_path / "parts" / "summary.csv")["status"]) == ["kept"] * 5 + ["failed"]


@dataclass(frozen=True)
class _Run:
    """A run over a folder that notes by which model its cases are predicted."""

    models: list[object]
    predictor: object = None
    workspace: Path = Path()
    written: dict = field(default_factory=dict)
    lesions: dict = field(default_factory=dict)

    def rows(self, cases, keep):
        self.models.append(self.predictor)
        yield SummaryRow(cases[0].case, "done")


def test_a_worker_holds_one_model_from_case_to_case() -> None:
    used: list[object] = []
    for run in ("first", "first", "second", "second", "first"):
        predict_at_worker(run, object, _Run(used), InputCase("a", None), False)
    first, same, second, same_second, again = (id(model) for model in used)
    assert first == same
    assert second == same_second
    assert len({first, second, again}) == 3


def test_a_model_that_can_not_be_loaded_is_told_for_each_case() -> None:
    def load() -> object:
        raise MMCCDError("The model is gone.")

    for _ in range(2):
        with pytest.raises(MMCCDError, match=r"The model is gone\."):
            predict_at_worker("broken", load, _Run([]), InputCase("a", None), False)
