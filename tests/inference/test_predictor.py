"""Predictions through the Predictor: geometry, files, failures, continuing."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from matplotlib.figure import Figure
from matplotlib.image import imread
from tqdm import TMonitor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction import folder_prediction, folder_run
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.preprocessing.brain_extraction import STRIPPED, BrainExtraction

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "IS")) for letters in itertools.product(*axes)
]

QUICK = {"sampling_steps": 1, "strip_stride": 8}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    """Quick: one diffusion step, and every pixel hidden once in each direction."""
    return Predictor.from_model_folder(model_folder(), LoadOptions(threshold=1.0, **QUICK))


def files_of(folder: Path) -> dict[str, object]:
    """Voxels and JSON (without the time it took) of every file of a finished run, by name; pictures by their presence."""
    found: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            content = load_json(path).items()
            found[path.name] = {name: value for name, value in content if name not in ("seconds", "record_sha256")}
        elif path.name.endswith(".nii.gz"):
            volume = read_volume(path, dtype=None)
            found[path.name] = (volume.array.tobytes(), str(volume.array.dtype), volume.geometry)
        elif path.suffix == ".csv":
            found[path.name] = pd.read_csv(path).drop(columns=["seconds", "status"], errors="ignore").to_csv()
        else:
            found[path.name] = path.stat().st_size > 0
    return found


def test_a_scan_in_any_of_48_orientations_gives_one_map(predictor, make_scan):
    scan = make_scan()
    expected = predictor.predict_volume(scan).anomaly
    assert expected.max() > 0.1
    assert len(set(ORIENTATIONS)) == 48
    for orientation in ORIENTATIONS:
        turned = Volume.from_image(sitk.DICOMOrient(scan.to_image(), orientation))
        prediction = predictor.predict_volume(turned)
        assert prediction.geometry == turned.geometry
        back = sitk.DICOMOrient(Volume(prediction.anomaly, prediction.geometry).to_image(), "LPS")
        assert Geometry.of(back).differences(scan.geometry) == []
        np.testing.assert_allclose(sitk.GetArrayFromImage(back), expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_an_oblique_scan_gives_the_same_map_on_its_own_grid(predictor, make_scan, tmp_path):
    scan = make_scan()
    angle, tilt = np.deg2rad(17), np.deg2rad(-9)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    geometry = Geometry(scan.geometry.size, scan.geometry.spacing, (3.25, -71.5, 40.125), tuple((about_z @ about_x).ravel()))
    prediction = predictor.predict_volume(Volume(scan.array, geometry))
    np.testing.assert_allclose(prediction.anomaly, predictor.predict_volume(scan).anomaly, rtol=1e-4, atol=1e-5)
    assert prediction.geometry == geometry

    write_volume(scan.array, geometry, tmp_path / "in" / "oblique.nii.gz")
    predictor.predict_folder(tmp_path / "in", tmp_path / "out")
    image = sitk.ReadImage(str(tmp_path / "in" / "oblique.nii.gz"))
    for name in ("oblique_anomaly.nii.gz", "oblique_mask.nii.gz"):
        written = sitk.ReadImage(str(tmp_path / "out" / name))
        assert written.GetSize() == image.GetSize()
        for getter in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(written, getter)(), getattr(image, getter)(), rtol=0, atol=1e-5)


def test_maps_are_zero_outside_the_brain_and_the_mask_is_where_the_score_is_above_the_threshold(predictor, make_scan):
    scan = make_scan()
    prediction = predictor.predict_volume(scan)
    np.testing.assert_array_equal(prediction.brain, scan.array > 0)
    assert (prediction.anomaly[~prediction.brain] == 0).all()
    assert (prediction.signed[~prediction.brain] == 0).all()
    assert (prediction.cycle[~prediction.brain] == -3).all()
    assert prediction.anomaly.dtype == np.float32
    assert prediction.mask.dtype == np.uint8
    np.testing.assert_array_equal(prediction.mask, prediction.anomaly > 1.0)
    assert 0 < prediction.mask.sum() < prediction.brain.sum()


def test_arrays_give_what_a_volume_with_that_spacing_gives(predictor, make_scan):
    scan = make_scan()
    from_arrays = predictor.predict_arrays(scan.array, scan.geometry.spacing, case="a")
    np.testing.assert_allclose(from_arrays.anomaly, predictor.predict_volume(scan, "a").anomaly, rtol=1e-4, atol=1e-5)
    assert from_arrays.geometry.spacing == scan.geometry.spacing
    with pytest.raises(MMCCDError, match="3D"):
        predictor.predict_arrays(scan.array[0], scan.geometry.spacing)
    for spacing in ((1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(MMCCDError, match="three numbers above 0 mm"):
            predictor.predict_arrays(scan.array, spacing)
    mask = np.where(scan.array > 0, 1.0, np.nan)
    with pytest.raises(MMCCDError, match="brain mask holds NaN or infinite values"):
        predictor.predict_arrays(scan.array, scan.geometry.spacing, brain_mask=mask)


def test_one_scan_under_two_names_and_beside_others_gives_one_map(predictor, make_scan, scans, tmp_path):
    folder = scans("a.nii.gz", "other.nii.gz")
    write_volume(make_scan(0).array, make_scan(0).geometry, folder / "z.nii.gz")
    predictor.predict_folder(folder, tmp_path / "together")
    predictor.predict_file(folder / "a.nii.gz", tmp_path / "alone")
    for ending in ("anomaly", "mask"):
        expected = read_volume(tmp_path / "alone" / f"a_{ending}.nii.gz").array
        for case in ("a", "z"):
            np.testing.assert_array_equal(read_volume(tmp_path / "together" / f"{case}_{ending}.nii.gz").array, expected)
        assert not np.array_equal(read_volume(tmp_path / "together" / f"other_{ending}.nii.gz").array, expected)


def test_folds_are_averaged(model_folder, make_scan):
    folder, scan = model_folder(folds=("0", "1")), make_scan()
    both = Predictor.from_model_folder(folder, LoadOptions(threshold=1.0, **QUICK)).predict_volume(scan)
    single = [
        Predictor.from_model_folder(folder, LoadOptions(folds=[fold], threshold=1.0, **QUICK)).predict_volume(scan)
        for fold in "01"
    ]
    np.testing.assert_allclose(both.anomaly, (single[0].anomaly + single[1].anomaly) / 2, rtol=1e-5, atol=1e-6)
    assert not np.allclose(single[0].anomaly, single[1].anomaly, rtol=0.01)
    assert both.network_evaluations == single[0].network_evaluations + single[1].network_evaluations
    with pytest.raises(MMCCDError, match="no finished fold 3"):
        Predictor.from_model_folder(folder, LoadOptions(folds=["3"]))


def test_cyclic_unet_predicts(model_folder, make_scan):
    prediction = Predictor.from_model_folder(model_folder("cyclic_unet"), LoadOptions(threshold=1.0)).predict_volume(
        make_scan()
    )
    assert prediction.anomaly[prediction.brain].min() >= 0
    assert prediction.anomaly.max() > 0
    slices = prediction.brain.any(axis=(1, 2)).sum()
    assert prediction.network_evaluations == 2 * slices


def test_the_files_of_a_case(model_folder, scans, tmp_path):
    folder = scans("p1_0000.nii.gz")
    predictor = Predictor.from_model_folder(model_folder(), LoadOptions(threshold=1.0, **QUICK))
    output = tmp_path / "out"
    summary = predictor.predict_folder(folder, output, OutputOptions(save_cycle=True))
    assert summary.failed == []
    volumes = ("_anomaly.nii.gz", "_mask.nii.gz", "_candidates.nii.gz", "_signed.nii.gz", "_cycle.nii.gz")
    of_case = {f"p1{ending}" for ending in (*volumes, "_page.json.gz", ".png", ".json")}
    assert {path.name for path in output.iterdir()} == of_case | {"summary.csv", "lesions.csv", "report.html"}
    anomaly, mask, cycle = (read_volume(output / f"p1_{name}.nii.gz", dtype=None) for name in ("anomaly", "mask", "cycle"))
    assert (anomaly.array.dtype, mask.array.dtype, cycle.array.dtype) == (np.float32, np.uint8, np.float32)
    record = load_json(output / "p1.json")
    assert record["input_file"] == "p1_0000.nii.gz"
    assert record["brain_found_by"] == STRIPPED
    assert record["input_modality"] == "FLAIR"
    assert record["settings"] == predictor.settings.to_json()
    assert record["max_score"] == pytest.approx(float(anomaly.array.max()))
    assert record["anomalous_ml"] == pytest.approx(float(mask.array.sum()) * 4.5 * 5 * 7 / 1000, abs=1e-3)
    assert (record["threshold"], record["threshold_source"]) == (1.0, "given by the user")
    table = pd.read_csv(output / "summary.csv")
    assert table.loc[0, ["case", "status"]].tolist() == ["p1", "done"]
    assert (output / "p1.png").read_bytes().startswith(b"\x89PNG")


def test_predict_file_writes_what_predict_folder_writes(predictor, scans, tmp_path):
    folder = scans("p1_0000.nii.gz")
    predictor.predict_folder(folder, tmp_path / "a", OutputOptions(report=False))
    prediction = predictor.predict_file(folder / "p1_0000.nii.gz", tmp_path / "b")
    assert prediction.case == "p1"
    expected = files_of(tmp_path / "a")
    del expected["summary.csv"], expected["lesions.csv"]
    assert files_of(tmp_path / "b") == expected


def test_without_a_threshold_there_is_a_map_and_no_mask(model_folder, scans, tmp_path):
    predictor = Predictor.from_model_folder(model_folder(), LoadOptions(**QUICK))
    output = tmp_path / "out"
    (output).mkdir()
    (output / "p1_mask.nii.gz").write_bytes(b"of an earlier run")
    summary = predictor.predict_folder(scans("p1.nii.gz"), output)
    assert summary.rows[0].status == "done"
    assert "no calibration" in summary.rows[0].reason
    assert not (output / "p1_mask.nii.gz").exists()
    record = load_json(output / "p1.json")
    assert record["threshold"] is None
    assert "no calibration" in record["threshold_source"]


def test_a_bad_case_does_not_stop_the_others(predictor, make_scan, scans, tmp_path):
    folder = scans("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz", "e.nii.gz")
    scan = make_scan()
    content = (folder / "b.nii.gz").read_bytes()
    (folder / "b.nii.gz").write_bytes(content[: len(content) // 2])
    write_volume(np.full_like(scan.array, 7), scan.geometry, folder / "c.nii.gz")
    air = np.abs(np.random.default_rng(0).normal(30, 10, scan.array.shape)).astype(np.float32)
    write_volume(np.where(scan.array > 0, scan.array, air), scan.geometry, folder / "d.nii.gz")
    output = tmp_path / "out"
    (output).mkdir()
    save_json({"case": "b"}, output / "b.json")
    summary = predictor.predict_folder(folder, output)
    assert [row.status for row in summary.rows] == ["done", "failed", "failed", "failed", "done"]
    assert len(summary.failed) == 3
    for case, sentence in zip("bcd", summary.failed, strict=True):
        assert case in sentence
        assert sentence.endswith(".")
        assert not list(output.glob(f"{case}[._]*"))
    table = pd.read_csv(output / "summary.csv", index_col="case")
    assert table.loc["b", "reason"] == summary.failed[0]
    assert (output / "e.json").is_file()


def test_brain_masks_are_used_and_a_missing_one_fails_its_case(predictor, make_scan, tmp_path):
    scan = make_scan()
    brain = (scan.array > 0).astype(np.uint8)
    head = np.where(brain, scan.array, 55 + np.random.default_rng(0).normal(0, 9, brain.shape)).astype(np.float32)
    for case in ("a", "b"):
        write_volume(head, scan.geometry, tmp_path / "in" / f"{case}.nii.gz")
    write_volume(brain, scan.geometry, tmp_path / "masks" / "a.nii.gz")
    summary = predictor.predict_folder(tmp_path / "in", tmp_path / "out", OutputOptions(brain_masks=tmp_path / "masks"))
    assert [row.status for row in summary.rows] == ["done", "failed"]
    assert "b.nii.gz" in summary.failed[0]
    # The head's zero is its air, not the 0 around the brain alone; taking it off rounds.
    np.testing.assert_allclose(
        read_volume(tmp_path / "out" / "a_anomaly.nii.gz").array, predictor.predict_volume(scan, "a").anomaly, rtol=1e-4
    )
    record = load_json(tmp_path / "out" / "a.json")
    assert record["brain_mask_file"] == "a.nii.gz"
    np.testing.assert_array_equal(read_volume(tmp_path / "out" / "a_brain.nii.gz").array, brain)
    pixels = imread(tmp_path / "out" / "a_brain.png")
    assert np.ptp(pixels[..., :3], axis=-1).max() > 0.2, "the outline is no grey"
    assert "a_brain.png" in record["files"]


def test_the_picture_of_the_brain_tells_of_the_brain_alone(predictor, make_scan, tmp_path, monkeypatch):
    """The contrast of a scan is a matter of the case's picture; how its brain was found, of that of the brain."""
    scan = make_scan()
    head = np.where(scan.array > 0, scan.array, 55).astype(np.float32)
    found = BrainExtraction(scan.array > 0, "template", 1.0, "the brain is small")
    monkeypatch.setattr("mmccd_auto.inference.prediction.scan_predictor.extract_brain", lambda *_: found)
    monkeypatch.setattr(type(predictor), "scan_warnings", lambda *_: ["this looks like a T2"])
    told = {}

    def draw(path, *rest) -> None:
        told[path.name] = rest[-1]
        path.touch()

    monkeypatch.setattr("mmccd_auto.inference.prediction.case_files.alignment_picture", draw)
    write_volume(head, scan.geometry, tmp_path / "in" / "a.nii.gz")
    predictor.predict_folder(tmp_path / "in", tmp_path / "out", OutputOptions(report=False))
    assert told == {"a_brain.png": "The brain is small."}
    assert load_json(tmp_path / "out" / "a.json")["warnings"] == ["the brain is small", "this looks like a T2"]


