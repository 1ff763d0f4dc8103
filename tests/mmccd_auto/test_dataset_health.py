"""Who of a dataset is healthy, and that patients without labels train nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import Dataset, load_dataset
from mmccd_auto.datasets.health import describe_health
from mmccd_auto.datasets.integrity import description_problems
from mmccd_auto.preprocessing.slices import load_case_records


def made(folder: Path, health: object, labels: tuple[str, ...] = (), cases: tuple[str, ...] = ("a", "b", "c")) -> Dataset:
    for case in cases:
        for channel in range(2):
            path = folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for case in labels:
        (folder / "labelsTr").mkdir(exist_ok=True)
        (folder / "labelsTr" / f"{case}.nii.gz").touch()
    content = {"channel_names": {"0": "FLAIR", "1": "T1"}, "numTraining": len(cases)}
    if health is not None:
        content["health"] = health
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_dataset(folder)


def kinds(dataset: Dataset) -> dict[str, str]:
    return {case: dataset.health(case) for case in dataset.cases()}


def test_without_the_entry_all_are_healthy_and_that_is_told(tmp_path: Path) -> None:
    dataset = made(tmp_path, None)
    assert dataset.training_cases() == ["a", "b", "c"]
    assert describe_health(kinds(dataset), False) == "no labelsTr: 3 cases count as healthy"
    dataset = made(tmp_path, None, labels=("b",))
    assert describe_health(kinds(dataset), False) == (
        "1 case has a label, whose slices train nothing, 2 cases count as healthy"
    )


def test_patients_without_labels_and_cases_of_which_nothing_is_told_train_nothing(tmp_path: Path) -> None:
    dataset = made(tmp_path, {"a": "healthy", "b": "unknown"})
    assert dataset.training_cases() == ["a"]
    assert describe_health(kinds(dataset), True) == (
        "1 case counts as healthy, as dataset.json says; 2 cases of unknown health train nothing"
    )


def test_a_label_that_is_missing_is_never_taken_for_health(tmp_path: Path) -> None:
    dataset = made(tmp_path, {"a": "labelled", "b": "healthy", "c": "healthy"})
    with pytest.raises(MMCCDError, match=r"case a is labelled, but .*labelsTr.a\.nii\.gz does not exist"):
        dataset.training_cases()
    assert [problem for problem in description_problems(dataset) if "case a is labelled" in problem]


def test_where_nobody_is_left_a_sentence_says_so(tmp_path: Path) -> None:
    dataset = made(tmp_path, {"a": "unknown", "b": "unknown", "c": "unknown"})
    with pytest.raises(MMCCDError, match=r"no case to train on: 3 cases are of unknown health .*--healthy.*--labels"):
        dataset.training_cases()


@pytest.mark.parametrize("health", [[], "healthy", {"a": "well"}, {"a": None}, {"a": ["healthy"]}, {"a": {}}, 5])
def test_another_entry_is_refused(tmp_path: Path, health: object) -> None:
    with pytest.raises(MMCCDError, match=r"dataset\.json: health must be an object"):
        made(tmp_path, health)


def test_the_check_finds_what_does_not_fit(tmp_path: Path) -> None:
    dataset = made(tmp_path, {"a": "unknown", "nobody": "healthy"}, labels=("a",))
    told = "\n".join(description_problems(dataset))
    assert "health of case a is unknown, but" in told
    assert "health of case nobody, which has no images" in told


def test_slices_of_an_earlier_statement_train_and_calibrate_nothing(preprocessed: Path) -> None:
    assert sorted(load_case_records(preprocessed)) == ["a_1", "a_2", "b_1", "c_1"]
    (preprocessed.parent / "dataset.json").write_text(json.dumps({"health": {"a_1": "unknown", "b_1": "healthy"}}))
    assert sorted(load_case_records(preprocessed)) == ["a_2", "b_1", "c_1"]
