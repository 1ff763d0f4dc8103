"""What the second fit leaves out, and that calibration and prediction fit alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model, is_calibrated
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps, load_validation_record
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.control import control_scores
from mmccd_auto.inference.scores.second_fit import MOST_LEFT_OUT, choose_left_out, look_places
from mmccd_auto.preprocessing.preprocess_case import preprocess_case, to_scan_grid
from mmccd_auto.preprocessing.stored_samples import SAMPLES_FILE
from mmccd_auto.trained.model_folder import ModelFolder

CPU = torch.device("cpu")
SPACING = (1.0, 3.0, 3.0)


def head(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores below 1 in a ball of brain."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in (40, 30, 30)), indexing="ij")
    return np.random.default_rng(seed).random(z.shape).astype(np.float32), z**2 + y**2 + x**2 < 0.9


def test_what_scores_above_one_is_left_out_with_a_margin_of_3_mm() -> None:
    scores, brain = head()
    scores[18:21, 14:17, 14:17] = 2
    found = choose_left_out(scores, brain, SPACING)
    expected = np.zeros_like(brain)
    expected[18:21, 14:17, 13:18] = expected[18:21, 13:18, 14:17] = expected[15:24, 14:17, 14:17] = True
    np.testing.assert_array_equal(found.mask, expected)
    assert found.share == expected.sum() / brain.sum()
    assert not found.capped


def test_no_more_than_the_cap_is_left_out_and_the_highest_scores_first() -> None:
    _, brain = head()
    depth = np.arange(40, dtype=np.float32)[:, None, None] + np.random.default_rng(0).random(brain.shape, dtype=np.float32)
    found = choose_left_out(2 + depth, brain, SPACING)
    assert found.capped
    assert MOST_LEFT_OUT - 0.03 < found.share <= MOST_LEFT_OUT
    assert depth[found.mask].mean() > depth[brain & ~found.mask].mean() + 10
    # All alike: none is higher than the others, and the whole brain can't be left out.
    even = choose_left_out(np.full(brain.shape, 2, np.float32), brain, SPACING)
    assert even.capped
    assert not even.mask.any()


def test_nearly_nothing_is_no_reason_for_a_second_fit() -> None:
    scores, brain = head()
    places = np.argwhere(brain)[:: brain.sum() // 8][:8]
    scores[tuple(places.T)] = 5
    assert 8 / brain.sum() < 0.001
    found = choose_left_out(scores, brain, SPACING)
    assert (found.mask.any(), found.share, found.capped) == (False, 0.0, False)


@pytest.mark.parametrize(
    ("indices", "slice_mm", "expected"),
    [(range(4, 14), 1.0, [0, 3, 6, 9]), (range(5), 5.0, [0, 1, 2, 3, 4]), ([6], 1.0, [0]), (range(4), 1.5, [1, 3])],
)
def test_slices_about_3_mm_apart_are_looked_at_first(indices, slice_mm, expected) -> None:
    assert look_places(list(indices), slice_mm) == expected


@pytest.fixture
def lesion_scan(make_scan):
    """The scan of case a with a bright corner."""
    scan = make_scan(0)
    array = scan.array.copy()
    array[2:5, 10:16, 8:13] *= np.float32(1.8)
    return replace(scan, array=array)


def test_prediction_sees_the_very_slices_that_calibration_saw(model_folder, quick_plan, preprocessed, make_scan) -> None:
    model = ModelFolder(model_folder(plan=quick_plan))
    calibration = calibrate_model(model.path, preprocessed, device=CPU, max_slices=100)
    assert calibration.fits == 2
    assert calibration.settings["fits"] == 2
    assert is_calibrated(model, "0")
    made = load_validation_record(model, "0", preprocessed)
    case = next(one for one in load_validation_maps(model, "0", made, preprocessed) if one.case == "a")
    predictor = Predictor.from_model_folder(model.path)
    assert predictor.settings.fits == 2
    found = predictor.predict_volume(make_scan(0), "a")
    (fit,) = found.fits
    assert (fit.fits, fit.note) == (2, "")
    assert 0 < fit.left_out_share <= MOST_LEFT_OUT
    healthy = calibration.subjects[0]
    # Slices of 7 mm: all are looked at; the case score of the same slices is the one that was calibrated on.
    assert len(case.indices) == healthy.slices
    once = Predictor.from_model_folder(model.path, LoadOptions(fits=1)).predict_volume(make_scan(0), "a")
    assert abs(found.case_score - healthy.case_score) < 0.2 * abs(once.case_score - healthy.case_score)


def test_the_control_is_made_of_the_scan_after_the_second_fit(model_folder, quick_plan, preprocessed, make_scan) -> None:
    model = ModelFolder(model_folder(plan=quick_plan))
    calibration = calibrate_model(model.path, preprocessed, device=CPU, max_slices=100)
    made = load_validation_record(model, "0", preprocessed)
    case = next(one for one in load_validation_maps(model, "0", made, preprocessed) if one.case == "a")
    ready = preprocess_case("a", {"FLAIR": make_scan(0)}, quick_plan)
    whole = np.zeros(ready.brain.shape, dtype=np.float32)
    whole[list(case.indices)] = control_scores(case, calibration.control, calibration.score)["combined"]
    expected = to_scan_grid(whole, ready.geometry, ready.native_brain)

    def control(fits: int) -> np.ndarray:
        predictor = Predictor.from_model_folder(model.path, LoadOptions(fits=fits))
        (prediction,) = predictor.predict_volumes([Scan(make_scan(0), "a")], control=True)
        assert prediction.fits[0].fits == fits
        return prediction.control

    twice, once = (np.abs(control(fits) - expected).max() for fits in (2, 1))
    assert twice < 0.01
    assert once > 5 * twice


def test_a_calibration_of_an_earlier_version_goes_on_with_one_fit(model_folder, quick_plan, preprocessed) -> None:
    model = ModelFolder(model_folder(plan=quick_plan))
    calibrate_model(model.path, preprocessed, device=CPU, fits=1)
    path = model.fold("0") / "calibration.json"
    content = load_json(path)
    del content["first_look"], content["settings"]["fits"]
    save_json(content, path)
    assert is_calibrated(model, "0")
    predictor = Predictor.from_model_folder(model.path)
    assert predictor.settings.fits == 1
    assert predictor.scoring.has_control
    assert "with other settings" not in predictor.scoring.source


def test_one_fit_gives_the_maps_of_a_model_that_knows_no_second(model_folder, quick_plan, preprocessed, lesion_scan) -> None:
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU, fits=1)
    assert "fits" in load_json(folder / "fold_0" / "calibration.json")["settings"]
    before = Predictor.from_model_folder(folder).predict_volume(lesion_scan, "a")
    assert (before.fits[0].fits, before.fits[0].note) == (1, "calibrated with one fit")
    with pytest.raises(MMCCDError, match="second fit needs a calibration"):
        Predictor.from_model_folder(folder, LoadOptions(fits=2))
    calibrate_model(folder, preprocessed, device=CPU)
    off, on = (
        Predictor.from_model_folder(folder, LoadOptions(fits=fits)).predict_volume(lesion_scan, "a") for fits in (1, None)
    )
    np.testing.assert_array_equal(off.signed, before.signed)
    np.testing.assert_array_equal(off.cycle, before.cycle)
    assert off.normalisation == before.normalisation
    assert off.fits[0].note == "one fit was asked for"
    assert on.normalisation["scale"] > off.normalisation["scale"]
    assert (on.signed != off.signed).any()


def test_slices_of_earlier_versions_are_calibrated_with_one_fit(model_folder, quick_plan, preprocessed, caplog) -> None:
    folder = model_folder(plan=quick_plan)
    (preprocessed / "a" / SAMPLES_FILE).unlink()
    assert calibrate_model(folder, preprocessed, device=CPU).fits == 1
    assert "can't be fitted twice" in caplog.text
    assert Predictor.from_model_folder(folder).settings.fits == 1
    with pytest.raises(MMCCDError, match="can't be fitted twice"):
        calibrate_model(folder, preprocessed, device=CPU, fits=2)


def test_a_first_look_without_units_is_one_sentence(model_folder, quick_plan, preprocessed) -> None:
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    path = folder / "fold_0" / "calibration.json"
    content = load_json(path)
    del content["first_look"]["units"]["combined"]
    save_json(content, path)
    with pytest.raises(MMCCDError, match=r"calibration.json: the entry first_look.units.combined is missing"):
        Predictor.from_model_folder(folder)


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "SAL"])
def test_a_map_after_the_second_fit_lies_on_the_scan_however_it_is_stored(
    model_folder, quick_plan, preprocessed, lesion_scan, orientation
) -> None:
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    predictor = Predictor.from_model_folder(folder)
    expected = predictor.predict_volume(lesion_scan, "a")
    turned = Volume.from_image(sitk.DICOMOrient(lesion_scan.to_image(), orientation))
    found = predictor.predict_volume(turned, "a")
    assert found.fits == expected.fits
    assert found.fits[0].fits == 2
    stored = Volume(expected.anomaly, lesion_scan.geometry).to_image()
    np.testing.assert_allclose(
        found.anomaly, sitk.GetArrayFromImage(sitk.DICOMOrient(stored, orientation)), rtol=1e-4, atol=1e-5
    )


def test_case_json_tells_of_the_fits(model_folder, quick_plan, preprocessed, scans, tmp_path) -> None:
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    source = scans("a_0000.nii.gz")
    for fits in (2, 1):
        output = tmp_path / f"out_{fits}"
        Predictor.from_model_folder(folder, LoadOptions(fits=fits)).predict_folder(
            source, output, OutputOptions(report=False)
        )
        (told,) = load_json(output / "a.json")["fits"]
        assert told["fits"] == load_json(output / "a.json")["settings"]["fits"] == fits
        assert (told["left_out_share"] is None) == (fits == 1)
        assert told["left_out_capped"] is False
