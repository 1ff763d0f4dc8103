"""Scans whose header or values are odd: the map lies where everybody else finds the scan, or the case is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.predictor import Predictor

QUICK = {"sampling_steps": 1, "strip_stride": 8}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    """Quick: one diffusion step, and every pixel hidden once in each direction."""
    return Predictor.from_model_folder(model_folder(), LoadOptions(threshold=1.0, **QUICK))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of the scans."""
    path = tmp_path / "scans"
    path.mkdir()
    return path


def save(scan: Volume, path: Path, array=None, sform=None, codes=(1, 1), pixdim=None) -> np.ndarray:
    """Write a scan by nibabel, with its qform and another sform; returns the affine that nibabel reads from it."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.vstack(
        [np.column_stack([np.diag(scan.geometry.spacing), scan.geometry.origin]), [0, 0, 0, 1]]
    )
    image = nibabel.Nifti1Image((scan.array if array is None else array).T, affine)
    image.set_qform(affine, codes[1])
    image.set_sform(affine if sform is None else sform, codes[0])
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    nibabel.save(image, path)
    return nibabel.load(path).affine


def test_maps_lie_where_nibabel_finds_the_scan(predictor, make_scan, folder, tmp_path):
    scan = make_scan()
    plain = save(scan, folder / "plain_0000.nii.gz")
    moved = plain.copy()
    moved[:3, 3] += [12, -30, 25]
    mirrored = plain @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affines = {
        "plain": plain,
        "moved": save(scan, folder / "moved_0000.nii.gz", sform=moved, codes=(2, 1)),
        "mirrored": save(scan, folder / "mirrored_0000.nii.gz", sform=mirrored, codes=(4, 2)),
        "edges": save(scan, folder / "edges_0000.nii.gz", codes=(1, 0), pixdim=(1.0, 1.0, 1.0)),
        "codes": save(scan, folder / "codes_0000.nii.gz", codes=(0, 0)),
    }
    summary = predictor.predict_folder(folder, tmp_path / "maps")
    assert summary.failed == []
    words = {"moved": "up to 40.9 mm apart", "mirrored": "mm apart", "edges": "1 x 1 x 1 mm (pixdim)", "codes": "are 0)"}
    anomaly = {}
    for case, affine in affines.items():
        for what in ("anomaly", "mask"):
            header = nibabel.load(tmp_path / "maps" / f"{case}_{what}.nii.gz").header
            assert header["sform_code"] > 0
            assert header["qform_code"] > 0
            np.testing.assert_allclose(header.get_sform(), affine, atol=1e-4)
            np.testing.assert_allclose(header.get_qform(), affine, atol=1e-4)
        anomaly[case] = np.asarray(nibabel.load(tmp_path / "maps" / f"{case}_anomaly.nii.gz").dataobj)
        warnings = load_json(tmp_path / "maps" / f"{case}.json")["warnings"]
        told = [warning for warning in warnings if warning.startswith("The header")]
        assert len(told) == (case in words), case
        assert words.get(case, "") in "".join(told)
        assert str(folder) not in str(warnings)
    for case in ("moved", "edges"):
        np.testing.assert_array_equal(anomaly[case], anomaly["plain"])


def test_background_of_nan_gives_the_map_of_a_background_of_0(predictor, make_scan, folder, tmp_path):
    scan = make_scan()
    save(scan, folder / "zero_0000.nii.gz")
    save(scan, folder / "nan_0000.nii.gz", np.where(scan.array == 0, np.float32(np.nan), scan.array))
    assert predictor.predict_folder(folder, tmp_path / "maps").failed == []
    maps = [np.asarray(nibabel.load(tmp_path / "maps" / f"{case}_anomaly.nii.gz").dataobj) for case in ("zero", "nan")]
    np.testing.assert_array_equal(*maps)
    assert np.any(maps[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_lost_voxel_is_told_and_a_lost_slice_refused(predictor, make_scan, folder, tmp_path, value):
    scan = make_scan(size=(66, 78, 14))
    scan = Volume(
        scan.array, type(scan.geometry)(scan.geometry.size, (1.5, 1.7, 3.5), scan.geometry.origin, scan.geometry.direction)
    )
    one, whole = scan.array.copy(), scan.array.copy()
    one[7, 39, 33] = value
    whole[7] = value
    save(scan, folder / "one_0000.nii.gz", one)
    save(scan, folder / "slice_0000.nii.gz", whole)
    summary = predictor.predict_folder(folder, tmp_path / "maps")
    (failed,) = summary.failed
    assert failed.startswith("slice: FLAIR holds ")
    assert "NaN or infinite inside the brain" in failed
    warnings = load_json(tmp_path / "maps" / "one.json")["warnings"]
    assert warnings[0].startswith("1 voxels inside the brain (")
    assert np.isfinite(np.asarray(nibabel.load(tmp_path / "maps" / "one_anomaly.nii.gz").dataobj)).all()


def test_arrays_follow_the_same_rules(predictor, make_scan):
    scan = make_scan()
    expected = predictor.predict_arrays(scan.array, scan.geometry.spacing).anomaly
    outside = np.where(scan.array == 0, np.float32(np.nan), scan.array)
    np.testing.assert_array_equal(predictor.predict_arrays(outside, scan.geometry.spacing).anomaly, expected)
    mask = scan.array > 0
    for good in (mask, mask.astype(np.float32), mask.astype(np.uint8) * 255):
        predictor.predict_arrays(scan.array, scan.geometry.spacing, brain_mask=good)
    for bad, words in ((mask * 0.5, "no whole numbers"), (mask * 2, "other than 0 and 1"), (~mask & mask, "is empty")):
        with pytest.raises(MMCCDError, match=words):
            predictor.predict_arrays(scan.array, scan.geometry.spacing, brain_mask=bad)
    with pytest.raises(MMCCDError, match="complex numbers"):
        predictor.predict_arrays(scan.array * np.complex64(1), scan.geometry.spacing)
    with pytest.raises(MMCCDError, match="which no scan of a head has"):
        predictor.predict_arrays(scan.array, (450.0, 500.0, 700.0))


def test_probabilities_are_no_brain_mask(predictor, make_scan, folder, tmp_path):
    scan = make_scan()
    save(scan, folder / "a_0000.nii.gz")
    write_volume(np.clip(scan.array / 500, 0, 1).astype(np.float32), scan.geometry, tmp_path / "masks" / "a.nii.gz")
    (failed,) = predictor.predict_folder(folder, tmp_path / "maps", OutputOptions(brain_masks=tmp_path / "masks")).failed
    assert f"{tmp_path / 'masks' / 'a.nii.gz'} holds values that are no whole numbers" in failed


def test_what_is_no_file_fails_alone_and_by_name(predictor, make_scan, folder, tmp_path):
    save(make_scan(), folder / "good_0000.nii.gz")
    (folder / "annexed_0000.nii.gz").symlink_to("../.git/annex/objects/x")
    (folder / "loop_0000.nii.gz").symlink_to("loop_0000.nii.gz")
    os.mkfifo(folder / "pipe_0000.nii.gz")
    (folder / "empty_0000.nii.gz").touch()
    summary = predictor.predict_folder(folder, tmp_path / "maps")
    assert (tmp_path / "maps" / "good_anomaly.nii.gz").is_file()
    annexed, empty = summary.failed
    assert "annexed_0000.nii.gz is a link to a file" in annexed
    assert "empty_0000.nii.gz is empty (0 bytes)" in empty
