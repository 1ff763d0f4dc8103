"""The control without a network, and how much of healthy tissue a reconstruction explains: known answers, and commands."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mmccd_auto.cli.commands.evaluate import main as evaluate_main
from mmccd_auto.cli.commands.predict import main as predict_main
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.choice.fold_gain import describe_gain, fold_gain, load_gain
from mmccd_auto.inference.choice.synthetic_check import alter_cases
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps, load_validation_record
from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import SCORES, OutputOptions, PredictionOptions
from mmccd_auto.inference.prediction.ensemble import Ensemble
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import fit_calibration, load_calibration
from mmccd_auto.inference.scores.control import control_maps, control_scores, fit_control, reconstruction_r2
from mmccd_auto.plans.plan import Plan, ScorePlan
from mmccd_auto.preprocessing.preprocess_case import preprocess_case, to_scan_grid
from mmccd_auto.preprocessing.slices import load_case_records, read_slices
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.workflows.sharing.describe_model import MakersWords
from mmccd_auto.workflows.sharing.export_model import export_model

CPU = torch.device("cpu")
SPACING = (3.0, 2.0, 2.0)


def reconstructed(
    seed: int, reconstruction: float | np.ndarray | None = None, subject: str = "a", slices: int = 6
) -> CaseMaps:
    """Slices of a known scan and its reconstruction (None: the scan itself), as maps."""
    brain = np.zeros((slices, 30, 34), dtype=bool)
    brain[:, 3:27, 4:30] = True
    noise = np.random.default_rng(seed).standard_normal(brain.shape)
    scan = np.where(brain, ndimage.gaussian_filter(noise, 1.0) * 4 + 0.5, 0).astype(np.float32)
    expected = scan if reconstruction is None else np.where(brain, reconstruction, 0).astype(np.float32)
    signed = scan - expected
    maps = SliceMaps(signed**2, signed, expected, brain.astype(np.float32), 1)
    return CaseMaps(f"{subject}{seed}", subject, tuple(range(slices)), SPACING, maps, brain)


def scan(case: CaseMaps) -> np.ndarray:
    return case.maps.signed + case.maps.cycle


def test_a_perfect_reconstruction_explains_everything_and_the_best_constant_nothing() -> None:
    perfect = reconstructed(0)
    values = scan(perfect)[perfect.brain]
    assert reconstruction_r2([perfect]) == 1
    assert reconstruction_r2([reconstructed(0, values.mean())]) == pytest.approx(0, abs=1e-6)
    half = reconstructed(0, np.where(perfect.brain, values.mean() + 0.5 * (scan(perfect) - values.mean()), 0))
    assert reconstruction_r2([half]) == pytest.approx(0.75, abs=1e-5)
    another = values.mean() + 2 * values.std()
    assert reconstruction_r2([reconstructed(0, another)]) == pytest.approx(-4, rel=1e-4)


def test_r2_is_of_all_slices_of_a_subject_and_counts_only_what_was_reconstructed() -> None:
    parts = [reconstructed(1, 0.2), reconstructed(2, 0.2)]
    values = np.concatenate([scan(part)[part.brain] for part in parts])
    expected = 1 - np.sum((values - 0.2) ** 2) / np.sum((values - values.mean()) ** 2)
    assert reconstruction_r2(parts) == pytest.approx(expected, rel=1e-5)
    (one, _) = parts
    coverage = one.maps.coverage.copy()
    coverage[:, :, :15] = 0
    seen = one.brain & (coverage > 0)
    hidden = replace(one, maps=replace(one.maps, coverage=coverage, signed=np.where(seen, one.maps.signed, 0)))
    values = scan(one)[seen]
    expected = 1 - np.sum((values - 0.2) ** 2) / np.sum((values - values.mean()) ** 2)
    assert reconstruction_r2([hidden]) == pytest.approx(expected, rel=1e-5)


def test_a_scan_without_variance_has_no_r2_and_the_mean_is_over_the_others() -> None:
    flat = reconstructed(0)
    flat = replace(flat, subject="flat", maps=replace(flat.maps, cycle=np.where(flat.brain, np.float32(1), np.float32(0))))
    assert reconstruction_r2([flat]) is None
    cases = [flat, reconstructed(1, subject="b"), reconstructed(2, 0.5, subject="c")]
    calibration = fit_calibration(cases, ScorePlan(), {}, "healthy validation slices", {})
    told = {one.subject: one.reconstruction_r2 for one in calibration.subjects}
    assert told["flat"] is None
    assert calibration.reconstruction_r2 == pytest.approx((told["b"] + told["c"]) / 2)


def test_the_constant_is_the_median_brain_whatever_the_reconstruction_and_every_subject_counts_the_same() -> None:
    many, few = reconstructed(1, subject="a", slices=40), reconstructed(2, subject="b", slices=2)
    values = [np.sort(scan(case)[case.brain]) for case in (many, few)]
    constant = fit_control([many, few], ScorePlan()).constant
    shares = [np.searchsorted(one, constant) / len(one) for one in values]
    assert np.mean(shares) == pytest.approx(0.5, abs=2e-3)
    others = [
        replace(case, maps=replace(case.maps, signed=scan(case) - 7 * case.brain, cycle=7 * case.brain.astype(np.float32)))
        for case in (many, few)
    ]
    assert fit_control(others, ScorePlan()).constant == pytest.approx(constant, abs=1e-5)


def test_the_controls_score_is_that_of_a_model_whose_reconstruction_is_the_constant() -> None:
    healthy = [reconstructed(1, subject="a"), reconstructed(2, subject="b")]
    control = fit_control(healthy, ScorePlan())
    constant = [control_maps(case, control.constant) for case in healthy]
    as_model = fit_calibration(constant, ScorePlan(), {}, "healthy validation slices", {})
    assert control.healthy_error == as_model.healthy_error
    assert control.units == as_model.units
    assert as_model.reconstruction_r2 <= 0
    for name, values in control_scores(reconstructed(3), control, ScorePlan()).items():
        assert name in SCORES
        assert not values[~healthy[0].brain].any()
        assert np.isfinite(values).all()


def independent_control(
    healthy: list[tuple[np.ndarray, np.ndarray]],
    image: np.ndarray,
    brain: np.ndarray,
    runs: list[list[slice]],
    spacing: tuple[float, float, float],
) -> np.ndarray:
    """Steps 1 to 5 of documentation/scores.md with one constant, written out in numpy for a score of FLAIR.

    Parameters
    ----------
    healthy : (image, brain) of one case of each subject
    image, brain : to be scored, all slices adjacent
    runs : of adjacent slices of each of ``healthy``
    spacing : mm between slices, rows, columns
    """

    def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weights[order])
        return values[order][np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))]

    def distance_class(one: np.ndarray) -> np.ndarray:
        padded = np.pad(one, ((0, 0), (1, 1), (1, 1)))
        edge = np.stack([ndimage.distance_transform_edt(each)[1:-1, 1:-1] for each in padded]) * spacing[1]
        return np.digitize(edge, [3, 6, 10, 16])

    def smoothed(values: np.ndarray, inside: np.ndarray, slices: list[slice]) -> np.ndarray:
        result = np.zeros(values.shape)
        for run in slices:
            if inside[run].any():
                sums, mass = (
                    ndimage.gaussian_filter(part, [3 / edge for edge in spacing], mode="constant")
                    for part in (np.where(inside[run], values[run], 0.0), inside[run].astype(float))
                )
                result[run][inside[run]] = sums[inside[run]] / mass[inside[run]]
        return result

    weights = np.concatenate([np.full(one.sum(), 1 / one.sum()) for _, one in healthy])
    constant = quantile(np.concatenate([values[one] for values, one in healthy]), weights, 0.5)
    classes = np.concatenate([distance_class(one)[one] for _, one in healthy])
    tables = {}
    for sign in (1, -1):
        error = np.maximum(sign * (np.concatenate([values[one] for values, one in healthy]) - constant), 0)
        overall = quantile(error, weights, 0.95)
        table = []
        for number in range(5):
            part = classes == number
            own = quantile(error[part], weights[part], 0.95) if part.any() else 0.0
            table.append(max(0.05, (part.sum() * own + 300 * overall) / (part.sum() + 300)))
        tables[sign] = np.array(table)

    def relative(values: np.ndarray, one: np.ndarray) -> dict[int, np.ndarray]:
        return {sign: np.maximum(sign * (values - constant), 0) / tables[sign][distance_class(one)] for sign in (1, -1)}

    medians = [np.median(sum(relative(values, one).values())[one]) for values, one in healthy]

    def signed_scores(values: np.ndarray, one: np.ndarray, slices: list[slice]) -> dict[int, np.ndarray]:
        found = relative(values, one)
        own = max(np.median(sum(found.values())[one]) / np.median(medians), 0.25)
        return {sign: smoothed(part / own, one, slices) for sign, part in found.items()}

    known = [signed_scores(values, one, slices) for (values, one), slices in zip(healthy, runs, strict=True)]
    units = {
        sign: quantile(
            np.concatenate([part[sign][one] for part, (_, one) in zip(known, healthy, strict=True)]), weights, 0.99
        )
        for sign in (1, -1)
    }
    scored = signed_scores(image, brain, [slice(0, len(image))])
    return np.maximum(scored[1] / units[1], 0.5 * scored[-1] / units[-1])


def test_the_control_is_what_numpy_makes_of_the_same_steps() -> None:
    healthy = [reconstructed(1, subject="a"), reconstructed(2, subject="b"), reconstructed(5, subject="c", slices=3)]
    lesion = np.zeros(healthy[0].brain.shape, dtype=bool)
    lesion[2:4, 10:16, 12:18] = True
    case = reconstructed(3)
    case = replace(case, maps=replace(case.maps, signed=case.maps.signed + 1.5 * lesion.astype(np.float32)))
    expected = independent_control(
        [(scan(one), one.brain) for one in healthy],
        scan(case),
        case.brain,
        [[slice(0, len(one.brain))] for one in healthy],
        SPACING,
    )
    found = control_scores(case, fit_control(healthy, ScorePlan()), ScorePlan())["combined"]
    # Up to the unit of both signs together, which doesn't change the order.
    np.testing.assert_allclose(found[case.brain] / found.max(), expected[case.brain] / expected.max(), atol=1e-4)
    brain = case.brain
    auprc = average_precision_score(lesion[brain], expected[brain])
    assert average_precision_score(lesion[brain], found[brain]) == pytest.approx(auprc, abs=1e-4)


@pytest.fixture
def calibrated(model_folder: Callable[..., Path], quick_plan: Plan, preprocessed: Path) -> Path:
    path = model_folder("mmccd", ("0", "2"), quick_plan)
    calibrate_model(path, preprocessed, device=CPU)
    return path


def run(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mmccd", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_predict_and_evaluate_set_the_control_beside_the_map(
    calibrated: Path,
    quick_plan: Plan,
    make_scan: Callable[..., Volume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the commands; what the control scores is computed again from its constant, from another place."""
    patient = make_scan(11)
    label = np.zeros(patient.array.shape, dtype=np.uint8)
    label[3:5, 10:15, 8:13] = 1
    array = patient.array + 300 * label.astype(np.float32)
    write_volume(array, patient.geometry, tmp_path / "scans" / "p_0000.nii.gz")
    write_volume(label, patient.geometry, tmp_path / "labels" / "p.nii.gz")
    maps, figures = tmp_path / "maps", tmp_path / "figures.json"
    # One fit, so that the scan can be prepared again below by itself.
    predicting = ("-m", calibrated, "-i", tmp_path / "scans", "-o", maps, "--no_report", "--fits", 1)
    judging = ("-ref", tmp_path / "labels", "-pred", maps, "-i", tmp_path / "scans", "-o", figures, "-np", 0)
    assert run(predict_main, monkeypatch, *predicting) == 0
    assert run(evaluate_main, monkeypatch, *judging) == 0
    assert "mmccd_predict --save_control writes it" in capsys.readouterr().out
    assert "control" not in load_json(figures)["methods"]

    assert run(predict_main, monkeypatch, *predicting, "--save_control", "--continue_prediction") == 0
    assert "p_control.nii.gz" in load_json(maps / "p.json")["files"]
    assert run(evaluate_main, monkeypatch, *judging) == 0
    table = capsys.readouterr().out
    methods = load_json(figures)["methods"]
    assert list(methods) == ["anomaly_map", "control", "intensity", "smoothed intensity"]
    brain = array > 0
    control = read_volume(maps / "p_control.nii.gz").array
    assert methods["control"]["cases"]["p"]["auprc"] == pytest.approx(average_precision_score(label[brain], control[brain]))
    gain = methods["anomaly_map"]["cases"]["p"]["auprc"] - methods["control"]["cases"]["p"]["auprc"]
    for found in (methods["anomaly_map"]["cases"]["p"], methods["anomaly_map"]["mean"], methods["anomaly_map"]["pooled"]):
        assert found["gain_over_control"] == pytest.approx(gain)
    assert methods["control"]["cases"]["p"]["gain_over_control"] is None
    (line,) = [line for line in table.splitlines() if line.startswith("p ")]
    assert line.split()[-1] == f"{gain:+.4f}"
    assert "gain over the control" in figures.with_suffix(".html").read_text(encoding="utf-8")

    ready = preprocess_case("p", {"FLAIR": Volume(array, patient.geometry)}, quick_plan)
    slices = np.flatnonzero(ready.brain.any(axis=(1, 2)))
    image, inside = ready.image[0, slices], ready.brain[slices]
    maps_of = SliceMaps(*(np.zeros_like(image) for _ in range(2)), np.where(inside, image, 0), inside.astype(np.float32), 0)
    case = CaseMaps("p", "p", tuple(slices.tolist()), ready.geometry.slice_spacing, maps_of, inside)
    calibration = load_calibration(calibrated / "fold_0" / "calibration.json")
    whole = np.zeros(ready.brain.shape, dtype=np.float32)
    whole[slices] = control_scores(case, calibration.control, calibration.score)["combined"]
    np.testing.assert_allclose(control, to_scan_grid(whole, ready.geometry, ready.native_brain), atol=1e-3)


