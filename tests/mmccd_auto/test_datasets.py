"""Datasets in nnU-Net's naming: case ids, files, numbers, and one clear sentence for each fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import find_dataset, list_datasets, load_dataset, split_case_and_channel

CONTENT = {
    "channel_names": {"0": "FLAIR", "1": "T1", "2": "T2"},
    "labels": {"background": 0, "lesion": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def write_dataset(folder: Path, files: tuple[str, ...] = (), **changes) -> Path:
    """A dataset of empty files; a change to None removes the entry."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: value for name, value in (CONTENT | changes).items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BraTS2021_00006_0000.nii.gz", ("BraTS2021_00006", 0)),
        ("BraTS2021_00006_0000_0001.nii.gz", ("BraTS2021_00006_0000", 1)),
        ("a_0012.nii.gz", ("a", 12)),
        ("sub-01.session_2_0002.nii.gz", ("sub-01.session_2", 2)),
    ],
)
def test_channel_is_the_last_group_of_four_digits(name, expected):
    assert split_case_and_channel(name, ".nii.gz") == expected


@given(case=st.from_regex(r"\A[\w.-]{1,30}\Z"), channel=st.integers(0, 9999))
def test_split_undoes_naming(case, channel):
    assert split_case_and_channel(f"{case}_{channel:04d}.nii.gz", ".nii.gz") == (case, channel)


@pytest.mark.parametrize(
    "name", ["case.nii.gz", "case_000.nii.gz", "case_00000.nii.gz", "case_0000.nii", "_0000.nii.gz", "case_0000xnii.gz"]
)
def test_other_names_are_refused_with_the_right_form(name):
    with pytest.raises(MMCCDError, match=r"CASE_0000\.nii\.gz"):
        split_case_and_channel(name, ".nii.gz")


def test_cases_channels_labels_and_masks(tmp_path):
    folder = write_dataset(
        tmp_path / "Dataset007_Small",
        (
            "imagesTr/b_0000.nii.gz",
            "imagesTr/b_0002.nii.gz",
            "imagesTr/a_0000_0000.nii.gz",
            "imagesTr/a_0000_0001.nii.gz",
            "imagesTr/a_0001.nii.gz",
            "imagesTr/._a_0000.nii.gz",
            "imagesTr/notes.txt",
            "imagesTr/c_0003.nii.gz",
            "imagesTs/d_0001.nii.gz",
            "labelsTr/a_0000.nii.gz",
            "brain_masksTr/b.nii.gz",
        ),
    )
    dataset = load_dataset(folder)
    assert dataset.name == "Dataset007_Small"
    assert dataset.modalities == ("FLAIR", "T1", "T2")
    assert dataset.cases() == ["a", "a_0000", "b"]
    assert dataset.cases("Ts") == ["d"]
    assert dataset.available_modalities("b") == ("FLAIR", "T2")
    assert dataset.available_modalities("a") == ("T1",)
    assert dataset.available_modalities("a_0000") == ("FLAIR", "T1")
    assert dataset.available_modalities("d", "Ts") == ("T1",)
    assert dataset.channel_file("b", "T2") == folder / "imagesTr" / "b_0002.nii.gz"
    assert dataset.label_file("a_0000") == folder / "labelsTr" / "a_0000.nii.gz"
    assert dataset.label_file("a") is None
    assert dataset.label_file("d", "Ts") is None
    assert dataset.brain_mask_file("b") == folder / "brain_masksTr" / "b.nii.gz"
    assert dataset.brain_mask_file("a") is None
    with pytest.raises(MMCCDError, match="no modality PD"):
        dataset.channel_file("a", "PD")


def test_dataset_without_folders_has_no_cases(tmp_path):
    assert load_dataset(write_dataset(tmp_path / "Dataset001_Empty")).cases("Tr") == []


def test_optional_entries_have_defaults(tmp_path):
    dataset = load_dataset(write_dataset(tmp_path / "Dataset001_A", labels=None, file_ending=None, numTraining=None))
    assert dataset.labels == {"background": 0, "lesion": 1}
    assert dataset.file_ending == ".nii.gz"


def test_subjects_from_both_places(tmp_path):
    folder = write_dataset(
        tmp_path / "Dataset001_A",
        subjects={"a": "person1", "b": 17},
        cases={"c": {"subject": "person1", "split": "Tr"}, "d": {"split": "Tr"}, "a": {"subject": "person1"}},
    )
    dataset = load_dataset(folder)
    assert [dataset.subject(case) for case in "abcd"] == ["person1", "17", "person1", "d"]


