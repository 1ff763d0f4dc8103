"""Cross-validation of a tiny random model on scans on disk: who predicts whom, by what calibration, and what is told."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from mmccd_auto.cli.commands.cross_validate import main
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.evaluation.cross_validation import CrossValidation, describe_cross_validation
from mmccd_auto.evaluation.evaluate import evaluate_folder
from mmccd_auto.evaluation.judging import EvaluationOptions
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.held_out.held_out_calibration import WITHOUT_OWN
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.plan import (
    PLANS_FILE,
    ConfigurationPlan,
    DiffusionPlan,
    NetworkPlan,
    Plan,
    TrainingPlan,
)
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import write_case
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, Checkpoint, save_checkpoint
from mmccd_auto.workflows.cross_validate import cross_validate

CPU = torch.device("cpu")
DATASET = "Dataset900_Tiny"
MODEL = "MMCCDTrainer__mmccdPlans__FLAIR-T1"
SPLITS = [
    {"train": ["c", "d", "e", "f"], "val": ["a", "b"]},
    {"train": ["a", "b", "e"], "val": ["c", "d", "f"]},
    {"train": ["a", "b", "c", "d", "f"], "val": ["e"]},
]
GEOMETRY = Geometry((22, 26, 7), (4.5, 5.0, 7.0), (-30.0, 12.5, 7.25), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
PLAN = Plan(
    plans_name="mmccdPlans",
    dataset_name=DATASET,
    planner="MMCCDPlanner",
    modalities=("FLAIR", "T1"),
    slice_axis="axial",
    target_spacing=4.0,
    patch_size=(32, 32),
    normalisation={"FLAIR": "percentile", "T1": "percentile"},
    strip_width=8,
    network=NetworkPlan(
        base_channels=8, channel_multipliers=(1, 2), residual_blocks=1, attention_edges=(16,), norm_groups=4
    ),
    diffusion=DiffusionPlan(),
    training=TrainingPlan(batch_size=4, iterations_per_epoch=5, num_epochs=2),
    default_configuration="FLAIR-T1",
    configurations={"FLAIR-T1": ConfigurationPlan("FLAIR", "T1", sampling_steps=1, strip_stride=8)},
    cost={},
)


@dataclass(frozen=True)
class Home:
    """Raw scans, splits and a model with the folds 0 and 1; b and c have a lesion, f has no FLAIR, nobody trained fold 2."""

    root: Path

    @property
    def folders(self) -> Folders:
        return Folders(self.root / "raw", self.root / "preprocessed", self.root / "results")

    @property
    def raw(self) -> Path:
        return self.folders.raw / DATASET

    @property
    def preprocessed(self) -> Path:
        return self.folders.preprocessed / DATASET / "mmccdPlans"

    @property
    def splits(self) -> Path:
        return self.folders.preprocessed / DATASET / "splits_final.json"

    @property
    def model(self) -> Path:
        return self.folders.results / DATASET / MODEL

    def maps(self, fold: str) -> Path:
        return self.figures.parent / f"fold_{fold}"

    @property
    def figures(self) -> Path:
        """The result."""
        return self.folders.results / DATASET / "cross_validation" / MODEL / "cross_validation.json"

    def validation(self, fold: str) -> Path:
        """Maps of the healthy slices that a fold held out."""
        return self.preprocessed.parent / "models" / MODEL / f"fold_{fold}" / "validation"

    def run(self, folds: tuple[str, ...] | None = None, overwrite: bool = False) -> CrossValidation:
        return cross_validate(self.folders, PredictionOptions(dataset="900", folds=folds), CPU, overwrite=overwrite)


def _scan(seed: int, lesion: np.ndarray | None) -> Volume:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in reversed(GEOMETRY.size)), indexing="ij")
    brain = (x / 0.8) ** 2 + ((y + 0.05) / 0.85) ** 2 + ((z - 0.1 * x) / 0.95) ** 2 < 1
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=brain.shape), 1.0)
    array = np.where(brain, 400 + 60 * x - 40 * y + 600 * noise, 0).astype(np.float32)
    return Volume(array if lesion is None else array + 300 * lesion.astype(np.float32), GEOMETRY)


def _save_fold(model: Path, fold: str, seed: int, trained_on: list[str]) -> None:
    cycle = build_cycle("mmccd", PLAN)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in cycle.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    weights = cycle.state_dict()
    record = {"training_cases": trained_on}
    checkpoint = Checkpoint("mmccd", "MMCCDTrainer", PLAN, "FLAIR-T1", fold, 1, 5, weights, weights, record=record)
    save_checkpoint(checkpoint, model / f"fold_{fold}" / CHECKPOINT_FINAL)


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """They would take most of the time, and other tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmccd_auto.inference.prediction.case_files.case_picture", lambda path, *_, **__: path.touch())
        yield


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Everything as training leaves it."""
    home = Home(tmp_path_factory.mktemp("home"))
    content = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "lesion": 1}, "numTraining": 6}
    save_json({**content, "file_ending": ".nii.gz"}, home.raw / "dataset.json")
    for seed, case in enumerate("abcdef"):
        lesion = None
        if case in "bc":
            lesion = np.zeros(tuple(reversed(GEOMETRY.size)), dtype=np.uint8)
            lesion[3:5, 10:15, 8:13] = 1
            write_volume(lesion, GEOMETRY, home.raw / "labelsTr" / f"{case}.nii.gz")
        scan = _scan(seed, lesion)
        for channel in "1" if case == "f" else "01":
            write_volume(scan.array, GEOMETRY, home.raw / "imagesTr" / f"{case}_000{channel}.nii.gz")
        volumes = {"T1": scan} if case == "f" else {"FLAIR": scan, "T1": scan}
        label = None if lesion is None else Volume(lesion, GEOMETRY)
        write_case(home.preprocessed, preprocess_case(case, volumes, PLAN, label=label))
    save_json(SPLITS, home.splits)
    PLAN.save(home.model / PLANS_FILE)
    save_json({}, home.model / "dataset.json")
    for seed, fold in enumerate("01"):
        _save_fold(home.model, fold, seed, SPLITS[seed]["train"])
    calibrate_model(home.model, home.preprocessed, device=CPU)
    return home


@pytest.fixture(scope="module")
def finished(untouched: Home) -> tuple[Home, CrossValidation]:
    """Cross-validated; tests only look at it."""
    return untouched, untouched.run()


@pytest.fixture
def home(finished: tuple[Home, CrossValidation], tmp_path: Path) -> Home:
    """A copy of the cross-validated model and its scans, to be spoilt."""
    shutil.copytree(finished[0].root, tmp_path / "home")
    return Home(tmp_path / "home")


def anomaly(home: Home, fold: str, case: str) -> np.ndarray:
    return read_volume(home.maps(fold) / f"{case}_anomaly.nii.gz").array


def blow_up_validation_maps(home: Home, fold: str) -> None:
    """Make the cycle's errors on a fold's healthy held-out slices five times as large."""
    for path in home.validation(fold).glob("*.npz"):
        with np.load(path) as file:
            content = dict(file)
        for name in ("signed", "squared"):
            content[name] = content[name] * 5
        np.savez_compressed(path, **content)


def test_every_case_is_predicted_once_by_the_fold_that_held_it_out(finished):
    home, result = finished
    assert {fold: list(one.cases) for fold, one in result.evaluations.items()} == {"0": ["a", "b"], "1": ["c", "d"]}
    for fold, cases in (("0", "ab"), ("1", "cd")):
        assert sorted(path.name for path in home.maps(fold).glob("*_anomaly.nii.gz")) == [
            f"{case}_anomaly.nii.gz" for case in cases
        ]
        for case in cases:
            record = load_json(home.maps(fold) / f"{case}.json")
            assert (record["folds"], record["input_file"]) == ([fold], f"{case}_0000.nii.gz")
        assert list(pd.read_csv(home.maps(fold) / "summary.csv")["case"]) == list(cases)


def test_a_fold_without_a_calibration_of_its_own_is_predicted_as_the_others_are_calibrated(home: Home, finished):
    assert finished[1].predictions["1"].settings["fits"] == 2
    (home.model / "fold_1" / "calibration.json").unlink()
    told = home.run(overwrite=True).predictions["1"]
    assert (told.calibration, told.calibration_folds) == (WITHOUT_OWN, ("0",))
    assert told.settings == finished[1].predictions["1"].settings
    np.testing.assert_array_equal(anomaly(home, "1", "c"), anomaly(finished[0], "1", "c"))


def test_the_summary_agrees_with_an_evaluation_of_the_same_maps(finished, tmp_path):
    home, result = finished
    summary = load_json(home.figures)
    assert summary == result.to_json() | {"predictions": summary["predictions"]}
    together, labels = tmp_path / "maps", tmp_path / "labels"
    for fold in "01":
        shutil.copytree(home.maps(fold), together, dirs_exist_ok=True)
    shutil.copytree(home.raw / "labelsTr", labels)
    for case in "ad":
        write_volume(np.zeros((7, 26, 22), dtype=np.uint8), GEOMETRY, labels / f"{case}.nii.gz")
    evaluated = evaluate_folder(labels, together, EvaluationOptions(home.raw / "imagesTr"))
    for ours, theirs in (("MMCCDTrainer", "anomaly_map"), ("control", "control"), ("intensity", "intensity")):
        for figure in ("auprc", "gain_over_control", "best_dice", "dice", "masked_share"):
            mean = evaluated.methods[theirs].mean[figure]
            assert summary["methods"][ours][figure]["mean"] == (None if mean is None else pytest.approx(mean))
        for case in "abcd":
            assert summary["cases"][case]["figures"][ours] == evaluated.methods[theirs].cases[case]
    assert summary["methods"]["MMCCDTrainer"]["auprc"]["cases"] == 2
    assert set(summary["methods"]) == {"MMCCDTrainer", "control", "intensity", "smoothed intensity"}


def test_the_gain_over_the_control_and_r2_are_told_for_each_fold(finished):
    home, result = finished
    summary = load_json(home.figures)
    for case, fold in (("b", "0"), ("c", "1")):
        figures = summary["cases"][case]["figures"]
        gain = figures["MMCCDTrainer"]["auprc"] - figures["control"]["auprc"]
        assert figures["MMCCDTrainer"]["gain_over_control"] == pytest.approx(gain)
        explained = []
        for path in sorted(home.validation(fold).glob("*.npz")):
            with np.load(path) as maps:
                brain, error = maps["brain"], maps["signed"].astype(np.float64)
                scan = (maps["cycle"].astype(np.float32) + maps["signed"].astype(np.float32))[brain].astype(np.float64)
            explained.append(1 - np.mean(error[brain] ** 2) / scan.var())
        prediction = summary["predictions"][fold]
        assert prediction["control"]
        assert prediction["reconstruction_r2"] == pytest.approx(np.mean(explained), abs=1e-4)
        assert prediction["reconstruction_subjects"] == len(explained)
    people = [one["reconstruction_subjects"] for one in summary["predictions"].values()]
    expected = np.average([one["reconstruction_r2"] for one in summary["predictions"].values()], weights=people)
    assert summary["reconstruction_r2"] == pytest.approx(expected)
    table = describe_cross_validation(result)
    row = next(line for line in table.splitlines() if line.startswith("mean over 4 cases"))
    assert f"{expected:.4f}" in row
    assert "gain: AUPRC less that of the control" in table


def test_the_masked_share_of_healthy_cases_is_told(finished):
    home, result = finished
    healthy = load_json(home.figures)["healthy"]
    assert healthy["cases"] == ["a", "d"]
    shares = []
    for fold, case in (("0", "a"), ("1", "d")):
        brain = read_volume(home.raw / "imagesTr" / f"{case}_0000.nii.gz").array > 0
        shares.append(read_volume(home.maps(fold) / f"{case}_mask.nii.gz").array[brain].mean())
        assert result.evaluations[fold].methods["MMCCDTrainer"].cases[case]["auprc"] is None
    assert healthy["masked_share"] == {"mean": pytest.approx(np.mean(shares)), "largest": pytest.approx(max(shares))}
    assert f"mark {np.mean(shares):.4f} of the brain on average" in describe_cross_validation(result)


def test_the_table_has_every_fold_and_case_and_what_is_left_out(finished):
    _, result = finished
    assert result.left_out == {"e": "held out by fold 2, which is not trained", "f": "it has no FLAIR"}
    table = describe_cross_validation(result)
    rows = [line.split("  ")[0] for line in table.splitlines()]
    expected = ["mean over 4 cases", "fold 0, mean over 2 cases", "a, fold 0, healthy", "c, fold 1"]
    assert set(expected) <= set(rows)
    assert "left out: e, held out by fold 2, which is not trained." in table
    row = next(line for line in table.splitlines() if line.startswith("b, fold 0 "))
    figures = result.evaluations["0"].methods
    *of_map, r2, _, _, _, _, _, _ = row.split()[-12:]
    assert r2 == "-"
    of_model = ("auprc", "gain_over_control", "best_dice", "dice", "masked_share")
    assert [float(value) for value in (*of_map, *row.split()[-6:])] == pytest.approx(
        [
            *(figures["MMCCDTrainer"].cases["b"][name] for name in of_model),
            *(figures["control"].cases["b"][name] for name in ("auprc", "best_dice")),
            *(figures["intensity"].cases["b"][name] for name in ("auprc", "best_dice")),
            *(figures["smoothed intensity"].cases["b"][name] for name in ("auprc", "best_dice")),
        ],
        abs=1e-4,
    )


def test_the_calibration_knows_nothing_of_the_people_that_are_predicted(home):
    before = [anomaly(home, fold, case) for fold, case in ("0a", "0b", "1c", "1d")]
    blow_up_validation_maps(home, "0")
    result = home.run(("0",), overwrite=True)
    assert list(pd.read_csv(home.maps("0") / "summary.csv")["status"]) == ["done", "done"]
    for case, one in zip("ab", before[:2], strict=True):
        np.testing.assert_array_equal(anomaly(home, "0", case), one)
    assert result.predictions["0"].calibration == "without the fold's own subjects"
    assert result.predictions["0"].calibration_folds == ("1",)
    # The other fold is calibrated on these maps, so that its own are of no use any more.
    home.run()
    assert list(pd.read_csv(home.maps("0") / "summary.csv")["status"]) == ["kept", "kept"]
    for case, one in zip("cd", before[2:], strict=True):
        assert anomaly(home, "1", case).max() < 0.9 * one.max()


def test_people_of_the_fold_are_left_out_of_the_maps_of_other_folds(home, finished):
    validation = home.validation("1")
    record = load_json(validation / "validation.json")
    # As if fold 1 had held them out, too, by splits of another time.
    for case, subject in (("a", "renamed"), ("renamed", "b")):
        (validation / f"{case}.npz").write_bytes(b"not to be read")
        record["cases"][case] = subject
    save_json(record, validation / "validation.json")
    result = home.run(("0",))
    assert result.predictions == {"0": finished[1].predictions["0"]}


def test_finished_maps_are_kept_and_what_is_missing_is_made(home):
    (home.maps("1") / "d.json").unlink()
    times = {path: path.stat().st_mtime_ns for fold in "01" for path in home.maps(fold).glob("?_anomaly.nii.gz")}
    before = load_json(home.figures)
    home.run()
    changed = [path.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == ["d_anomaly.nii.gz"]
    assert list(pd.read_csv(home.maps("1") / "summary.csv")["status"]) == ["kept", "done"]
    assert load_json(home.figures) == before


def test_without_labels_only_the_masked_share_is_told(home, caplog):
    shutil.rmtree(home.raw / "labelsTr")
    with caplog.at_level(logging.WARNING):
        result = home.run()
    assert any("labelsTr holds no label" in text for text in caplog.messages)
    summary = load_json(home.figures)
    assert summary["methods"]["MMCCDTrainer"]["auprc"]["mean"] is None
    assert summary["healthy"]["cases"] == ["a", "b", "c", "d"]
    assert summary["healthy"]["masked_share"]["mean"] >= 0
    assert "0 cases with an abnormality: AUPRC and best Dice are undefined" in describe_cross_validation(result)


@pytest.mark.parametrize(("calibrated", "calibration"), [(True, "of the fold itself"), (False, "none")])
def test_a_single_fold_has_no_calibration_but_its_own(home, caplog, calibrated, calibration):
    shutil.rmtree(home.model / "fold_1")
    if not calibrated:
        (home.model / "fold_0" / "calibration.json").unlink()
    with caplog.at_level(logging.WARNING):
        result = home.run()
    assert load_json(home.figures)["predictions"]["0"]["calibration"] == calibration
    assert any("the very people that are predicted" in text for text in caplog.messages) == calibrated
    assert result.left_out["c"] == "held out by fold 1, which is not trained"
    assert f"calibration {calibration}" in describe_cross_validation(result)


def test_what_was_chosen_on_held_out_cases_is_told(home):
    assert load_json(home.figures)["warnings"] == []
    (home.model / "fold_1" / "checkpoint_best.pth").touch()
    choice = {"sampling_steps": 1, "strip_stride": 8, "score": asdict(PLAN.configuration("FLAIR-T1").score), "why": ""}
    save_json(choice, home.model / "inference.json")
    home.run()
    told = load_json(home.figures)["warnings"]
    assert ["inference.json: steps" in told[0], "checkpoint_best.pth of fold 1:" in told[1]] == [True, True]


def test_given_brain_masks_and_other_file_endings_are_used(home):
    brain = read_volume(home.raw / "imagesTr" / "a_0000.nii.gz").array > 0
    brain[:, :12] = False
    for path in [*(home.raw / "imagesTr").iterdir(), *(home.raw / "labelsTr").iterdir()]:
        volume = read_volume(path)
        write_volume(volume.array, volume.geometry, path.with_name(path.name.replace(".nii.gz", ".mha")))
        path.unlink()
    write_volume(brain.astype(np.uint8), GEOMETRY, home.raw / "brain_masksTr" / "a.mha")
    save_json({**load_json(home.raw / "dataset.json"), "file_ending": ".mha"}, home.raw / "dataset.json")
    result = home.run(("0",))
    assert result.evaluations["0"].cases["a"]["brain_voxels"] == np.count_nonzero(brain)
    assert result.evaluations["0"].cases["b"]["reference_voxels"] > 0
    assert result.left_out["c"] == "held out by fold 1, left out by -f"


def test_what_can_not_be_validated_is_one_sentence(home):
    with pytest.raises(MMCCDError, match="no finished fold 2"):
        home.run(("2",))
    save_json([*SPLITS[:1], {"train": ["e"], "val": ["a", "c", "d"]}, SPLITS[2]], home.splits)
    with pytest.raises(MMCCDError, match="a is held out by fold 0 and by fold 1"):
        home.run()
    save_json([SPLITS[0], {"train": ["a"], "val": ["c", "e"]}], home.splits)
    with pytest.raises(MMCCDError, match=r"holds e out of fold 1, but .* was trained on the same people"):
        home.run()
    home.splits.unlink()
    with pytest.raises(MMCCDError, match=r"splits_final.json does not exist"):
        home.run()
    shutil.rmtree(home.model / "fold_1")
    (home.model / "fold_0").rename(home.model / "fold_all")
    save_json(SPLITS, home.splits)
    with pytest.raises(MMCCDError, match="the fold all holds no case out"):
        home.run()


def test_a_case_that_can_not_be_predicted_or_judged_leaves_no_figures(home):
    home.figures.unlink()
    label = home.raw / "labelsTr" / "c.nii.gz"
    write_volume(np.ones((3, 3, 3), dtype=np.uint8), replace(GEOMETRY, size=(3, 3, 3)), label)
    with pytest.raises(MMCCDError, match=r"labelsTr/c.nii.gz and .* are not on one grid") as caught:
        home.run()
    assert str(label) in str(caught.value)
    scan = home.raw / "imagesTr" / "a_0000.nii.gz"
    scan.write_bytes(scan.read_bytes()[:500])
    with pytest.raises(MMCCDError, match=r"1 held-out cases .* no figures") as caught:
        home.run()
    assert str(scan) in str(caught.value)
    assert not home.figures.exists()


def test_the_command_prints_the_table(home, monkeypatch, capsys):
    folders = [option for kind in ("raw", "preprocessed", "results") for option in (f"--{kind}_folder", home.root / kind)]
    options = ["900", "-f", "0", "-np", "0", "-device", "cpu", *folders]
    monkeypatch.setattr(sys, "argv", ["mmccd_cross_validate", *map(str, options)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "fold 0, mean over 2 cases" in capsys.readouterr().out
