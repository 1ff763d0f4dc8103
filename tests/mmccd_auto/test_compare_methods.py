"""Several methods side by side: the same voxels, the smoothed baseline, paired differences, the table, and every fault."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmccd_auto.cli.commands.evaluate import main
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.evaluation.baselines import SMOOTHING_MM, intensity_score
from mmccd_auto.evaluation.compare import ComparisonResult, compare_folders, name_predictions
from mmccd_auto.evaluation.cross_validation import cross_validation_summary
from mmccd_auto.evaluation.evaluate import evaluate_folder
from mmccd_auto.evaluation.judging import EvaluationOptions
from mmccd_auto.evaluation.metrics import bootstrap_interval
from mmccd_auto.evaluation.results import EvaluationResult, MethodResult
from mmccd_auto.evaluation.table import comparison_table
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.smoothing import smooth_inside
from mmccd_auto.imaging.volume import Geometry

SHAPE = (10, 16, 14)
SPACING = (1.5, 2.0, 3.0)
GEOMETRY = Geometry(tuple(reversed(SHAPE)), SPACING, (5.0, -7.0, 11.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
GRID = np.indices(SHAPE)
BRAIN = sum(((axis - (size - 1) / 2) / (size / 2 - 1.5)) ** 2 for axis, size in zip(GRID, SHAPE, strict=True)) < 1
LESION = BRAIN & (abs(GRID[0] - 5) < 2) & (abs(GRID[1] - 8) < 3) & (abs(GRID[2] - 6) < 3)
NOTHING = np.zeros(SHAPE, bool)
METHODS = ("good", "poor")
NOISE = {"good": 0.8, "poor": 3.0}


class Study:
    """Labels, scans in two modalities and a folder of predictions for each method."""

    def __init__(self, folder: Path) -> None:
        self.labels, self.scans = folder / "labels", folder / "scans"
        self.maps = {method: folder / method for method in METHODS}
        for path in (self.labels, self.scans, *self.maps.values()):
            path.mkdir()

    def add(self, case: str, seed: int, reference: np.ndarray = LESION) -> None:
        """Write one case of all methods, predicted from FLAIR."""
        generator = np.random.default_rng(seed)
        write_volume(reference.astype(np.uint8), GEOMETRY, self.labels / f"{case}.nii.gz")
        for modality, sign in (("FLAIR", 1), ("T1", -1)):
            image = np.where(BRAIN, 100 + 20 * generator.random(SHAPE) + sign * 8 * reference, 0)
            write_volume(image.astype(np.float32), GEOMETRY, self.scan(case, modality))
        for method in METHODS:
            score = (BRAIN * (NOISE[method] * generator.random(SHAPE) + reference)).astype(np.float32)
            self.predict(method, case, score)

    def predict(
        self, method: str, case: str, score: np.ndarray, modality: str = "FLAIR", geometry: Geometry = GEOMETRY
    ) -> None:
        """Write what a method says of a case; its mask is where the score exceeds 1."""
        write_volume(score, geometry, self.maps[method] / f"{case}_anomaly.nii.gz")
        write_volume((score > 1).astype(np.uint8), geometry, self.maps[method] / f"{case}_mask.nii.gz")
        self.record(method, case, modality)

    def record(self, method: str, case: str, modality: str) -> None:
        """Say from which modality a case was predicted."""
        content = {"input_file": str(self.scan(case, modality)), "input_modality": modality}
        save_json(content, self.maps[method] / f"{case}.json")

    def scan(self, case: str, modality: str) -> Path:
        return self.scans / f"{case}_{modality}.nii.gz"

    def compare(self, output: Path | None = None, processes: int = 0, **options) -> ComparisonResult:
        return compare_folders(self.labels, self.maps, EvaluationOptions(**options), output, processes)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = Study(tmp_path)
    for seed, case in enumerate("ABC"):
        study.add(case, seed)
    return study


def test_figures_are_those_of_each_folder_by_itself(study: Study) -> None:
    result = study.compare(erosion_mm=1.6)
    assert list(result.methods) == ["good", "poor", "intensity", "smoothed intensity"]
    for method, folder in study.maps.items():
        alone = evaluate_folder(study.labels, folder, EvaluationOptions(erosion_mm=1.6))
        assert result.methods[method] == alone.methods["anomaly_map"]
        assert result.methods["intensity"] == alone.methods["intensity"]
        assert result.prevalence == alone.prevalence
        assert result.cases["A"]["methods"][method].items() <= alone.cases["A"].items()
        assert result.cases["A"]["brain_voxels"] == alone.cases["A"]["brain_voxels"]


def test_worker_processes_give_the_same_comparison(study: Study) -> None:
    assert study.compare(processes=1) == study.compare(processes=0)


@pytest.mark.parametrize("spacing", [(1.5, 2.0, 3.0), (0.9, 5.0, 1.2)])
def test_smoothing_is_the_weighted_mean_over_the_brain_alone(spacing: tuple[float, float, float]) -> None:
    score = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    points = np.argwhere(BRAIN) * spacing[::-1]
    weights = np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=-1) / (2 * 3.0**2))
    expected = weights @ score[BRAIN] / weights.sum(axis=1)
    smoothed = smooth_inside(np.where(BRAIN, score, 1e6), BRAIN, spacing, SMOOTHING_MM)
    # The Gaussian is cut at four standard deviations.
    np.testing.assert_allclose(smoothed[BRAIN], expected, atol=2e-3)
    assert not smoothed[~BRAIN].any()
    assert smoothed.dtype == np.float32


@pytest.mark.parametrize("brain", [BRAIN, np.ones(SHAPE, bool), (GRID == 3).all(axis=0)])
def test_what_is_constant_inside_the_brain_stays_constant(brain: np.ndarray) -> None:
    smoothed = smooth_inside(np.where(brain, np.float32(1.7), -3), brain, (0.5, 1.0, 8.0), SMOOTHING_MM)
    assert set(smoothed[brain].tolist()) == {np.float32(1.7)}


def test_smoothed_intensity_is_judged_beside_the_intensity(study: Study) -> None:
    scores = []
    for case in "ABC":
        image = np.random.default_rng("ABC".index(case)).random(SHAPE)
        flair = np.where(BRAIN, 100 + 20 * image + 8 * LESION, 0).astype(np.float32)
        scores.append(smooth_inside(intensity_score(flair, BRAIN, "FLAIR", case), BRAIN, SPACING, SMOOTHING_MM)[BRAIN])
    result = study.compare()
    expected = average_precision_score(np.tile(LESION[BRAIN], 3), np.concatenate(scores))
    assert result.methods["smoothed intensity"].pooled["auprc"] == pytest.approx(expected)
    assert result.methods["smoothed intensity"].pooled["auprc"] > 1.1 * result.methods["intensity"].pooled["auprc"]
    assert result.methods["smoothed intensity"].cases["A"]["dice"] is None


def test_methods_of_different_modalities_have_a_baseline_for_each(study: Study) -> None:
    for case in "ABC":
        study.record("poor", case, "T1")
    result = study.compare()
    baselines = ["intensity FLAIR", "smoothed intensity FLAIR", "intensity T1", "smoothed intensity T1"]
    assert list(result.methods) == [*METHODS, *baselines]
    alone = {method: evaluate_folder(study.labels, folder).methods["intensity"] for method, folder in study.maps.items()}
    assert result.methods["intensity FLAIR"] == alone["good"]
    assert result.methods["intensity T1"] == alone["poor"]
    assert result.methods["intensity T1"].pooled["auroc"] > 0.6
    facts = result.cases["B"]["methods"]
    assert [(facts[name]["modality"], facts[name]["intensity_sign"]) for name in METHODS] == [
        ("FLAIR", "bright"),
        ("T1", "dark"),
    ]


def test_modalities_that_change_from_case_to_case(study: Study) -> None:
    for method in METHODS:
        study.record(method, "B", "T1")
    assert list(study.compare().methods) == [*METHODS, "intensity", "smoothed intensity"]
    study.record("good", "B", "FLAIR")
    with pytest.raises(MMCCDError, match=r"from FLAIR in A but from FLAIR, T1 in B: compare folders"):
        study.compare()


def test_all_methods_are_judged_in_the_brain_that_all_have(study: Study) -> None:
    half = BRAIN & (GRID[2] < 7)
    write_volume(half.astype(np.uint8), GEOMETRY, study.maps["poor"] / "A_brain.nii.gz")
    result = study.compare()
    facts = result.cases["A"]
    assert facts["brain_voxels"] == facts["brain_voxels_of_all"] == half.sum()
    assert facts["brain_voxels_of_any"] == BRAIN.sum()
    assert facts["reference_voxels_outside_brain"] == np.sum(LESION & ~half)
    assert (
        result.methods["poor"].cases["A"]
        == evaluate_folder(study.labels, study.maps["poor"]).methods["anomaly_map"].cases["A"]
    )
    for folder in study.maps.values():
        write_volume(half.astype(np.uint8), GEOMETRY, folder / "A_brain.nii.gz")
    assert result.methods == study.compare().methods
    assert any(text.startswith("A: ") and "brain in some folders only" in text for text in result.warnings)
    assert not any("in some folders only" in text for text in study.compare().warnings)


def test_differences_are_of_the_same_cases_of_both(study: Study) -> None:
    study.add("healthy", 3, reference=NOTHING)
    result = study.compare()
    assert set(result.differences) == {"poor", "intensity", "smoothed intensity"}
    for other, differences in result.differences.items():
        pairs = [
            (figures["auprc"], result.methods[other].cases[case]["auprc"])
            for case, figures in result.methods["good"].cases.items()
            if case != "healthy"
        ]
        values = np.array(pairs) @ (1, -1)
        assert differences["auprc"].mean == pytest.approx(values.mean())
        assert differences["auprc"].interval == bootstrap_interval(values)
        assert differences["auprc"].cases == 3
    dice = [result.methods[method].mean["dice"] for method in METHODS]
    assert result.differences["poor"]["dice"].mean == pytest.approx(dice[0] - dice[1])
    assert result.differences["poor"]["dice"].cases == 4
    undefined = result.differences["intensity"]["dice"]
    assert (undefined.mean, undefined.interval, undefined.cases) == (None, None, 0)


def test_table_has_the_differences_below_and_says_on_how_many_cases_they_rest(study: Study) -> None:
    study.add("healthy", 3, reference=NOTHING)
    result = study.compare()
    sections = [section.splitlines() for section in comparison_table(result).split("\n\n")]
    assert sections[2][0].startswith("good minus other, mean over 4 cases [95 % interval]")
    assert sections[2][0].split("interval]")[1].split() == ["poor", "intensity", "smoothed", "intensity"]
    rows = {line.split("  ")[0]: line for line in sections[2][2:]}
    assert list(rows) == ["AUPRC", "best Dice (oracle)", "Dice"]
    auprc = result.differences["poor"]["auprc"]
    assert f"{auprc.mean:+.4f} [{auprc.interval[0]:+.4f}, {auprc.interval[1]:+.4f}] (n=3)" in rows["AUPRC"]
    assert "(n=" not in rows["Dice"]
    assert sections[3][0].startswith("Intervals over fewer than 10 cases are too narrow")
    assert any(line.startswith("Dice / best Dice") for line in sections[1])


def test_one_case_has_no_interval(study: Study) -> None:
    for case in "BC":
        (study.labels / f"{case}.nii.gz").unlink()
    result = study.compare()
    assert result.differences["poor"]["auprc"].interval is None
    *differences, without_control = comparison_table(result).split("\n\n")[2:]
    assert "mmccd_predict --save_control" in without_control
    assert len(differences) == 1
    assert "mean over 1 case " in differences[0]
    assert "[" not in differences[0]
    assert sum("without reference" in text for text in result.warnings) == len(METHODS)


def test_command_compares_folders(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    folders = [str(folder) for folder in study.maps.values()]
    command = ["mmccd_evaluate", "-ref", str(study.labels), "-pred", *folders, "--names", "first", "second"]
    monkeypatch.setattr(sys, "argv", [*command, "-o", str(output), "-np", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "first minus other, mean over 3 cases" in capsys.readouterr().out
    content = load_json(output)
    result = compare_folders(study.labels, dict(zip(("first", "second"), study.maps.values(), strict=True)))
    assert content == json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(content["methods"]) == ["first", "second", "intensity", "smoothed intensity"]
    assert set(content["differences"]["second"]) == {"auprc", "best_dice", "dice"}
    assert set(content["differences"]["second"]["auprc"]) == {"mean", "interval", "cases"}
    assert content["settings"]["predictions"] == dict(zip(("first", "second"), folders, strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["anomaly_map", "intensity", "smoothed intensity"]),
        (["--names", "mine"], ["mine", "intensity", "smoothed intensity"]),
    ],
)
def test_command_with_one_folder(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[str]
) -> None:
    output = tmp_path / "figures.json"
    command = ["mmccd_evaluate", "-ref", str(study.labels), "-pred", str(study.maps["good"]), "-o", str(output), "-np", "0"]
    monkeypatch.setattr(sys, "argv", command + options)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    content = load_json(output)
    assert list(content["methods"]) == expected
    assert ("differences" in content) is bool(options)


def test_each_folder_has_a_control_of_its_own(study: Study) -> None:
    """Known answer: the control of the one is a copy of its map, that of the other the other's map."""
    for case in "ABC":
        good = (study.maps["good"] / f"{case}_anomaly.nii.gz").read_bytes()
        for method in study.maps:
            (study.maps[method] / f"{case}_control.nii.gz").write_bytes(good)
    result = study.compare()
    controls = ["control of good", "control of poor"]
    assert list(result.methods) == ["good", "poor", *controls, "intensity", "smoothed intensity"]
    assert list(result.differences) == ["poor", *controls, "intensity", "smoothed intensity"]
    good, poor = (result.methods[method] for method in ("good", "poor"))
    for case in "ABC":
        assert good.cases[case]["gain_over_control"] == 0
        assert poor.cases[case]["gain_over_control"] == poor.cases[case]["auprc"] - good.cases[case]["auprc"]
    assert poor.mean["gain_over_control"] == pytest.approx(poor.mean["auprc"] - good.mean["auprc"])
    assert poor.pooled["gain_over_control"] == pytest.approx(poor.pooled["auprc"] - good.pooled["auprc"])
    *_, of_good, of_poor = comparison_table(result).split("\n\n")
    assert of_good.startswith("good, by case")
    row = next(line for line in of_poor.splitlines() if line.startswith("B "))
    assert row.split() == ["B", f"{poor.cases['B']['auprc']:.4f}", f"{poor.cases['B']['gain_over_control']:+.4f}"]
    (study.maps["poor"] / "B_control.nii.gz").unlink()
    assert list(study.compare().methods) == ["good", "poor", "control of good", "intensity", "smoothed intensity"]


