"""Prediction of hospital exports: every awkward one ends well, on the right grid, and tells of nobody."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import highdicom
import numpy as np
import pandas as pd
import pytest
from awkward_exports import Awkward, all_exports
from dicom_writing import CLEAN, PLANTED, brain, positions, write_scans

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.options import ExportOptions, LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.reporting.page.html import VIEWER, asset

QUICK = {"sampling_steps": 1, "strip_stride": 8, "threshold": 1.0}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    return Predictor.from_model_folder(model_folder("cyclic_unet"), LoadOptions(**QUICK))


def written(folder: Path) -> bytes:
    """Everything that lies in a folder, names included, as small letters; NIfTI uncompressed."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            content = path.read_bytes()
            if path.name.endswith(".gz"):
                content = gzip.decompress(content)
            # The viewer's own script, which is the same in every report.
            content = content.replace(asset(VIEWER).encode(), b"")
            found.append(content)
    return b"\n".join(found).lower()


def assert_nobody_named(*places: bytes | str) -> None:
    """The number alone, four digits, also stands in hashes by chance."""
    for place in places:
        content = place.lower().encode() if isinstance(place, str) else place
        assert not [word for word in PLANTED if word != "4711" and word.encode() in content]


@pytest.mark.parametrize("awkward", all_exports(), ids=lambda awkward: awkward.name.replace(" ", "_"))
def test_every_export_is_predicted_or_refused_by_a_sentence(
    awkward: Awkward, predictor: Predictor, tmp_path: Path, caplog, capfd
) -> None:
    folder, output = tmp_path / "export", tmp_path / "maps"
    folder.mkdir()
    source = awkward.build(folder)
    caplog.set_level(logging.INFO)
    expected = [used for used in awkward.expected.used if "FLAIR" in used]
    summary, refusal = None, ""
    try:
        summary = predictor.predict_folder(source, output)
    except MMCCDError as error:
        refusal = str(error)
    if expected:
        assert summary is not None, refusal
        done = [row for row in summary.rows if row.status == "done"]
        assert len(done) == len(expected)
        assert summary.failed == []
        for row in done:
            assert_map_lies_on_the_brain(output, row.case)
    else:
        sentences = [refusal] if summary is None else summary.failed
        assert sentences
        assert all(sentence.endswith(".") for sentence in sentences)
        if summary is not None:
            assert {row.status for row in summary.rows} == {"skipped"}
    printed = capfd.readouterr()
    everything = written(output) if output.exists() else b""
    assert_nobody_named(everything, caplog.text, printed.out, printed.err, refusal)


def assert_map_lies_on_the_brain(output: Path, case: str) -> None:
    anomaly, scan = (read_volume(output / f"{case}_{what}.nii.gz") for what in ("anomaly", "scan"))
    assert anomaly.geometry == scan.geometry
    truth = brain(positions(scan.geometry))
    assert np.mean(np.abs(scan.array - truth) > 1.01) < 2e-3
    # Inside only: a voxel of the map that is not 0 is one of the brain's.
    assert np.mean((anomaly.array > 0) & (truth == 0)) < 2e-3
    assert np.mean(anomaly.array[truth > 0] > 0) > 0.9


def predict_clean(predictor: Predictor, tmp_path: Path, **options: object) -> tuple[RunSummary, Path]:
    folder, output = tmp_path / "export", tmp_path / "maps"
    folder.mkdir(exist_ok=True)
    write_scans(folder, CLEAN)
    return predictor.predict_folder(folder, output, OutputOptions(export=ExportOptions(**options))), output


def test_dicom_objects_are_read_back_to_the_same_voxels(predictor: Predictor, tmp_path: Path) -> None:
    summary, output = predict_clean(predictor, tmp_path, dicom_seg=True)
    assert [row.status for row in summary.rows] == ["done"]
    mask = read_volume(output / "case_0001_mask.nii.gz")
    assert mask.array.any()
    found = highdicom.seg.segread(output / "case_0001_seg.dcm").get_volume(combine_segments=True)
    marked = np.argwhere(np.asarray(found.array) > 0)
    places = np.asarray(found.map_indices_to_reference(marked))
    expected = positions(mask.geometry)[mask.array > 0]
    assert len(places) == len(expected)

    def ordered(points: np.ndarray) -> np.ndarray:
        rounded = np.round(points, 2) + 0.0
        return rounded[np.lexsort(rounded.T)]

    np.testing.assert_allclose(ordered(places), ordered(expected), atol=0.02)
    assert load_json(output / "case_0001.json")["dicom"] == "under the pseudonym, with new numbers"
    assert_nobody_named(written(output))


def test_finished_dicom_cases_are_kept(predictor: Predictor, tmp_path: Path) -> None:
    _, output = predict_clean(predictor, tmp_path, dicom_seg=True)
    summary = predictor.predict_folder(
        tmp_path / "export", output, OutputOptions(continue_prediction=True, export=ExportOptions(dicom_seg=True))
    )
    assert [row.status for row in summary.rows] == ["kept"]
    again = predictor.predict_folder(tmp_path / "export", output, OutputOptions(continue_prediction=True))
    assert [row.status for row in again.rows] == ["done"]
    assert not (output / "case_0001_seg.dcm").exists()


def test_the_link_is_written_where_it_is_asked_for_and_nowhere_else(predictor: Predictor, tmp_path: Path) -> None:
    _, output = predict_clean(predictor, tmp_path, link_file=str(tmp_path / "link.csv"))
    link = pd.read_csv(tmp_path / "link.csv", dtype=str)
    assert link["case"].tolist() == ["case_0001"]
    assert link["patient_id"].tolist() == ["ZZID-4711"]
    assert_nobody_named(written(output))


def test_a_series_can_be_chosen_by_hand(predictor: Predictor, tmp_path: Path) -> None:
    _, output = predict_clean(predictor, tmp_path, series={"FLAIR": "301"})
    table = pd.read_csv(output / "series.csv", dtype=str)
    assert table[table["used_as"] == "FLAIR"]["series"].tolist() == ["301"]
    summary, _ = predict_clean(predictor, tmp_path, series={"FLAIR": "none such"})
    assert len(summary.failed) == 1
    assert "case_0001: --series FLAIR: no series fits the pattern" in summary.failed[0]