def test_contradicting_subjects_are_refused(tmp_path):
    folder = write_dataset(tmp_path / "Dataset001_A", subjects={"a": "one"}, cases={"a": {"subject": "two"}})
    with pytest.raises(MMCCDError, match="two subjects for case a"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_names": None}, "no object channel_names"),
        ({"channel_names": ["FLAIR", "T1"]}, "no object channel_names"),
        ({"channel_names": {"0": "FLAIR"}}, "two or more"),
        ({"channel_names": {}}, "two or more"),
        ({"channel_names": {"0": "FLAIR", "2": "T1"}}, "without a gap"),
        ({"channel_names": {"0": "T1", "1": "t1"}}, "two channels"),
        ({"channel_names": {"0": "T1", "1": "../T2"}}, "folder names"),
        ({"channel_names": {"0": "T1", "1": "T2__b"}}, "folder names"),
        ({"channel_names": {"0": "T1", "1": 2}}, "folder names"),
        ({"labels": {"background": 0, "lesion": [1, 2]}}, "whole numbers"),
        ({"labels": {"background": 0, "lesion": True}}, "whole numbers"),
        ({"labels": {"lesion": 1}}, "background the value 0"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "background the value 0"),
        ({"file_ending": "nii.gz"}, "file_ending"),
        ({"subjects": ["a"]}, "subjects must be"),
        ({"subjects": {"a": None}}, "subjects must be"),
        ({"cases": {"a": {"subject": []}}}, "subject of case a"),
    ],
)
def test_faults_of_dataset_json_are_one_sentence_with_the_file(tmp_path, changes, words):
    folder = write_dataset(tmp_path / "Dataset001_A", **changes)
    with pytest.raises(MMCCDError, match=words) as caught:
        load_dataset(folder)
    assert str(caught.value).startswith(str(folder / "dataset.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("[]", "must be an object"), ("{", "not valid JSON")])
def test_broken_dataset_json(tmp_path, text, words):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(MMCCDError, match=words):
        load_dataset(tmp_path)


def test_missing_dataset_json_names_the_file_and_the_documentation(tmp_path):
    with pytest.raises(MMCCDError, match=r"dataset\.json does not exist.*dataset_format"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("identifier", [2, "2", "002", "Dataset002", "Dataset002_Brain", "Brain"])
def test_dataset_is_found_by_number_or_name(tmp_path, identifier):
    for name in ("Dataset001_Other", "Dataset002_Brain", "Dataset0022_Third", "notes"):
        (tmp_path / name).mkdir()
    assert find_dataset(tmp_path, identifier) == tmp_path / "Dataset002_Brain"


def test_unknown_dataset_lists_what_exists(tmp_path):
    (tmp_path / "Dataset001_Other").mkdir()
    with pytest.raises(MMCCDError, match=r"no dataset 5.*Dataset001_Other"):
        find_dataset(tmp_path, 5)


def test_empty_and_missing_raw_folder(tmp_path):
    with pytest.raises(MMCCDError, match="no folder DatasetXXX_Name"):
        find_dataset(tmp_path, 1)
    with pytest.raises(MMCCDError, match=r"does not exist.*mmccd_raw"):
        find_dataset(tmp_path / "nothing", 1)
    assert list_datasets(tmp_path / "nothing") == []


def test_two_datasets_of_one_number_need_the_full_name(tmp_path):
    for name in ("Dataset003_A", "Dataset003_B"):
        (tmp_path / name).mkdir()
    with pytest.raises(MMCCDError, match=r"Dataset003_A, Dataset003_B.*full name"):
        find_dataset(tmp_path, 3)
    assert find_dataset(tmp_path, "Dataset003_B").name == "Dataset003_B"


def test_datasets_are_listed_by_number(tmp_path):
    for name in ("Dataset1000_D", "Dataset002_B", "Dataset010_C", "Dataset_no_number"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dataset004_file").touch()
    assert [folder.name for folder in list_datasets(tmp_path)] == ["Dataset002_B", "Dataset010_C", "Dataset1000_D"]


@pytest.mark.real_data
def test_real_dataset_is_read(real_data):
    dataset = load_dataset(find_dataset(real_data, 1))
    assert dataset.modalities == ("FLAIR", "T1", "T2")
    assert len(dataset.cases("Tr")) == 7
    assert dataset.subject("MS_patient26") == "Lesjak_cross_26"
