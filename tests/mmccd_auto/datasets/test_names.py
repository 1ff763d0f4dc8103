"""Misnamed files of a raw dataset: each gets the name that it should have."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.files import save_json
from mmccd_auto.datasets.dataset import Dataset, load_dataset
from mmccd_auto.datasets.names import naming_problems


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "Dataset001_Names"
    (folder / "imagesTr").mkdir(parents=True)
    for name in ("a_0000.nii.gz", "a_0001.nii.gz"):
        (folder / "imagesTr" / name).write_bytes(b"only its name is looked at")
    save_json(
        {
            "channel_names": {"0": "FLAIR", "1": "T1"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": 1,
            "file_ending": ".nii.gz",
        },
        folder / "dataset.json",
    )
    return load_dataset(folder)


def test_a_dataset_named_as_it_should_be_has_no_problem(dataset: Dataset) -> None:
    assert naming_problems(dataset, "Tr") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b_flair.nii.gz", "has no channel number (_0000 and so on): call it b_0000.nii.gz (FLAIR)."),
        ("t1-b.nii.gz", "call it b_0001.nii.gz (T1)."),
        ("b.nii.gz", "call it b_0000.nii.gz if it is FLAIR, b_0001.nii.gz if it is T1."),
        ("b_0007.nii.gz", "has the channel number 0007, but dataset.json names 0000 to 0001 only"),
        ("b_0000.nrrd", "ends in .nrrd, not in .nii.gz: convert it to b_0000.nii.gz"),
        ("notes.txt", "is not an image ending in .nii.gz: move it elsewhere."),
    ],
)
def test_a_misnamed_image_gets_its_name(dataset: Dataset, name: str, words: str) -> None:
    path = dataset.images_folder("Tr") / name
    path.write_bytes(b"")
    (problem,) = naming_problems(dataset, "Tr")
    assert problem.startswith(f"{path} ")
    assert words in problem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_0000.nii.gz", "has a channel number, which a label doesn't: call it a.nii.gz."),
        ("nobody.nii.gz", "is a label without images: add "),
    ],
)
def test_a_label_must_be_named_by_its_case(dataset: Dataset, name: str, words: str) -> None:
    folder = dataset.labels_folder("Tr")
    folder.mkdir()
    (folder / "a.nii.gz").write_bytes(b"")
    (folder / name).write_bytes(b"")
    (problem,) = naming_problems(dataset, "Tr")
    assert words in problem
