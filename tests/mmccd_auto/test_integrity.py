"""The integrity check names every fault with its file; a sound dataset has none."""

from __future__ import annotations

import json
import logging
import shutil

import nibabel
import numpy as np
import pytest

from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GEOMETRY = Geometry((8, 7, 6), (1.0, 1.0, 2.0), (0.0, -3.0, 4.0), IDENTITY)
MODALITIES = ("FLAIR", "T1", "T2")


class Builder:
    """A small sound dataset (training cases a, b_0000, c; test case t) to put faults into."""

    def __init__(self, folder):
        self.folder = folder
        self.random = np.random.default_rng(0)
        self.content = {
            "channel_names": {str(index): name for index, name in enumerate(MODALITIES)},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": 3,
            "file_ending": ".nii.gz",
            "subjects": {"a": "one", "b_0000": "two", "c": "one", "t": "three"},
        }
        for case, split in (("a", "Tr"), ("b_0000", "Tr"), ("c", "Tr"), ("t", "Ts")):
            for channel in range(len(MODALITIES)):
                self.volume(f"images{split}/{case}_{channel:04d}")
        self.label("labelsTr/a")
        self.label("labelsTs/t")
        self.label("brain_masksTr/c")

    def volume(self, name, array=None, geometry=GEOMETRY):
        if array is None:
            array = self.random.normal(size=geometry.size[::-1]).astype(np.float32)
        write_volume(array, geometry, self.folder / f"{name}.nii.gz")

    def label(self, name, value=1, geometry=GEOMETRY):
        array = np.zeros(geometry.size[::-1], np.float32 if value != int(value) else np.int16)
        array[2:4, 2:4] = value
        self.volume(name, array, geometry)

    def array(self, name):
        return read_volume(self.folder / f"{name}.nii.gz").array

    def problems(self, processes=0):
        (self.folder / "dataset.json").write_text(json.dumps(self.content))
        return verify_dataset(load_dataset(self.folder), processes)

    def only_problem(self):
        problems = self.problems()
        assert len(problems) == 1, problems
        assert problems[0].startswith(str(self.folder))
        assert "\n" not in problems[0]
        return problems[0].removeprefix(f"{self.folder}/")


@pytest.fixture
def dataset(tmp_path):
    return Builder(tmp_path / "Dataset001_Small")


def test_sound_dataset_has_no_problems(dataset):
    (dataset.folder / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"macOS")
    (dataset.folder / "labelsTr" / ".DS_Store").touch()
    assert dataset.problems() == []


def test_truncated_image(dataset):
    path = dataset.folder / "imagesTr" / "a_0001.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    assert dataset.only_problem().startswith("imagesTr/a_0001.nii.gz is truncated")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(dataset, value):
    array = dataset.array("imagesTr/a_0001")
    array[0, 0, :2] = value
    dataset.volume("imagesTr/a_0001", array)
    assert dataset.only_problem().startswith("imagesTr/a_0001.nii.gz holds 2 voxels that are NaN or infinite")


def test_not_finite_around_the_brain_is_fine(dataset):
    array = np.zeros(GEOMETRY.size[::-1], np.float32)
    array[1:5, 1:6, 1:7] = dataset.random.uniform(90, 110, size=(4, 5, 6))
    dataset.volume("imagesTr/a_0001", np.where(array == 0, np.float32(np.nan), array))
    assert dataset.problems() == []


def test_headers_that_disagree_are_warned_of(dataset, caplog):
    path = dataset.folder / "imagesTr" / "a_0001.nii.gz"
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += 30
    image.set_qform(moved, 1)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    with caplog.at_level(logging.WARNING):
        assert dataset.problems() == []
    assert f"{path}: The header's sform and qform place the scan up to 52.0 mm apart" in caplog.text


@pytest.mark.parametrize("name", ["imagesTr/a_0001", "labelsTr/a", "brain_masksTr/c", "labelsTs/t"])
def test_complex_numbers(dataset, name):
    path = dataset.folder / f"{name}.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj).astype(np.complex64), image.affine), path)
    assert dataset.only_problem().startswith(f"{name}.nii.gz holds complex numbers")


def test_labels_and_masks_of_probabilities(dataset):
    for name in ("labelsTr/a", "brain_masksTr/c"):
        dataset.volume(name, dataset.random.uniform(0, 1, size=GEOMETRY.size[::-1]).astype(np.float32))
    problems = dataset.problems()
    assert len(problems) == 2
    assert all("holds values that are no whole numbers" in problem for problem in problems)