def test_the_scans_folder_is_refused_as_output(predictor, scans):
    folder = scans("a.nii.gz")
    before = sorted(folder.iterdir())
    for source in (folder, folder / "a.nii.gz"):
        with pytest.raises(MMCCDError, match="give another one"):
            predictor.predict_folder(source, folder)
    assert sorted(folder.iterdir()) == before


def test_continuing_keeps_only_what_would_come_out_the_same(model_folder, make_scan, scans, tmp_path):
    model, folder, output = model_folder(), scans("a.nii.gz", "b.nii.gz"), tmp_path / "out"

    def statuses(**options) -> list[str]:
        predictor = Predictor.from_model_folder(model, LoadOptions(**QUICK | {"threshold": 1.0} | options))
        summary = predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))
        return [row.status for row in summary.rows]

    assert statuses() == ["done", "done"]
    assert statuses() == ["kept", "kept"]
    assert statuses(batch_size=3) == ["kept", "kept"]
    assert statuses(threshold=2.0) == ["done", "done"]
    assert statuses(threshold=2.0, sampling_steps=2) == ["done", "done"]
    (output / "a_anomaly.nii.gz").unlink()
    assert statuses(threshold=2.0, sampling_steps=2) == ["done", "kept"]
    larger = make_scan(7, (24, 26, 7))
    write_volume(larger.array, larger.geometry, folder / "b.nii.gz")
    assert statuses(threshold=2.0, sampling_steps=2) == ["kept", "done"]
    (output / "b.json").write_text("{")
    assert statuses(threshold=2.0, sampling_steps=2) == ["kept", "done"]


