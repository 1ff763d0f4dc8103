"""Labels and brain masks hold the values that they may hold, or are refused with those that were found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import read_label_values
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.labels import LabelValues, read_brain_mask, read_label
from mmccd_auto.imaging.volume import Geometry

GEOMETRY = Geometry((8, 7, 6), (1.0, 1.0, 2.0), (0.0, -3.0, 4.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
NAMED = LabelValues({"background": 0, "core": 1, "oedema": 4, "ignore": 5}, "dataset.json")


@pytest.fixture
def write(tmp_path):
    """Writes a file of zeros with some values in it and returns its path."""

    def write(*values, dtype=np.int16):
        array = np.zeros(GEOMETRY.size[::-1], dtype)
        array.flat[10 : 10 + len(values)] = values
        write_volume(array, GEOMETRY, tmp_path / "a.nii.gz")
        return tmp_path / "a.nii.gz"

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_0_and_1_need_no_explanation(write, dtype):
    label = read_label(write(1, 1, dtype=dtype), LabelValues())
    assert (label.abnormal.dtype, label.abnormal.sum(), label.ignored.sum()) == (bool, 2, 0)
    assert not read_label(write(dtype=dtype), LabelValues()).abnormal.any()


def test_named_values_count_and_what_is_ignored_does_not(write):
    label = read_label(write(1, 4, 4, 5), NAMED)
    assert np.flatnonzero(label.abnormal).tolist() == [10, 11, 12]
    assert np.flatnonzero(label.ignored).tolist() == [13]
    assert np.flatnonzero(label.not_normal().array).tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("values", [(255,), (-1,), (2,), (1, 2, 4)])
def test_values_that_nothing_names(write, values):
    path = write(*values)
    with pytest.raises(MMCCDError) as caught:
        read_label(path, LabelValues())
    unknown = ", ".join(str(value) for value in values if value != 1)
    assert f"{path} holds unknown values ({unknown}; known are 0 background, 1 lesion)" in str(caught.value)
    assert "-djfile" in str(caught.value)
    with pytest.raises(MMCCDError, match=r"holds unknown values \(7; .*4 oedema.*: add them to labels in dataset\.json"):
        read_label(write(7), NAMED)


@pytest.mark.parametrize("read", [lambda path: read_label(path, NAMED), read_brain_mask])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.25, 0.5, 1.0), r"no whole numbers \(such as 0\.25, 0\.5\)"),
        ((1.0, 0.999), r"no whole numbers \(such as 0\.999\)"),
        ((np.nan,), "NaN or infinite"),
        ((np.inf,), "NaN or infinite"),
    ],
)
def test_probabilities_and_what_was_resampled_linearly(write, read, values, words):
    with pytest.raises(MMCCDError, match=words):
        read(write(*values, dtype=np.float32))


def test_rounding_of_a_scaled_file_is_no_fraction(write):
    assert read_label(write(1.00000012, dtype=np.float32), LabelValues()).abnormal.sum() == 1
    assert read_brain_mask(write(0.99999994, dtype=np.float32)).array.sum() == 1


@pytest.mark.parametrize("values", [(1, 1), (255, 255)])
def test_brain_masks_of_two_values(write, values):
    mask = read_brain_mask(write(*values))
    assert mask.array.dtype == np.uint8
    assert np.flatnonzero(mask.array).tolist() == [10, 11]
    assert mask.array.max() == 1


@pytest.mark.parametrize(
    ("values", "shown"), [((1, 2), "0, 1, 2"), ((-1,), "-1, 0"), ((1, 255), "0, 1, 255"), ((3,), "0, 3")]
)
def test_other_values_of_brain_masks(write, values, shown):
    with pytest.raises(MMCCDError, match=rf"holds values other than 0 and 1 \({shown}\)"):
        read_brain_mask(write(*values))


def test_an_empty_brain_mask(write):
    with pytest.raises(MMCCDError, match=r"is empty \(it marks no voxel as brain\)"):
        read_brain_mask(write())


def test_label_values_of_nnu_net(tmp_path):
    content = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    values = read_label_values(tmp_path / "dataset.json")
    assert values.known == {0, 1, 2, 3, 4}
    assert values.ignored == {4}
    for wrong in ({"background": 0, "a": "1"}, {"background": 0, "a": []}, {"a": 1}, [0, 1]):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": wrong}))
        with pytest.raises(MMCCDError, match=r"dataset\.json: labels must"):
            read_label_values(tmp_path / "dataset.json")