def test_a_control_of_some_cases_only_is_judged_in_none(
    calibrated: Path, make_scan: Callable[..., Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    for seed, case in enumerate("pq"):
        volume = make_scan(20 + seed)
        write_volume(volume.array, volume.geometry, tmp_path / "scans" / f"{case}_0000.nii.gz")
        label = np.zeros(volume.array.shape, dtype=np.uint8)
        label[3, 12, 10] = 1
        write_volume(label, volume.geometry, tmp_path / "labels" / f"{case}.nii.gz")
    maps = tmp_path / "maps"
    assert run(predict_main, monkeypatch, "-m", calibrated, "-i", tmp_path / "scans", "-o", maps, "--save_control") == 0
    (maps / "q_control.nii.gz").unlink()
    for names in ((), ("--names", "mine")):
        caplog.clear()
        output = tmp_path / "figures.json"
        judging = ("-ref", tmp_path / "labels", "-pred", maps, "-i", tmp_path / "scans", "-o", output, "-np", 0)
        assert run(evaluate_main, monkeypatch, *judging, *names) == 0
        assert f"q: no control in {maps}" in caplog.text
        assert "control" not in load_json(output)["methods"]


def test_a_model_calibrated_by_an_earlier_version_says_how_to_get_a_control(
    calibrated: Path, scans: Callable[..., Path], tmp_path: Path
) -> None:
    for path in calibrated.glob("fold_*/calibration.json"):
        content = load_json(path)
        del content["control"]
        for subject in content["subjects"]:
            del subject["reconstruction_r2"]
        save_json(content, path)
    predictor = Predictor.from_model_folder(calibrated)
    assert predictor.scoring.calibrated
    with pytest.raises(MMCCDError, match=r"has no control without a network.*mmccd_calibrate"):
        predictor.predict_folder(scans("p.nii.gz"), tmp_path / "maps", OutputOptions(save_control=True))
    content["control"] = {"constant": 0.0, "healthy_error": content["healthy_error"], "units": {"combined": 1.0}}
    save_json(content, path)
    with pytest.raises(MMCCDError, match=r"control\.units\.brighter is missing"):
        load_calibration(path)


def test_an_ensembles_control_is_the_mean_of_its_models_controls(
    calibrated: Path, model_folder: Callable[..., Path], quick_plan: Plan, preprocessed: Path, make_scan
) -> None:
    other = model_folder("cyclic_unet", plan=replace(quick_plan, plans_name="others"))
    calibrate_model(other, preprocessed, device=CPU, max_slices=4)
    members = [Predictor.from_model_folder(path) for path in (calibrated, other)]
    scan = make_scan(3)

    def control(predictor: Predictor | Ensemble) -> np.ndarray:
        (prediction,) = predictor.predict_volumes([Scan(scan, "p")], control=True)
        return prediction.control

    expected = np.mean([control(one) for one in members], axis=0)
    np.testing.assert_allclose(control(Ensemble(members)), expected, rtol=1e-5, atol=1e-6)


def test_the_gain_of_a_fold_is_measured_once_and_told(calibrated: Path, preprocessed: Path) -> None:
    found = fold_gain(calibrated, "0", preprocessed, CPU)
    path = calibrated / "fold_0" / "gain.json"
    assert load_gain(path) == found
    assert list(found.auprc) == ["map", "control", "smoothed intensity", "intensity"]
    assert found.gain == pytest.approx(found.auprc["map"] - found.auprc["control"], abs=1e-6)
    assert found.interval[0] < found.gain < found.interval[1]
    record = load_json(preprocessed.parent / "models" / calibrated.name / "fold_0" / "validation" / "validation.json")
    assert found.people == len(set(record["cases"].values()))
    told = describe_gain(found)
    assert f"{found.gain:+.3f}" in told
    assert f"control             {found.auprc['control']:.3f}" in told
    changed = {**asdict(found), "gain": 0.125}
    save_json(changed, path)
    assert fold_gain(calibrated, "0", preprocessed, CPU).gain == 0.125
    save_json({**changed, "weights_sha256": "0" * 64}, path)
    assert fold_gain(calibrated, "0", preprocessed, CPU) == found


def test_a_gain_is_measured_by_as_many_fits_as_the_calibration_has(calibrated: Path, preprocessed: Path) -> None:
    assert fold_gain(calibrated, "0", preprocessed, CPU).settings["fits"] == 2
    calibrate_model(calibrated, preprocessed, device=CPU, fits=1)
    once = fold_gain(calibrated, "0", preprocessed, CPU)
    assert once.settings["fits"] == 1
    # Earlier versions knew one fit only, and didn't say so.
    settings = {name: value for name, value in once.settings.items() if name != "fits"}
    save_json({**asdict(once), "settings": settings, "gain": 0.125}, calibrated / "fold_0" / "gain.json")
    assert fold_gain(calibrated, "0", preprocessed, CPU).gain == 0.125


def test_anomalies_for_the_gain_are_put_into_the_slices_of_the_second_fit(calibrated: Path, preprocessed: Path) -> None:
    model = ModelFolder(calibrated)
    healthy = load_validation_maps(model, "0", load_validation_record(model, "0", preprocessed), preprocessed)
    records = load_case_records(preprocessed)
    moved = []
    for one in alter_cases(healthy, "FLAIR", preprocessed, records, 1, refitted=True):
        places = sorted(set(range(len(one.run.indices))) - set(one.touched))
        inside, record = one.run.brain[places], records[one.run.case]
        found = one.anomaly.image[places][inside]
        np.testing.assert_array_equal(found, scan(one.run)[places][inside])
        stored = read_slices(preprocessed, record, one.run.indices)[0][record.modalities.index("FLAIR")]
        moved.append(np.abs(found - stored[places][inside]).max(initial=0))
    # Maps are kept as float16, which alone makes a difference of some thousandths.
    assert max(moved) > 0.02


def test_a_broken_gain_is_named_with_the_remedy(calibrated: Path, preprocessed: Path) -> None:
    path = calibrated / "fold_0" / "gain.json"
    save_json({"gain": "much"}, path)
    with pytest.raises(MMCCDError, match=r"gain\.json.*run mmccd_train again"):
        fold_gain(calibrated, "0", preprocessed, CPU)


def test_the_card_of_a_model_that_travels_tells_gain_and_r2(
    trained_ensemble: tuple[Path, Path], portable_home: Folders, preprocessed: Path, tmp_path: Path
) -> None:
    model = trained_ensemble[0]
    found = fold_gain(model, "2", preprocessed, CPU)
    calibration = load_calibration(model / "fold_2" / "calibration.json")
    export_model(portable_home, PredictionOptions(models=(str(model),)), tmp_path / "model.zip", "tiny", MakersWords())
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        card = json.loads(archive.read(f"{model.name}/model_card.json"))
        text = archive.read("MODEL_CARD.md").decode()
    assert card["gain_over_control"] == {"0": None, "2": pytest.approx(found.gain, abs=1e-6)}
    assert card["reconstruction_r2"] == pytest.approx(calibration.reconstruction_r2, abs=1e-6)
    assert f"fold 0: not known, fold 2: {found.gain:+.3f}" in text


def test_a_fold_without_calibration_or_maps_has_no_gain(
    model_folder: Callable[..., Path], quick_plan: Plan, preprocessed: Path
) -> None:
    with pytest.raises(MMCCDError, match=r"fold_0 has no control.*mmccd_calibrate"):
        fold_gain(model_folder("mmccd", ("0",), quick_plan), "0", preprocessed, CPU)
