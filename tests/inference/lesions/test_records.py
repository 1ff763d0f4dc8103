"""lesion_list in CASE.json, lesions.csv, and the columns of summary.csv that rest on them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.lesions.records import LESION_LIST, lesions_of
from mmccd_auto.inference.options import LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.masks import component_volumes

QUICK = {"sampling_steps": 1, "strip_stride": 8}


@pytest.fixture
def predictor(model_folder):
    return Predictor.from_model_folder(model_folder(), LoadOptions(threshold=4.0, **QUICK))


def test_lists_table_and_masks_say_the_same_also_of_kept_cases(predictor, scans, tmp_path):
    folder, output = scans("a.nii.gz", "=b.nii.gz"), tmp_path / "out"
    predictor.predict_folder(folder, output)
    summary, table = pd.read_csv(output / "summary.csv"), pd.read_csv(output / "lesions.csv")
    total = 0
    for name in ("a", "=b"):
        record = load_json(output / f"{name}.json")
        mask = read_volume(output / f"{name}_mask.nii.gz")
        volumes = component_volumes(mask.array, mask.geometry.voxel_volume) / 1000
        lesions = record[LESION_LIST]
        assert [one["volume_ml"] for one in lesions] == pytest.approx(volumes, abs=1e-4)
        numbers = [one["number"] for one in (*lesions, *record["candidate_list"])]
        assert numbers == list(range(1, len(numbers) + 1))
        for one in lesions:
            i, j, k = one["centre_voxel"]
            assert mask.array[k, j, i] == 1
            assert one["mni_mm"] is None or not one["place"].startswith("unknown")
        rows = table[table["case"].str.lstrip("'") == name]
        assert rows["volume_ml"].tolist() == [one["volume_ml"] for one in lesions]
        line = summary[summary["case"].str.lstrip("'") == name].iloc[0]
        assert line["lesions"] == len(lesions)
        if lesions:
            assert line["largest_lesion_ml"] == lesions[0]["volume_ml"]
            assert line["longest_lesion_mm"] == max(one["longest_diameter_mm"] for one in lesions)
        total += len(lesions)
    assert total > 0
    assert len(table) == total
    before = (output / "lesions.csv").read_bytes()
    (output / "lesions.csv").unlink()
    kept = predictor.predict_folder(folder, output, OutputOptions(continue_prediction=True))
    assert {row.status for row in kept.rows} == {"kept"}
    assert (output / "lesions.csv").read_bytes() == before


def test_the_table_is_written_where_there_are_no_lesions(model_folder, scans, tmp_path):
    predictor = Predictor.from_model_folder(model_folder(), LoadOptions(threshold=1e9, **QUICK))
    predictor.predict_folder(scans("a.nii.gz"), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "lesions.csv")
    assert len(table) == 0
    assert list(table.columns)[:3] == ["case", "number", "volume_ml"]
    assert load_json(tmp_path / "out" / "a.json")["template"] is None


@pytest.mark.parametrize(
    ("entry", "value", "word"),
    [("side", "up", "side"), ("volume_ml", -1.0, "volume_ml"), ("mni_mm", [1.0], "mni_mm"), ("extra", 1, "extra")],
)
def test_a_list_that_is_not_as_it_should_be_is_refused_with_a_sentence(entry, value, word):
    lesion = {
        "number": 1,
        "volume_ml": 1.5,
        "longest_diameter_mm": 10.0,
        "peak_score": 3.0,
        "mean_score": 2.0,
        "centre_lps_mm": [1.0, 2.0, 3.0],
        "centre_voxel": [1, 2, 3],
        "side": "left",
        "place": "periventricular",
        "mni_mm": None,
        "ventricle_mm": None,
        "cortex_mm": 1.0,
    }
    assert lesions_of({LESION_LIST: [lesion]}, "a.json")[0].side == "left"
    with pytest.raises(MMCCDError, match=rf"a\.json.*{word}.*predict the case again"):
        lesions_of(json.loads(json.dumps({LESION_LIST: [{**lesion, entry: value}]})), "a.json")


def test_the_map_is_not_changed(make_scan):
    from mmccd_auto.inference.lesions.describe import describe_lesions

    scan = make_scan()
    brain = scan.array > 0
    anomaly = np.where(brain, scan.array / 100, 0).astype(np.float32)
    mask = (anomaly > 4.5).astype(np.uint8)
    before = [array.tobytes() for array in (scan.array, anomaly, mask, brain)]
    first = describe_lesions(scan, brain, anomaly, mask, np.zeros_like(mask))
    assert [array.tobytes() for array in (scan.array, anomaly, mask, brain)] == before
    assert first == describe_lesions(scan, brain, anomaly, mask, np.zeros_like(mask))
    assert first["lesion_list"]