def test_constant_images(dataset):
    for name in ("imagesTr/a_0000", "imagesTr/b_0000_0001"):
        dataset.volume(name, np.full((6, 7, 8), 5, np.int16))
    problems = dataset.problems()
    assert len(problems) == 2
    assert "a_0000.nii.gz is constant (every voxel is 5)" in problems[0]
    assert "b_0000_0001.nii.gz is constant" in problems[1]


@pytest.mark.parametrize("name", ["imagesTr/a_0002", "labelsTr/a", "labelsTs/t", "brain_masksTr/c"])
def test_other_grid(dataset, name):
    moved = Geometry(GEOMETRY.size, GEOMETRY.spacing, (0.0, -3.0, 5.0), IDENTITY)
    if name.startswith("images"):
        dataset.volume(name, geometry=moved)
    else:
        dataset.label(name, geometry=moved)
    problem = dataset.only_problem()
    assert problem.startswith(f"{name}.nii.gz is not on the grid of")
    assert "origin (0.0, -3.0, 5.0) against (0.0, -3.0, 4.0)" in problem


def test_other_size(dataset):
    dataset.label("labelsTr/a", geometry=Geometry((8, 7, 5), GEOMETRY.spacing, GEOMETRY.origin, IDENTITY))
    assert "size (8, 7, 5) against (8, 7, 6)" in dataset.only_problem()


def test_minus_zero_and_rounding_are_one_grid(dataset):
    direction = tuple(-0.0 if value == 0 else value for value in IDENTITY)
    dataset.label("labelsTr/a", geometry=Geometry(GEOMETRY.size, GEOMETRY.spacing, (-0.0, -3.00001, 4.0), direction))
    assert dataset.problems() == []


def test_missing_channel_of_a_training_case(dataset):
    (dataset.folder / "imagesTr" / "a_0001.nii.gz").unlink()
    assert dataset.only_problem().startswith("imagesTr/a_0001.nii.gz is missing (T1 of case a)")


def test_declared_missing_channel_is_accepted(dataset):
    (dataset.folder / "imagesTr" / "a_0001.nii.gz").unlink()
    dataset.content["missing_channels"] = {"a": ["T1"]}
    assert dataset.problems() == []


def test_case_with_one_modality_cannot_be_trained_on(dataset):
    for channel in (1, 2):
        (dataset.folder / "imagesTr" / f"a_000{channel}.nii.gz").unlink()
    dataset.content["missing_channels"] = {"a": ["T1", "T2"]}
    assert dataset.only_problem().startswith("imagesTr/a_0000.nii.gz is the only scan of case a")


def test_test_case_needs_one_modality_only(dataset):
    for channel in (1, 2):
        (dataset.folder / "imagesTs" / f"t_000{channel}.nii.gz").unlink()
    assert dataset.problems() == []


@pytest.mark.parametrize("declared", [["a"], {"a": "T1"}, {"a": ["PD"]}])
def test_malformed_missing_channels(dataset, declared):
    dataset.content["missing_channels"] = declared
    assert dataset.only_problem().startswith("dataset.json: missing_channels must be an object")


def test_unknown_label_values(dataset):
    dataset.label("labelsTr/a", 4)
    problem = dataset.only_problem()
    assert problem.startswith("labelsTr/a.nii.gz holds unknown values (4; known are 0 background, 1 lesion)")
    dataset.content["labels"]["oedema"] = 4
    assert dataset.problems() == []


def test_interpolated_label(dataset):
    dataset.label("labelsTr/a", 0.5)
    assert dataset.only_problem().startswith("labelsTr/a.nii.gz holds values that are no whole numbers (such as 0.5)")


def test_whole_numbers_stored_as_floats_are_fine(dataset):
    dataset.volume("labelsTr/a", (dataset.array("labelsTr/a")).astype(np.float64))
    assert dataset.problems() == []


@pytest.mark.parametrize(("value", "words"), [(0, "marks no voxel"), (1, "marks every voxel"), (3, "other than 0 and 1")])
def test_useless_brain_mask(dataset, value, words):
    dataset.volume("brain_masksTr/c", np.full((6, 7, 8), value, np.uint8))
    problem = dataset.only_problem()
    assert problem.startswith("brain_masksTr/c.nii.gz")
    assert words in problem


