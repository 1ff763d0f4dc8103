"""Evaluation of a folder of predictions: figures of constructed cases, the baseline, the table, and every fault."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.evaluation.baselines import intensity_score
from mmccd_auto.evaluation.compare import compare_folders
from mmccd_auto.evaluation.evaluate import evaluate_folder
from mmccd_auto.evaluation.judging import EvaluationOptions, erode
from mmccd_auto.evaluation.results import EvaluationResult
from mmccd_auto.evaluation.table import method_table
from mmccd_auto.imaging.contrasts import lesions_expected_dark
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.workflows.evaluate import evaluate

SHAPE = (12, 16, 14)
SPACING = (1.5, 2.0, 3.0)
GEOMETRY = Geometry(tuple(reversed(SHAPE)), SPACING, (5.0, -7.0, 11.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
GRID = np.indices(SHAPE)
BRAIN = sum(((axis - (size - 1) / 2) / (size / 2 - 1.5)) ** 2 for axis, size in zip(GRID, SHAPE, strict=True)) < 1
LESION = BRAIN & (abs(GRID[0] - 6) < 2) & (abs(GRID[1] - 8) < 2) & (abs(GRID[2] - 6) < 3)
NOTHING = np.zeros(SHAPE, bool)


class Study:
    """Folders of labels, scans and predictions that tests fill."""

    def __init__(self, folder: Path) -> None:
        self.labels, self.maps, self.scans = folder / "labels", folder / "maps", folder / "scans"
        for path in (self.labels, self.maps, self.scans):
            path.mkdir()

    def add(
        self,
        case: str,
        reference: np.ndarray = LESION,
        mask: np.ndarray | None = LESION,
        score: np.ndarray | None = None,
        modality: str = "FLAIR",
        seed: int = 0,
    ) -> np.ndarray:
        """Write one case; gives its image. The score is a noisy copy of the lesion unless given."""
        generator = np.random.default_rng(seed)
        image = np.where(BRAIN, 100 + 10 * generator.random(SHAPE) + 5 * reference, 0).astype(np.float32)
        if score is None:
            score = BRAIN * (generator.random(SHAPE) + reference)
        scan = self.scans / f"{case}_0000.nii.gz"
        write_volume(image, GEOMETRY, scan)
        write_volume(reference.astype(np.uint8), GEOMETRY, self.labels / f"{case}.nii.gz")
        write_volume(score.astype(np.float32), GEOMETRY, self.maps / f"{case}_anomaly.nii.gz")
        if mask is not None:
            write_volume(mask.astype(np.uint8), GEOMETRY, self.maps / f"{case}_mask.nii.gz")
        save_json({"input_file": str(scan), "input_modality": modality}, self.maps / f"{case}.json")
        return image

    def evaluate(self, output: Path | None = None, processes: int = 0, **options) -> EvaluationResult:
        return evaluate_folder(self.labels, self.maps, EvaluationOptions(**options), output, processes)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_figures_of_a_constructed_case(study: Study) -> None:
    shifted = np.roll(LESION, 1, axis=2) & BRAIN
    generator = np.random.default_rng(7)
    score = (BRAIN * generator.random(SHAPE)).astype(np.float32) + LESION * np.float32(0.5)
    image = study.add("A", mask=shifted, score=score)
    result = study.evaluate()
    figures = result.methods["anomaly_map"].cases["A"]
    assert figures["auprc"] == pytest.approx(average_precision_score(LESION[BRAIN], score[BRAIN]))
    assert figures["auroc"] == pytest.approx(roc_auc_score(LESION[BRAIN], score[BRAIN]))
    both = np.sum(shifted & LESION)
    assert figures["dice"] == pytest.approx(2 * both / (shifted.sum() + LESION.sum()))
    selected = [BRAIN & (score >= threshold) for threshold in score[LESION]]
    best = max(2 * np.sum(chosen & LESION) / (chosen.sum() + LESION.sum()) for chosen in selected)
    assert figures["dice_of_oracle"] == pytest.approx(figures["dice"] / best)
    assert figures["jaccard"] == pytest.approx(both / np.sum(shifted | LESION))
    assert figures["sensitivity"] == pytest.approx(both / LESION.sum())
    assert figures["precision"] == pytest.approx(both / shifted.sum())
    assert figures["false_positive_ml"] == pytest.approx(np.sum(shifted & ~LESION) * 9 / 1000)
    assert figures["masked_share"] == pytest.approx(shifted.sum() / BRAIN.sum())
    assert figures["hd95_mm"] == pytest.approx(SPACING[0])
    assert 0 < figures["assd_mm"] < SPACING[0]
    assert result.prevalence == pytest.approx(LESION.sum() / BRAIN.sum())
    assert result.cases["A"]["brain_voxels"] == BRAIN.sum()
    baseline = result.methods["intensity"].cases["A"]
    assert baseline["auprc"] == pytest.approx(average_precision_score(LESION[BRAIN], image[BRAIN]), abs=1e-3)
    assert baseline["auroc"] == pytest.approx(roc_auc_score(LESION[BRAIN], image[BRAIN]), abs=1e-3)
    assert baseline["dice"] is None


def test_pooled_figures_are_those_of_all_voxels_and_of_summed_counts(study: Study) -> None:
    scores = []
    for seed, case in enumerate("ABC"):
        reference = LESION if case != "C" else NOTHING
        score = (BRAIN * np.random.default_rng(seed).random(SHAPE) + 0.4 * reference).astype(np.float32)
        study.add(case, reference=reference, mask=score > 0.8, score=score, seed=seed)
        scores.append((score, reference))
    result = study.evaluate().methods["anomaly_map"]
    score = np.concatenate([score[BRAIN] for score, _ in scores])
    abnormal = np.concatenate([reference[BRAIN] for _, reference in scores])
    assert result.pooled["auprc"] == pytest.approx(average_precision_score(abnormal, score))
    assert result.pooled["auroc"] == pytest.approx(roc_auc_score(abnormal, score))
    mask = score > 0.8
    assert result.pooled["dice"] == pytest.approx(2 * np.sum(mask & abnormal) / (mask.sum() + abnormal.sum()))
    assert result.pooled["dice_of_oracle"] == pytest.approx(result.pooled["dice"] / result.pooled["best_dice"])
    assert result.pooled["masked_share"] == pytest.approx(mask.mean())
    assert result.pooled["false_positive_ml"] == pytest.approx(np.sum(mask & ~abnormal) * 9 / 1000)
    assert result.mean["auprc"] == pytest.approx(np.mean([result.cases[case]["auprc"] for case in "AB"]))
    assert result.cases["C"]["auprc"] is None
    assert result.defined_cases["auprc"] == 2
    assert result.defined_cases["dice"] == 3


def test_baseline_takes_the_sign_that_the_modality_expects(study: Study) -> None:
    study.add("flair", modality="FLAIR", seed=3)
    study.add("t1", modality="T1", seed=3)
    result = study.evaluate()
    bright, dark = (result.methods["intensity"].cases[case]["auroc"] for case in ("flair", "t1"))
    assert bright > 0.7
    assert dark == pytest.approx(1 - bright, abs=1e-6)
    assert [result.cases[case]["intensity_sign"] for case in ("flair", "t1")] == ["bright", "dark"]


@pytest.mark.parametrize(
    ("modality", "dark"),
    [("T1", True), ("t1w", True), ("MP-RAGE", True), ("T1c", False), ("T1ce", False), ("FLAIR", False), ("T2", False)],
)
def test_modalities_with_dark_lesions(modality: str, dark: bool) -> None:
    assert lesions_expected_dark(modality) is dark


def test_intensity_score_does_not_depend_on_the_scale_of_the_scan() -> None:
    image = np.where(BRAIN, np.random.default_rng(0).random(SHAPE) + 1, 0).astype(np.float32)
    scores = [intensity_score(scale * image, BRAIN, "FLAIR", "scan")[BRAIN] for scale in (1.0, 5000.0)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert np.percentile(scores[0], [2, 90]) == pytest.approx([-3, 3], abs=1e-3)


def test_empty_reference_and_empty_mask_have_defined_figures(study: Study) -> None:
    study.add("both_empty", reference=NOTHING, mask=NOTHING)
    study.add("false_alarm", reference=NOTHING, mask=LESION)
    study.add("missed", reference=LESION, mask=NOTHING)
    result = study.evaluate()
    cases = result.methods["anomaly_map"].cases
    names = ("dice", "dice_of_oracle", "jaccard", "sensitivity", "precision", "assd_mm", "hd95_mm")
    assert [cases["both_empty"][name] for name in names] == [1.0, None, 1.0, None, None, 0.0, 0.0]
    assert [cases["false_alarm"][name] for name in names] == [0.0, None, 0.0, None, 0.0, None, None]
    assert [cases["missed"][name] for name in names] == [0.0, 0.0, 0.0, 0.0, None, None, None]
    assert cases["false_alarm"]["false_positive_ml"] == pytest.approx(LESION.sum() * 9 / 1000)
    assert result.methods["anomaly_map"].defined_cases["hd95_mm"] == 1


def test_only_healthy_cases_give_no_ranking_figures(study: Study) -> None:
    study.add("A", reference=NOTHING, mask=NOTHING)
    result = study.evaluate()
    assert result.methods["anomaly_map"].pooled["auprc"] is None
    assert result.methods["anomaly_map"].pooled["dice"] == 1.0
    assert result.prevalence == 0
    assert "-" in method_table(result.methods, result.prevalence)


def test_json_file_holds_the_result_without_nan(study: Study, tmp_path: Path) -> None:
    study.add("A")
    study.add("B", reference=NOTHING, mask=None, seed=1)
    result = study.evaluate(output=tmp_path / "figures.json")
    content = load_json(tmp_path / "figures.json")
    assert content == json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(content["methods"]) == {"anomaly_map", "intensity", "smoothed intensity"}
    assert {"cases", "pooled", "mean", "median", "interval", "defined_cases"} == set(content["methods"]["anomaly_map"])
    assert content["methods"]["anomaly_map"]["cases"]["B"]["auroc"] is None
    assert content["methods"]["anomaly_map"]["pooled"]["dice"] == 1
    assert content["methods"]["anomaly_map"]["pooled"]["dice_of_oracle"] is None


def test_worker_processes_give_the_same_figures(study: Study) -> None:
    for seed, case in enumerate("AB"):
        study.add(case, seed=seed)
    assert study.evaluate(processes=1) == study.evaluate(processes=0)


def test_cases_without_prediction_are_one_error_that_lists_them_all(study: Study) -> None:
    for case in "ABC":
        study.add(case)
    for case in "AC":
        (study.maps / f"{case}_anomaly.nii.gz").unlink()
    with pytest.raises(MMCCDError) as error:
        study.evaluate()
    message = str(error.value)
    assert "2 of 3 cases" in message
    assert "A_anomaly.nii.gz" in message
    assert "C_anomaly.nii.gz" in message
    assert "B_anomaly.nii.gz" not in message


def test_predictions_without_reference_are_only_warned_about(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    study.add("A")
    study.add("extra")
    (study.labels / "extra.nii.gz").unlink()
    with caplog.at_level(logging.WARNING):
        result = study.evaluate()
    assert list(result.cases) == ["A"]
    assert "extra" in result.warnings[0]
    assert result.warnings[0] in caplog.text


@pytest.mark.parametrize("folder", ["labels", "maps", "scans"])
def test_files_on_different_grids_are_named_with_the_difference(study: Study, folder: str) -> None:
    study.add("A")
    moved = Geometry(GEOMETRY.size, SPACING, (5.0, -7.0, 15.0), GEOMETRY.direction)
    name = {"labels": "A.nii.gz", "maps": "A_mask.nii.gz", "scans": "A_0000.nii.gz"}[folder]
    path = getattr(study, folder) / name
    write_volume(BRAIN.astype(np.float32), moved, path)
    with pytest.raises(MMCCDError, match="not on one grid") as error:
        study.evaluate()
    assert name in str(error.value)
    assert "A_anomaly.nii.gz" in str(error.value)
    assert "origin" in str(error.value)


def test_faults_of_several_cases_are_told_together(study: Study) -> None:
    for case in "ABC":
        study.add(case)
    (study.labels / "A.nii.gz").write_bytes(b"no volume")
    (study.labels / "C.nii.gz").unlink()
    write_volume(np.full(SHAPE, np.nan, np.float32), GEOMETRY, study.labels / "C.mha")
    with pytest.raises(MMCCDError) as error:
        study.evaluate()
    assert "2 of 3 cases" in str(error.value)
    assert "A.nii.gz" in str(error.value)
    assert "C.mha holds NaN" in str(error.value)


def test_scans_that_have_moved_are_found_with_the_images_folder(study: Study, tmp_path: Path) -> None:
    study.add("A")
    expected = study.evaluate()
    study.scans.rename(tmp_path / "moved")
    with pytest.raises(MMCCDError, match=r"A_0000.nii.gz.*does not exist.*-i"):
        study.evaluate()
    assert study.evaluate(images=tmp_path / "moved").methods == expected.methods


def test_scans_with_one_name_in_several_folders_are_told_apart(study: Study, tmp_path: Path) -> None:
    images = {}
    for seed, case in enumerate("AB"):
        images[case] = study.add(case, seed=seed)
        (tmp_path / "new" / case).mkdir(parents=True)
        (study.scans / f"{case}_0000.nii.gz").rename(tmp_path / "new" / case / "flair.nii.gz")
        save_json({"input_file": f"/old/{case}/flair.nii.gz", "input_modality": "FLAIR"}, study.maps / f"{case}.json")
    result = study.evaluate(images=tmp_path / "new")
    for case, image in images.items():
        expected = roc_auc_score(LESION[BRAIN], image[BRAIN])
        assert result.methods["intensity"].cases[case]["auroc"] == pytest.approx(expected, abs=1e-3)


def test_record_without_the_scan_is_an_error(study: Study) -> None:
    study.add("A")
    save_json({"input_modality": "FLAIR"}, study.maps / "A.json")
    with pytest.raises(MMCCDError, match=r"A\.json: the entry input_file is missing"):
        study.evaluate()


def test_missing_folders_and_labels(study: Study, tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="holds no labels"):
        study.evaluate()
    with pytest.raises(MMCCDError, match="nowhere is not a folder"):
        evaluate_folder(tmp_path / "nowhere", study.maps)
    with pytest.raises(MMCCDError, match="erosion"):
        study.evaluate(erosion_mm=-1.0)


def test_cases_without_mask_have_ranking_figures_only(study: Study) -> None:
    study.add("A", mask=None)
    result = study.evaluate()
    figures = result.methods["anomaly_map"]
    assert figures.cases["A"]["auprc"] > 0
    assert figures.cases["A"]["dice"] is None
    assert "dice" not in figures.pooled
    assert "A: no mask" in result.warnings[0]


@pytest.mark.parametrize("given", ["folder", "prediction"])
def test_given_brain_mask_decides_what_is_judged(study: Study, tmp_path: Path, given: str) -> None:
    study.add("A")
    half = BRAIN & (GRID[2] < 7)
    masks = tmp_path / "masks"
    write_volume(half.astype(np.uint8), GEOMETRY, masks / "A.nii.gz")
    if given == "folder":
        result = study.evaluate(brain_masks=masks)
    else:
        (masks / "A.nii.gz").rename(study.maps / "A_brain.nii.gz")
        result = study.evaluate()
    facts = result.cases["A"]
    assert facts["brain_voxels"] == half.sum()
    assert facts["reference_voxels"] == np.sum(LESION & half)
    assert facts["reference_voxels_outside_brain"] == np.sum(LESION & ~half)
    assert result.methods["anomaly_map"].cases["A"]["dice"] == 1.0
    assert "outside the brain mask" in result.warnings[0]


def test_case_without_its_brain_mask_is_an_error(study: Study, tmp_path: Path) -> None:
    study.add("A")
    (tmp_path / "masks").mkdir()
    with pytest.raises(MMCCDError, match="A has no brain mask"):
        study.evaluate(brain_masks=tmp_path / "masks")


def test_erosion_is_a_ball_in_millimetres() -> None:
    brain = np.zeros((5, 9, 9), bool)
    brain[1:4, 1:8, 1:8] = True
    expected = np.zeros_like(brain)
    for point in np.argwhere(brain):
        offsets = (np.argwhere(~brain) - point) * (3.0, 2.0, 1.0)
        expected[tuple(point)] = np.linalg.norm(offsets, axis=1).min() > 2.5
    assert 0 < expected.sum() < brain.sum()
    np.testing.assert_array_equal(erode(brain, (1.0, 2.0, 3.0), 2.5), expected)


def test_eroded_rim_is_not_judged_but_counted(study: Study) -> None:
    rim = BRAIN & ~erode(BRAIN, SPACING, 2.0)
    study.add("A", reference=LESION | rim, mask=LESION)
    result = study.evaluate(erosion_mm=2.0)
    facts = result.cases["A"]
    assert facts["reference_voxels_eroded"] == rim.sum()
    assert facts["reference_voxels_outside_brain"] == 0
    assert result.methods["anomaly_map"].cases["A"]["sensitivity"] == 1.0
    with pytest.raises(MMCCDError, match="no brain voxel left"):
        study.evaluate(erosion_mm=500.0)


def test_table_shows_methods_side_by_side(study: Study) -> None:
    for seed, case in enumerate("AB"):
        study.add(case, seed=seed)
    result = study.evaluate()
    table = method_table(result.methods, result.prevalence)
    lines = table.splitlines()
    assert "anomaly_map" in lines[0]
    assert "intensity" in lines[0]
    assert f"{result.prevalence:.4f}" in lines[0]
    auprc = next(line for line in lines if line.startswith("AUPRC"))
    assert [
        f"{method.pooled['auprc']:.4f}" if method.pooled["auprc"] < 1 else "1.000" for method in result.methods.values()
    ] == (auprc.split()[1:])
    assert any(line.startswith("best Dice (oracle)") for line in lines)
    assert next(line for line in lines if line.startswith("Dice")).split()[2] == "-"
    assert any(line.startswith("AUPRC") and "[" in line for line in lines)
    assert len({len(line) for line in table.split("\n\n")[0].splitlines()}) == 1


def test_table_says_over_how_many_cases_a_mean_is_taken(study: Study) -> None:
    study.add("A")
    study.add("healthy", reference=NOTHING, mask=NOTHING)
    result = study.evaluate()
    over_cases = method_table(result.methods, result.prevalence).split("\n\n")[1].splitlines()
    assert next(line for line in over_cases if line.startswith("AUPRC")).count("(n=1)") == 3
    assert "(n=" not in next(line for line in over_cases if line.startswith("Dice"))


def relabel(study: Study, case: str, array: np.ndarray) -> None:
    write_volume(array, GEOMETRY, study.labels / f"{case}.nii.gz")


def test_what_the_reference_ignores_is_in_no_figure(study: Study, tmp_path: Path) -> None:
    """Labels 1 and 3 are lesion by dataset.json; 2 hides a part of the lesion and a part of the rest."""
    score = BRAIN * np.random.default_rng(3).random(SHAPE).astype(np.float32)
    study.add("A", score=score)
    ignored = BRAIN & (GRID[2] < 7)
    label = np.where(ignored, 2, np.where(LESION, np.where(GRID[0] % 2, 1, 3), 0))
    relabel(study, "A", label.astype(np.uint8))
    save_json({"labels": {"background": 0, "core": 1, "ignore": 2, "oedema": 3}}, tmp_path / "dataset.json")
    result = study.evaluate()
    figures, judged = result.methods["anomaly_map"].cases["A"], BRAIN & ~ignored
    assert figures["auprc"] == pytest.approx(average_precision_score(LESION[judged], score[judged]))
    assert figures["dice"] == 1
    assert figures["masked_share"] == pytest.approx((LESION & judged).sum() / judged.sum())
    assert result.cases["A"]["ignored_voxels"] == ignored.sum()
    assert result.cases["A"]["brain_voxels"] == judged.sum()
    assert result.cases["A"]["reference_voxels"] == (LESION & judged).sum()


def test_dataset_json_is_found_in_the_folder_beside_it_or_where_it_is_given(study: Study, tmp_path: Path) -> None:
    study.add("A")
    expected = study.evaluate().methods
    relabel(study, "A", LESION.astype(np.uint8) * 4)
    with pytest.raises(MMCCDError, match=r"A\.nii\.gz holds unknown values \(4; known are 0 background, 1 lesion\)"):
        study.evaluate()
    content = {"labels": {"background": 0, "a": [1, 4]}}
    for place in (study.labels / "dataset.json", tmp_path / "dataset.json"):
        save_json(content, place)
        assert study.evaluate().methods == expected
        place.unlink()
    save_json(content, tmp_path / "elsewhere.json")
    assert "AUPRC" in evaluate(study.labels, study.maps, dataset_json=tmp_path / "elsewhere.json")
    save_json({"labels": {"background": 0, "a": "4"}}, tmp_path / "elsewhere.json")
    with pytest.raises(MMCCDError, match=r"elsewhere\.json: labels must"):
        evaluate(study.labels, study.maps, dataset_json=tmp_path / "elsewhere.json")


@pytest.mark.parametrize("value", [255, -1, 2, 0.5, 0.01])
def test_labels_of_no_meaning_give_no_figures(study: Study, value: float) -> None:
    study.add("A")
    relabel(study, "A", (LESION * value).astype(np.float32))
    with pytest.raises(MMCCDError, match=rf"A\.nii\.gz holds .*{value:g}"):
        study.evaluate()
    with pytest.raises(MMCCDError, match=rf"A\.nii\.gz holds .*{value:g}"):
        compare_folders(study.labels, {"model": study.maps})


def test_probabilities_are_no_brain_mask(study: Study, tmp_path: Path) -> None:
    study.add("A")
    expected = study.evaluate().methods
    write_volume((BRAIN * 0.7).astype(np.float32), GEOMETRY, tmp_path / "masks" / "A.nii.gz")
    with pytest.raises(MMCCDError, match=r"masks/A\.nii\.gz holds values that are no whole numbers"):
        study.evaluate(brain_masks=tmp_path / "masks")
    write_volume(BRAIN.astype(np.uint8), GEOMETRY, tmp_path / "masks" / "A.nii.gz")
    assert study.evaluate(brain_masks=tmp_path / "masks").methods == expected


def test_a_scan_on_a_background_of_nan_is_judged_as_on_0(study: Study) -> None:
    image = study.add("A")
    expected = study.evaluate().methods
    write_volume(np.where(BRAIN, image, np.float32(np.nan)), GEOMETRY, study.scans / "A_0000.nii.gz")
    assert study.evaluate().methods == expected