def test_cases_missing_in_any_folder_are_one_error_that_lists_them_all(study: Study) -> None:
    (study.maps["good"] / "A_anomaly.nii.gz").unlink()
    for case in "AC":
        (study.maps["poor"] / f"{case}_anomaly.nii.gz").unlink()
    with pytest.raises(MMCCDError) as error:
        study.compare()
    message = str(error.value)
    assert message.startswith("2 of 3 cases")
    for method, case in (("good", "A"), ("poor", "A"), ("poor", "C")):
        assert str(study.maps[method] / f"{case}_anomaly.nii.gz") in message
    assert "B_anomaly" not in message
    assert str(study.maps["good"] / "C_anomaly.nii.gz") not in message


def test_folders_on_different_grids(study: Study) -> None:
    moved = Geometry(GEOMETRY.size, SPACING, (5.0, -7.0, 15.0), GEOMETRY.direction)
    study.predict("poor", "B", LESION.astype(np.float32), geometry=moved)
    with pytest.raises(MMCCDError, match="1 of 3 cases") as error:
        study.compare()
    paths = [study.maps[method] / "B_anomaly.nii.gz" for method in ("poor", "good")]
    assert f"{paths[0]} and {paths[1]} are not on one grid" in str(error.value)


def test_folders_of_different_scans_of_one_modality(study: Study) -> None:
    other = study.scans / "other.nii.gz"
    scan = np.where(BRAIN, 100 + np.random.default_rng(9).random(SHAPE), 0).astype(np.float32)
    write_volume(scan, GEOMETRY, other)
    save_json({"input_file": str(other), "input_modality": "FLAIR"}, study.maps["poor"] / "C.json")
    with pytest.raises(MMCCDError, match=r"C_FLAIR\.nii\.gz and .*other.nii.gz are both the FLAIR of C but differ"):
        study.compare()
    other.write_bytes(study.scan("C", "FLAIR").read_bytes())
    assert "intensity" in study.compare().methods


