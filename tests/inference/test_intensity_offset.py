"""A gain and an offset of the whole scan change nothing, from the brain to the map; with shading, with and without skull."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.phantom.head import mask_on, with_simulated_head
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.align_modalities import brain_only


@pytest.fixture(scope="module")
def stripped() -> Volume:
    """A simulated FLAIR scan in whole numbers, brighter behind and at the left."""
    scan = simulate_subject(load_tissue_maps(3), Acquisition(6.0), (), np.random.default_rng(5)).scans["FLAIR"]
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in scan.array.shape), indexing="ij")
    shaded = scan.array * np.exp(0.3 * (0.8 * y + 0.4 * x * y + 0.3 * x))
    return Volume(np.round(shaded).astype(np.float32), scan.geometry)


@pytest.fixture(scope="module")
def head(stripped) -> Volume:
    made = with_simulated_head(stripped, stripped.array > 0, "FLAIR", np.random.default_rng(0))
    return Volume(np.round(made.array - made.array.min()).astype(np.float32), made.geometry)


@pytest.fixture
def predictor(model_folder, tiny_plan) -> Predictor:
    plan = replace(tiny_plan, normalisation=dict.fromkeys(tiny_plan.modalities, "bias_corrected"))
    return Predictor.from_model_folder(model_folder(plan=plan), LoadOptions(preset="cyclic", threshold=1.0))


def changed(volume: Volume, gain: float, offset: float, dtype: type) -> Volume:
    return Volume((gain * volume.array.astype(np.float64) + offset).astype(dtype), volume.geometry)


EXACT = [(1, 1000, np.int16), (1, -1024, np.int16), (0.25, -0.25, np.float64)]
ROUNDED = [(0.01, -3.2, np.float32), (37, 5e4, np.float32)]


def test_a_stripped_scan_gives_one_map_whatever_its_gain_and_offset(predictor, stripped) -> None:
    expected = predictor.predict_volume(stripped)
    assert expected.normalisation["bias_field_p99"] > 1.07
    assert expected.mask.any()
    for gain, offset, dtype in (*EXACT, *ROUNDED):
        found = predictor.predict_volume(changed(stripped, gain, offset, dtype))
        np.testing.assert_array_equal(found.brain, expected.brain)
        difference = np.abs(found.anomaly - expected.anomaly)
        assert difference.max() < 2e-3 * expected.anomaly.max(), (gain, offset)
        if gain == 1:
            np.testing.assert_array_equal(found.anomaly, expected.anomaly)
            assert found.normalisation["zero"] == offset
    standardised = (stripped.array - stripped.array.mean()) / stripped.array.std()
    found = predictor.predict_volume(Volume(standardised, stripped.geometry))
    assert np.abs(found.anomaly - expected.anomaly).max() < 2e-3 * expected.anomaly.max()


def test_a_scan_with_skull_gives_one_map_whatever_its_gain_and_offset(predictor, head) -> None:
    expected = predictor.predict_volume(head)
    assert expected.brain_extraction == "template"
    assert expected.normalisation["bias_field_p99"] > 1.05
    found = predictor.predict_volume(changed(head, 1, -1024, np.int16))
    np.testing.assert_array_equal(found.brain, expected.brain)
    np.testing.assert_array_equal(found.anomaly, expected.anomaly)
    found = predictor.predict_volume(changed(head, 1.7, 12.3, np.float64))
    assert np.count_nonzero(found.brain != expected.brain) < 2e-3 * np.count_nonzero(expected.brain)
    both = found.brain & expected.brain
    assert np.abs(found.anomaly - expected.anomaly)[both].mean() < 5e-3 * expected.anomaly[both].mean()


def test_a_brain_cut_out_of_a_head_with_an_offset_keeps_its_zero(predictor, head, stripped) -> None:
    """As mmccd_import and CASE_scan.nii.gz cut it: the background says where the signal counts from."""
    whole = changed(head, 1, -1024, np.int16)
    brain = mask_on(stripped.array > 0, stripped.geometry, head.geometry)
    given = Volume(brain.astype(np.uint8), head.geometry)
    expected = predictor.predict_volume(whole, brain_mask=given)
    cut = brain_only(whole, brain)
    assert (cut.array[~brain] == -1024).all()
    found = predictor.predict_volume(cut, brain_mask=given)
    assert found.normalisation["zero"] == expected.normalisation["zero"]
    np.testing.assert_array_equal(found.anomaly, expected.anomaly)


def test_z_scores_inside_the_brain_are_told_and_lose_their_shading_all_the_same(predictor, stripped) -> None:
    inside = stripped.array > 0
    values = stripped.array[inside]
    scored = np.where(inside, (stripped.array - values.mean()) / values.std(), 0).astype(np.float32)
    found = predictor.predict_volume(Volume(scored, stripped.geometry))
    assert found.normalisation["bias_field_p99"] > 1.05
    assert any("no longer says where its signal counts from" in text for text in found.warnings)
    assert not predictor.predict_volume(stripped).warnings
