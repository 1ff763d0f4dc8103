"""Slices on disk: what is written is read, and CASE.json marks what is complete."""

from __future__ import annotations

import dataclasses
import errno
import json

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.preprocessing.preprocess_case import CaseGeometry, PreprocessedCase
from mmccd_auto.preprocessing.slices import (
    FORMAT_VERSION,
    CaseRecord,
    load_case_records,
    read_slice,
    read_slices,
    write_case,
)


@pytest.fixture
def preprocessed() -> PreprocessedCase:
    """20 slices of 16 x 16 px; a brain in slices 2..17 whose first slice is small, and an abnormality in slice 9."""
    generator = np.random.default_rng(0)
    brain = np.zeros((20, 16, 16), dtype=bool)
    brain[3:18, 2:14, 2:14] = True
    brain[2, 6:9, 6:9] = True
    anomaly = np.zeros(brain.shape, dtype=np.uint8)
    anomaly[9, 5:7, 5:8] = 1
    image = np.where(brain, generator.normal(size=(2, *brain.shape)), -3).astype(np.float32)
    geometry = Geometry((16, 16, 20), (4.0, 4.0, 5.0), (0.0, 1.0, 2.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    return PreprocessedCase(
        case="case_0000_1",
        modalities=("FLAIR", "T1"),
        image=image,
        brain=brain,
        anomaly=anomaly,
        geometry=CaseGeometry(geometry, geometry, "axial", geometry),
        native_brain=brain,
        normalisation={"FLAIR": {"shift": 1.5, "scale": 2.0, "upper": 15.0}, "T1": {"shift": 0.0, "scale": 1.0}},
    )


def test_what_is_written_is_read(tmp_path, preprocessed: PreprocessedCase) -> None:
    record = write_case(tmp_path, preprocessed, subject="person", settings={"patch_size": [16, 16]}, sources={"a": (5, 7)})
    assert [item.index for item in record.slices] == list(range(2, 18))
    assert CaseRecord.load(tmp_path / "case_0000_1.json") == record
    for item in record.slices:
        image, brain, anomaly = read_slice(tmp_path / item.file)
        assert image.dtype == np.float32
        assert np.array_equal(image, preprocessed.image[:, item.index])
        assert np.array_equal(brain, preprocessed.brain[item.index])
        assert np.array_equal(anomaly, preprocessed.anomaly[item.index])
        assert (item.brain_pixels, item.anomaly_pixels) == (brain.sum(), anomaly.sum())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case_0000_1", "case_0000_1.json"]
    assert load_case_records(tmp_path) == {"case_0000_1": record}


def test_slices_with_little_brain_and_around_abnormalities_are_not_healthy(tmp_path, preprocessed: PreprocessedCase) -> None:
    record = write_case(tmp_path, preprocessed)
    assert [item.index for item in record.slices if item.healthy] == [3, 4, 5, 6, 12, 13, 14, 15, 16, 17]


def test_without_label_every_large_slice_is_healthy(tmp_path, preprocessed: PreprocessedCase) -> None:
    record = write_case(tmp_path, dataclasses.replace(preprocessed, anomaly=None))
    assert not record.labelled
    assert [item.index for item in record.slices if item.healthy] == list(range(3, 18))
    assert not read_slice(tmp_path / record.slices[0].file)[2].any()


def test_several_slices_are_stacked_in_the_asked_order(tmp_path, preprocessed: PreprocessedCase) -> None:
    record = write_case(tmp_path, preprocessed)
    image, brain, anomaly = read_slices(tmp_path, record, [9, 4])
    assert np.array_equal(image, preprocessed.image[:, [9, 4]])
    assert np.array_equal(brain, preprocessed.brain[[9, 4]])
    assert np.array_equal(anomaly, preprocessed.anomaly[[9, 4]])
    assert read_slices(tmp_path, record)[0].shape == (2, 16, 16, 16)


def test_writing_again_replaces_what_was_there(tmp_path, preprocessed: PreprocessedCase) -> None:
    write_case(tmp_path, preprocessed)
    smaller = preprocessed.brain.copy()
    smaller[:6] = False
    write_case(tmp_path, dataclasses.replace(preprocessed, brain=smaller))
    assert len(list((tmp_path / "case_0000_1").glob("slice_*.npz"))) == 12


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path, preprocessed: PreprocessedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path, preprocessed)
    written = []

    def write(file, array, **options):
        written.append(file)
        if len(written) == 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(b"x")

    monkeypatch.setattr(np.lib.format, "write_array", write)
    with pytest.raises(
        MMCCDError, match=r"case_0000_1 could not be written \(No space left on device\): free some disk space"
    ):
        write_case(tmp_path, preprocessed)
    assert load_case_records(tmp_path) == {}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("damage", [b"", b"not a zip file", "cut"])
def test_broken_slices_are_named(tmp_path, preprocessed: PreprocessedCase, damage) -> None:
    path = tmp_path / write_case(tmp_path, preprocessed).slices[3].file
    path.write_bytes(path.read_bytes()[:200] if damage == "cut" else damage)
    with pytest.raises(MMCCDError, match=r"slice_0005\.npz can't be read as a preprocessed slice"):
        read_slice(path)


def test_a_slice_of_which_any_byte_is_damaged_is_read_as_it_was_or_named(tmp_path, preprocessed: PreprocessedCase) -> None:
    path = tmp_path / write_case(tmp_path, preprocessed).slices[3].file
    good, arrays = path.read_bytes(), read_slice(path)
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(good), 300):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            found = read_slice(path)
        except MMCCDError as error:
            assert "can't be read as a preprocessed slice" in str(error)  # noqa: PT017
            refused += 1
        else:
            assert all(np.array_equal(one, other) for one, other in zip(found, arrays, strict=True))
    assert refused > 200


def test_slices_with_pickles_are_refused(tmp_path) -> None:
    path = tmp_path / "slice_0000.npz"
    np.savez_compressed(path, image=np.array([{"a": 1}], dtype=object), brain=np.zeros(1), anomaly=np.zeros(1))
    with pytest.raises(MMCCDError, match="can't be read"):
        read_slice(path)


def test_a_broken_record_is_named(tmp_path, preprocessed: PreprocessedCase) -> None:
    write_case(tmp_path, preprocessed)
    path = tmp_path / "case_0000_1.json"
    content = json.loads(path.read_text())
    del content["geometry"]["grid"]
    path.write_text(json.dumps(content))
    with pytest.raises(MMCCDError, match=r"case_0000_1\.json.*grid"):
        load_case_records(tmp_path)


@pytest.mark.parametrize("mixed", [False, True])
def test_slices_of_another_version_are_refused(tmp_path, preprocessed: PreprocessedCase, mixed: bool) -> None:
    """Scans to predict no longer go through what made them."""
    write_case(tmp_path, preprocessed, settings={"format": FORMAT_VERSION - 1})
    if mixed:
        write_case(tmp_path, dataclasses.replace(preprocessed, case="new"), settings={"format": FORMAT_VERSION})
    with pytest.raises(MMCCDError, match=r"another version.*\(case_0000_1\): run mmccd_plan_and_preprocess"):
        load_case_records(tmp_path)