def test_names_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_predictions(["x/maps", "."]) == {"maps": Path("x/maps"), tmp_path.name: Path(".")}
    assert list(name_predictions(["x/maps", "y/maps"], ["one", "two"])) == ["one", "two"]
    with pytest.raises(MMCCDError, match=r"x.maps, y.maps have one name, 'maps'"):
        name_predictions(["x/maps", "z", "y/maps"])
    with pytest.raises(MMCCDError, match="have one name, 'same'"):
        name_predictions(["x", "y"], ["same", "same"])
    with pytest.raises(MMCCDError, match="3 names for 2 folders"):
        name_predictions(["x", "y"], ["one", "two", "three"])
    with pytest.raises(MMCCDError, match="empty name"):
        name_predictions(["x"], [""])
    for baseline in ("intensity", "intensity T1", "smoothed intensity", "control", "control of x"):
        with pytest.raises(MMCCDError, match=f"name of a baseline, '{baseline}'"):
            name_predictions(["x"], [baseline])
    assert list(name_predictions(["x"], ["intensity2"])) == ["intensity2"]


def test_no_folder_and_impossible_erosion(study: Study) -> None:
    with pytest.raises(MMCCDError, match="No folder"):
        compare_folders(study.labels, {})
    with pytest.raises(MMCCDError, match="erosion"):
        study.compare(erosion_mm=-1.0)