@pytest.mark.parametrize("number", [None, 4, "3"])
def test_number_of_training_cases(dataset, number):
    dataset.content["numTraining"] = number
    assert dataset.only_problem().startswith("dataset.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagesTr/x.nii.gz", "call it x_0000.nii.gz if it is FLAIR, x_0001.nii.gz if it is T1"),
        ("imagesTr/x_t1.nii.gz", "call it x_0001.nii.gz (T1)"),
        ("imagesTr/FLAIR-x.nii.gz", "call it x_0000.nii.gz (FLAIR)"),
        (
            "imagesTr/x_0123.nii.gz",
            "channel number 0123, but dataset.json names 0000 to 0002 only: call it x_0123_0000.nii.gz",
        ),
        ("imagesTr/x_0000.nii", "convert it to x_0000.nii.gz"),
        ("imagesTr/readme.txt", "is not an image ending in .nii.gz"),
        ("imagesTr/more/x_0000.nii.gz", "is a folder"),
        ("labelsTr/a_0000.nii.gz", "which a label doesn't: call it a.nii.gz"),
        ("labelsTr/x.nii.gz", "is a label without images"),
        ("labelsTs/a.nii.gz", "is a label without images"),
        ("brain_masksTr/x.nii.gz", "is a brain mask without images"),
    ],
)
def test_misnamed_files_are_told_their_name(dataset, name, words):
    (dataset.folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(dataset.folder / "labelsTr" / "a.nii.gz", dataset.folder / name)
    problem = dataset.only_problem()
    assert problem.startswith("/".join(name.split("/")[:2]))
    assert words in problem


def test_subject_of_an_unknown_case(dataset):
    dataset.content["subjects"]["b"] = "two"
    assert dataset.only_problem().startswith("dataset.json names a subject for case b, which has no images")


def test_person_in_training_and_test(dataset):
    dataset.content["subjects"]["t"] = "two"
    problem = dataset.only_problem()
    assert "training case b_0000 and test case t the same subject two" in problem


def test_case_in_training_and_test(dataset):
    for channel in range(3):
        shutil.copy(dataset.folder / f"imagesTr/a_000{channel}.nii.gz", dataset.folder / f"imagesTs/a_000{channel}.nii.gz")
    assert dataset.only_problem().startswith("imagesTs/a_*.nii.gz has the name of a training case")


def test_one_image_under_two_people(dataset):
    dataset.volume("imagesTr/b_0000_0000", dataset.array("imagesTr/a_0000").astype(np.float64))
    problem = dataset.only_problem()
    assert problem.startswith("imagesTr/b_0000_0000.nii.gz holds the same voxels as")
    assert "imagesTr/a_0000.nii.gz" in problem


def test_one_image_in_training_and_test(dataset):
    dataset.volume("imagesTs/t_0000", dataset.array("imagesTr/a_0000"))
    assert dataset.only_problem().startswith("imagesTs/t_0000.nii.gz holds the same voxels as")


def test_one_image_twice_of_one_person_is_no_leak(dataset):
    dataset.volume("imagesTr/c_0000", dataset.array("imagesTr/a_0000"))
    assert dataset.problems() == []


def test_one_image_as_two_modalities(dataset):
    dataset.volume("imagesTr/a_0001", dataset.array("imagesTr/a_0000"))
    assert "put the scan of the right modality there" in dataset.only_problem()


def test_dataset_without_cases(dataset):
    shutil.rmtree(dataset.folder / "imagesTr")
    assert any("imagesTr holds no case" in problem for problem in dataset.problems())


def test_every_problem_is_listed_whatever_the_number_of_processes(dataset):
    dataset.content["numTraining"] = 9
    dataset.label("labelsTr/a", 7)
    dataset.volume("imagesTr/b_0000_0000", np.zeros((6, 7, 8), np.float32))
    (dataset.folder / "imagesTs" / "t_0001.nii.gz").write_bytes(b"")
    (dataset.folder / "imagesTr" / "x.nii.gz").write_bytes(b"")
    problems = dataset.problems(0)
    assert len(problems) == 5
    assert all(problem.startswith(str(dataset.folder)) for problem in problems)
    assert dataset.problems(2) == problems


@pytest.mark.real_data
def test_real_dataset_is_sound(real_data):
    assert verify_dataset(load_dataset(real_data / "Dataset001_RealBrain"), 2) == []