def test_another_scan_of_the_same_name_and_size_is_predicted_anew(predictor, make_scan, scans, tmp_path):
    folder, output = scans("a.nii"), tmp_path / "out"
    predictor.predict_folder(folder, output)
    size, volume = (folder / "a.nii").stat().st_size, make_scan(3)
    write_volume(volume.array, volume.geometry, folder / "a.nii")
    assert (folder / "a.nii").stat().st_size == size
    assert predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True)).rows[0].status == "done"
    np.testing.assert_array_equal(
        read_volume(output / "a_anomaly.nii.gz").array, predictor.predict_volume(volume, "a").anomaly
    )


def test_replacing_earlier_results_is_said(predictor, scans, tmp_path, caplog):
    folder, output = scans("a.nii.gz"), tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        predictor.predict_folder(folder, output)
        predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))
        assert not [message for message in caplog.messages if "--continue_prediction" in message]
        predictor.predict_folder(folder, output)
    assert len([message for message in caplog.messages if "--continue_prediction" in message]) == 1


KILLED_RUN = """
import sys, torch
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.predictor import Predictor
torch.set_num_threads(1)
model, source, output = sys.argv[1:]
predictor = Predictor.from_model_folder(model, LoadOptions(threshold=1.0, sampling_steps=1, strip_stride=8))
predictor.predict_folder(source, output, OutputOptions(save_cycle=True, continue_prediction=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_continues_to_the_same_files(model_folder, scans, tmp_path):
    model, folder = model_folder(), scans(*(f"case{number}.nii.gz" for number in range(4)))
    predictor = Predictor.from_model_folder(model, LoadOptions(threshold=1.0, **QUICK))
    predictor.predict_folder(folder, tmp_path / "undisturbed", OutputOptions(save_cycle=True))
    output = tmp_path / "killed"
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, str(model), str(folder), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not (output / "case2_anomaly.nii.gz").exists():
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    summary = predictor.predict_folder(folder, output, OutputOptions(save_cycle=True, continue_prediction=True))
    statuses = [row.status for row in summary.rows]
    assert statuses[:2] == ["kept", "kept"]
    assert statuses[-1] == "done"
    left = {path.name for path in output.iterdir() if path.name.startswith(".")}
    assert left == set()
    assert files_of(output) == files_of(tmp_path / "undisturbed")


def test_a_model_folder_that_was_changed_is_refused(model_folder, tiny_plan):
    folder = model_folder()
    plans = load_json(folder / "plans.json")
    save_json({**plans, "target_spacing": 3.0}, folder / "plans.json")
    with pytest.raises(MMCCDError, match="target_spacing"):
        Predictor.from_model_folder(folder)
    with pytest.raises(MMCCDError, match="threshold"):
        Predictor.from_model_folder(folder, LoadOptions(threshold=float("nan")))


def test_the_pictures_of_earlier_cases_do_not_stay_in_memory(predictor, scans, tmp_path):
    def figures() -> int:
        return sum(type(one) is Figure for one in gc.get_objects())

    folder = scans("a.nii.gz", "b.nii.gz", "c.nii.gz")
    gc.collect()
    gc.disable()
    try:
        before = figures()
        predictor.predict_folder(folder, tmp_path / "out")
        assert figures() == before
    finally:
        gc.enable()
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert gc.get_freeze_count() == 0


def test_nothing_that_is_not_finite_is_written(predictor, make_scan, scans, tmp_path, monkeypatch):
    folder = scans("a.nii.gz")
    real = predictor.predict_volumes

    def broken(scans, **options):
        for prediction in real(scans, **options):
            prediction.anomaly[prediction.brain] = np.nan
            yield prediction

    monkeypatch.setattr(predictor, "predict_volumes", broken)
    summary = predictor.predict_folder(folder, tmp_path / "out")
    assert "not finite" in summary.failed[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lesions.csv", "report.html", "summary.csv"]
    assert json.loads(json.dumps(summary.failed)) == summary.failed


def working_threads() -> set[threading.Thread]:
    """All but the one that watches progress bars and stays."""
    return {one for one in threading.enumerate() if not isinstance(one, TMonitor)}


def test_an_interrupted_run_ends_its_threads_before_their_workspace_goes(predictor, scans, tmp_path, monkeypatch):
    """While the networks work, the next case is read, from the workspace where it is DICOM."""
    source, started, interrupted, there = scans("a.nii.gz", "b.nii.gz"), threading.Event(), threading.Event(), []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def read(path, **options):
        if path.name == "b.nii.gz":
            started.set()
            assert interrupted.wait(600)
            # Time enough for the run to leave without waiting.
            time.sleep(0.2)
            there.append(len(list(tmp_path.glob("mmccd-predict-*"))))
        return read_volume(path, **options)

    def interrupt(*_):
        assert started.wait(600)
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_prediction, "read_volume", read)
    monkeypatch.setattr(predictor.folds[0].cycle, "reconstruct", interrupt)
    before = working_threads()
    with pytest.raises(KeyboardInterrupt) as held:
        predictor.predict_folder(source, tmp_path / "out")
    # While the error is looked at, as in a notebook.
    assert held.value.__traceback__ is not None
    assert working_threads() <= before
    assert there == [1]
    assert list(tmp_path.glob("mmccd-predict-*")) == []
    assert (tmp_path / "out" / "summary.csv").is_file()


def test_a_run_that_is_interrupted_between_two_cases_ends_its_threads(predictor, scans, tmp_path, monkeypatch):
    def interrupted(rows, **_):
        yield next(iter(rows))
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_run, "track", interrupted)
    before = working_threads()
    with pytest.raises(KeyboardInterrupt) as held:
        predictor.predict_folder(scans("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"), tmp_path / "out")
    assert held.value.__traceback__ is not None
    assert working_threads() <= before
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["case"].tolist() == ["a"]