def _fold(cases: dict[str, float | None], erosion_mm: float = 0.0, method: str = "anomaly_map") -> EvaluationResult:
    defined = [dice for dice in cases.values() if dice is not None]
    figures = MethodResult(
        cases={case: {"dice": dice} for case, dice in cases.items()},
        pooled={},
        defined_cases={"dice": len(defined)},
        mean={"dice": float(np.mean(defined)) if defined else None},
        median={},
        interval={},
    )
    return EvaluationResult({method: figures}, 0.1, {case: {} for case in cases}, {"erosion_mm": erosion_mm}, ())


def test_cross_validation_summary_by_hand() -> None:
    summary = cross_validation_summary(
        {"0": _fold({"A": 0.2, "B": 0.4, "C": 0.6}), "1": _fold({"D": 0.8, "E": None}), "2": _fold({"F": None})}
    )
    assert summary["folds"] == {"0": ["A", "B", "C"], "1": ["D", "E"], "2": ["F"]}
    assert summary["methods"]["anomaly_map"]["dice"] == {
        "mean": pytest.approx(0.5),
        "cases": 4,
        "mean_of_folds": pytest.approx(0.6),
        "deviation_of_folds": pytest.approx(0.2 * np.sqrt(2)),
        "folds": {"0": pytest.approx(0.4), "1": 0.8, "2": None},
    }
    undefined = summary["methods"]["anomaly_map"]["auprc"]
    assert [undefined[name] for name in ("mean", "cases", "mean_of_folds", "deviation_of_folds")] == [None, 0, None, None]


