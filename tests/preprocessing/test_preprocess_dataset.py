"""Whole datasets: resumed after a kill, made again when the plan changes, one bad case beside the good ones."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.datasets.dataset import Dataset, load_dataset
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.preprocess_dataset import preprocess_dataset, preprocess_one
from mmccd_auto.preprocessing.slices import CaseRecord, load_case_records

GEOMETRY = Geometry((36, 40, 24), (3.0, 3.0, 5.0), (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
RUN = """
import sys
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.preprocess_dataset import preprocess_dataset, preprocess_one
preprocess_dataset(load_dataset(sys.argv[1]), Plan.load(sys.argv[2]), sys.argv[3], 0)
"""


def write_raw_case(folder: Path, case: str, seed: int, skull: bool = False) -> None:
    generator = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in (24, 40, 36)), indexing="ij")
    brain = z**2 + y**2 + x**2 < 0.8**2
    around = generator.rayleigh(20, brain.shape) if skull else 0
    for channel in range(2):
        array = np.where(brain, generator.uniform(200, 800, brain.shape), around).astype(np.int16)
        write_volume(array, GEOMETRY, folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    label = ((z - 0.1) ** 2 + y**2 + (x - 0.2) ** 2 < 0.15**2).astype(np.uint8)
    write_volume(label, GEOMETRY, folder / "labelsTr" / f"{case}.nii.gz")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "raw" / "Dataset900_Tiny"
    cases = ["a_0000", "b", "c"]
    for seed, case in enumerate(cases):
        write_raw_case(folder, case, seed)
    content = {
        "channel_names": {"0": "FLAIR", "1": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "subjects": {"a_0000": "anna", "b": "anna", "c": "carl"},
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_dataset(folder)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "preprocessed" / "Dataset900_Tiny" / "mmccdPlans"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def times_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def test_every_case_is_written_with_its_subject(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    outcomes = preprocess_dataset(dataset, tiny_plan, output, 0)
    assert [(item.case, item.error) for item in outcomes] == [("a_0000", None), ("b", None), ("c", None)]
    records = load_case_records(output)
    assert records == {item.case: item.result for item in outcomes}
    assert [record.subject for record in records.values()] == ["anna", "anna", "carl"]
    for record in records.values():
        assert record.modalities == ("FLAIR", "T1")
        assert record.labelled
        assert any(item.anomaly_pixels for item in record.slices)
        assert record.geometry.original == GEOMETRY


def test_two_processes_write_the_same_files_as_none(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    preprocess_dataset(dataset, tiny_plan, output.with_name("parallel"), 2)
    assert files_of(output) == files_of(output.with_name("parallel"))


def test_what_is_done_is_left_alone_unless_asked(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    before = times_of(output)
    assert [item.error for item in preprocess_dataset(dataset, tiny_plan, output, 0)] == [None] * 3
    assert times_of(output) == before
    training = dataclasses.replace(tiny_plan.training, batch_size=7)
    preprocess_dataset(dataset, dataclasses.replace(tiny_plan, training=training), output, 0)
    assert times_of(output) == before
    preprocess_dataset(dataset, tiny_plan, output, 0, overwrite=True)
    assert all(times_of(output)[name] != time for name, time in before.items())


def test_a_label_redrawn_in_a_file_of_the_same_size_makes_the_case_anew(
    dataset: Dataset, tiny_plan: Plan, output: Path
) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    before = times_of(output)
    label = dataset.label_file("b")
    size = label.stat().st_size
    label.write_bytes(label.read_bytes())
    assert label.stat().st_size == size
    preprocess_dataset(dataset, tiny_plan, output, 0)
    assert {name for name, time in times_of(output).items() if time != before[name]} == {"b.json"}


@pytest.mark.parametrize(
    "change", [{"target_spacing": 5.0}, {"patch_size": (48, 48)}, {"normalisation": {"FLAIR": "zscore", "T1": "zscore"}}]
)
def test_a_changed_plan_makes_the_cases_anew(dataset: Dataset, tiny_plan: Plan, output: Path, change: dict) -> None:
    changed = dataclasses.replace(tiny_plan, **change)
    preprocess_dataset(dataset, changed, output.with_name("expected"), 0)
    preprocess_dataset(dataset, tiny_plan, output, 0)
    assert files_of(output) != files_of(output.with_name("expected"))
    preprocess_dataset(dataset, changed, output, 0)
    assert files_of(output) == files_of(output.with_name("expected"))


def test_a_label_that_comes_later_makes_its_case_anew(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    label = dataset.label_file("b")
    content = label.read_bytes()
    label.unlink()
    preprocess_dataset(dataset, tiny_plan, output, 0)
    before = times_of(output)
    assert not CaseRecord.load(output / "b.json").labelled
    label.write_bytes(content)
    preprocess_dataset(dataset, tiny_plan, output, 0)
    assert CaseRecord.load(output / "b.json").labelled
    assert {name for name, time in times_of(output).items() if time != before[name]} == {"b.json"}


def test_a_case_that_lost_a_slice_or_its_record_is_made_anew(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    expected = files_of(output)
    next((output / "b").iterdir()).unlink()
    (output / "c.json").write_text("{")
    preprocess_dataset(dataset, tiny_plan, output, 0)
    assert files_of(output) == expected


def test_a_bad_case_does_not_stop_the_others(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    write_raw_case(dataset.folder, "b", 1, skull=True)
    outcomes = preprocess_dataset(dataset, tiny_plan, output, 0)
    assert [item.error is None for item in outcomes] == [True, False, True]
    assert "b: FLAIR still has the skull" in outcomes[1].error
    assert list(load_case_records(output)) == ["a_0000", "c"]
    assert not list(output.glob("b*"))


def test_what_is_removed_while_others_are_preprocessed_is_a_failure(
    dataset: Dataset, tiny_plan: Plan, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(dataset: Dataset, plan: Plan, case: str, *rest: bool) -> CaseRecord:
        if case == "b":
            (output / "a_0000" / "slice_0010.npz").unlink()
        if case == "c":
            (output / "b.json").unlink()
        return real(dataset, plan, case, *rest)

    real = preprocess_one
    monkeypatch.setattr("mmccd_auto.preprocessing.preprocess_dataset.preprocess_one", one)
    outcomes = preprocess_dataset(dataset, tiny_plan, output, 0)
    assert [item.error is None for item in outcomes] == [False, False, True]
    assert "a_0000.json or its slices were removed while" in outcomes[0].error


def test_a_case_that_has_become_bad_leaves_nothing_of_the_former_plan(
    dataset: Dataset, tiny_plan: Plan, output: Path
) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    dataset.channel_file("b", "T1").write_bytes(b"cut")
    outcomes = preprocess_dataset(dataset, dataclasses.replace(tiny_plan, target_spacing=5.0), output, 0)
    assert "b_0001.nii.gz" in outcomes[1].error
    assert list(load_case_records(output)) == ["a_0000", "c"]
    assert not list(output.glob("b*"))


def test_a_mask_file_of_the_case_is_used(dataset: Dataset, tiny_plan: Plan, output: Path) -> None:
    preprocess_dataset(dataset, tiny_plan, output, 0)
    expected = CaseRecord.load(output / "b.json").slices
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in (24, 40, 36)), indexing="ij")
    mask = (z**2 + y**2 + x**2 < 0.8**2).astype(np.uint8)
    write_raw_case(dataset.folder, "b", 1, skull=True)
    write_volume(mask, GEOMETRY, dataset.folder / "brain_masksTr" / "b.nii.gz")
    assert preprocess_dataset(dataset, tiny_plan, output, 0)[1].error is None
    assert CaseRecord.load(output / "b.json").slices == expected


def test_a_killed_run_continues_to_the_same_files(dataset: Dataset, tiny_plan: Plan, output: Path, tmp_path: Path) -> None:
    preprocess_dataset(dataset, tiny_plan, output.with_name("undisturbed"), 0)
    tiny_plan.save(tmp_path / "plans.json")
    arguments = [sys.executable, "-c", RUN, str(dataset.folder), str(tmp_path / "plans.json"), str(output)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (output / "a_0000.json").exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    left = output / ".incomplete-b"
    left.mkdir(exist_ok=True)
    (left / "slice_0003.npz").write_bytes(b"half")
    (output / ".incomplete-123-b.json").write_text("{")
    (output / "b.json").unlink(missing_ok=True)
    finished = times_of(output)["a_0000.json"]
    assert [item.error for item in preprocess_dataset(dataset, tiny_plan, output, 0)] == [None] * 3
    assert files_of(output) == files_of(output.with_name("undisturbed"))
    assert times_of(output)["a_0000.json"] == finished