def test_cross_validation_summary_of_evaluations(study: Study) -> None:
    results = {}
    for case in "ABC":
        for other in "ABC":
            study.labels.joinpath(f"{other}.nii.gz").unlink(missing_ok=True)
        write_volume(LESION.astype(np.uint8), GEOMETRY, study.labels / f"{case}.nii.gz")
        results[case] = evaluate_folder(study.labels, study.maps["poor"])
    summary = cross_validation_summary(results)
    json.dumps(summary, allow_nan=False)
    values = [results[case].methods["anomaly_map"].cases[case]["dice_of_oracle"] for case in "ABC"]
    found = summary["methods"]["anomaly_map"]["dice_of_oracle"]
    assert found["mean"] == found["mean_of_folds"] == pytest.approx(np.mean(values))
    assert found["deviation_of_folds"] == pytest.approx(np.std(values, ddof=1))
    assert found["folds"] == dict(zip("ABC", values, strict=True))


def test_cross_validation_of_folds_that_do_not_belong_together() -> None:
    with pytest.raises(MMCCDError, match="no fold"):
        cross_validation_summary({})
    with pytest.raises(MMCCDError, match="A is held out in fold 0 and in fold 1"):
        cross_validation_summary({"0": _fold({"A": 0.2}), "1": _fold({"A": 0.2})})
    with pytest.raises(MMCCDError, match=r"erosion of 2\.0 mm but fold 0 with 0\.0 mm"):
        cross_validation_summary({"0": _fold({"A": 0.2}), "1": _fold({"B": 0.2}, erosion_mm=2.0)})
    with pytest.raises(MMCCDError, match="same methods"):
        cross_validation_summary({"0": _fold({"A": 0.2}), "1": _fold({"B": 0.2}, method="other")})
