"""A model calibrated on the user's own healthy scans: a new model, whose promise holds on them; nothing else moves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from mmccd_auto.cli.commands import calibrate as calibrate_command
from mmccd_auto.cli.commands import predict as predict_command
from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.options import LoadOptions, PredictionOptions
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import OWN_SCANS, fit_calibration, load_calibration
from mmccd_auto.inference.scores.found_rates import FoundRate, describe_found_rates, found_rates, rates_by
from mmccd_auto.sources.ages_table import read_ages_table
from mmccd_auto.trained.installed_models import UnpackedModel, installed_folder
from mmccd_auto.workflows.sharing.calibrate_on_scans import HealthyScans, Recalibrated, calibrate_on_scans
from mmccd_auto.workflows.sharing.install_model import install_model

NAMES = tuple(f"person_{letter}.nii.gz" for letter in "abcdef")
CPU = torch.device("cpu")


@pytest.fixture
def installed(model_file: Path, other_home: Folders) -> Folders:
    install_model(other_home, model_file)
    return other_home


def _run(command, *arguments: object) -> int:
    with patch.object(sys, "argv", ["command", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        command.main()
    return int(ended.value.code or 0)


def _calibrate(home: Folders, source: Path, name: str = "ours", **known: str) -> Recalibrated:
    return calibrate_on_scans(home, PredictionOptions(models=("tiny",)), HealthyScans(str(source), **known), name, CPU)


def _content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_the_command_makes_a_new_model_that_predicts(installed: Folders, scans, tmp_path: Path, capsys) -> None:
    folder, before = scans(*NAMES), _content(installed_folder(installed.results) / "tiny")
    home = ("--results_folder", installed.results)
    assert _run(calibrate_command, "-m", "tiny", "-i", folder, "--name", "ours", "-device", "cpu", *home) == 0
    told = capsys.readouterr().out
    for words in (OWN_SCANS, "6 subjects", "by the calibration until now", "mmccd_predict --model ours"):
        assert words in told
    assert _content(installed_folder(installed.results) / "tiny") == before
    assert _run(predict_command, "-m", "ours", "-i", folder, "-o", tmp_path / "maps", "-device", "cpu", *home) == 0
    ours = UnpackedModel.load(installed_folder(installed.results) / "ours")
    assert ours.manifest.name == "ours"
    text = (ours.path / "MODEL_CARD.md").read_text()
    assert "6 healthy people" in text
    assert "CC-BY-4.0" in text


def test_the_promise_holds_on_the_scans_that_it_was_made_on(installed: Folders, scans, tmp_path: Path) -> None:
    made = _calibrate(installed, scans(*NAMES))
    (model, *_) = UnpackedModel.load(made.path).models()
    predictor = Predictor.from_model_folder(model.path, LoadOptions(folds=["0"], false_positive_rate=0.05))
    shares = []
    for name in NAMES:
        prediction = predictor.predict_volume(read_volume(tmp_path / "scans" / name), name)
        inside = prediction.anomaly[prediction.brain]
        shares.append(np.mean(inside > prediction.threshold))
    # On the scan's grid instead of the network's, so nearly.
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)
    calibration = load_calibration(model.fold("0") / "calibration.json")
    assert (calibration.source, len(calibration.subjects)) == (OWN_SCANS, 6)
    assert calibration.edge is not None
    assert [one.subject for one in calibration.subjects] == [f"subject_{place:02d}" for place in range(1, 7)]


def test_known_lesions_and_their_surroundings_are_left_out(installed: Folders, scans, tmp_path: Path) -> None:
    folder = scans(*NAMES)
    plain = _calibrate(installed, folder, "plain")
    scan = read_volume(folder / NAMES[0])
    mark = np.zeros(scan.array.shape, dtype=np.uint8)
    mark[2:5, 10:16, 8:14] = 1
    altered = np.where(mark > 0, 3 * scan.array, scan.array).astype(np.float32)
    write_volume(altered, scan.geometry, folder / NAMES[0])
    (tmp_path / "labels").mkdir()
    write_volume(mark, scan.geometry, tmp_path / "labels" / "person_a.nii.gz")
    left_out = _calibrate(installed, folder, "left_out", labels=str(tmp_path / "labels"))
    counted = _calibrate(installed, folder, "counted")

    def first_person(made: Recalibrated):
        return next(iter(made.models.values())).by_fold["0"].subjects[0]

    assert first_person(left_out).pixels < first_person(plain).pixels
    assert first_person(counted).pixels == first_person(plain).pixels
    assert first_person(counted).case_score > 1.2 * first_person(left_out).case_score


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_what_is_marked_moves_no_score_of_the_rest(installed: Folders, make_scan, share: float) -> None:
    """However much of a brain is marked, what is far from it scores as before, and so do the units that are fitted."""
    (model, *_) = UnpackedModel.load(installed_folder(installed.results) / "tiny").models()
    predictor = Predictor.from_model_folder(model.path, LoadOptions(folds=["0"]))
    calibration = predictor.scoring.calibrations["0"]
    volumes = [make_scan(seed) for seed in range(3)]
    found = predictor.healthy_maps([Scan(volume, str(number)) for number, volume in enumerate(volumes)])
    plain = [maps[0] for maps in found]
    places = [np.cumsum(one.brain, axis=2) / np.maximum(one.brain.sum(axis=2, keepdims=True), 1) for one in plain]
    marked = []
    for one, place in zip(plain, places, strict=True):
        sick = one.brain & (place < share)
        # What is marked is far from healthy: nothing of it may move the rest.
        signed = np.where(sick, 50 * one.maps.signed + 5, one.maps.signed).astype(np.float32)
        marked.append(replace(one, maps=replace(one.maps, signed=signed)).without_abnormal(sick))
    for one, other, place in zip(plain, marked, places, strict=True):
        far = one.brain & (place > share + 0.5)
        ratio = calibration.scores(other)["brighter"][far] / calibration.scores(one)["brighter"][far]
        assert far.sum() > 50
        assert np.nanmedian(ratio) == pytest.approx(1, abs=0.25)
    units = [fit_calibration(cases, calibration.score, {}, OWN_SCANS, {}).units["brighter"] for cases in (plain, marked)]
    assert units[1] == pytest.approx(units[0], rel=0.25)


def test_what_is_marked_changes_no_map(installed: Folders, make_scan) -> None:
    model = UnpackedModel.load(installed_folder(installed.results) / "tiny").models()[0]
    predictor = Predictor.from_model_folder(model.path, LoadOptions(folds=["0"]))
    scan = make_scan(0)
    mark = np.zeros(scan.array.shape, dtype=np.uint8)
    mark[3, 12, 10] = 1
    (plain,), (marked,) = predictor.healthy_maps([Scan(scan, "a"), Scan(scan, "a", abnormal=Volume(mark, scan.geometry))])
    np.testing.assert_array_equal(plain.maps.signed, marked.maps.signed)
    # The distances to the brain's edge, which healthy errors go by, are those of the whole brain.
    np.testing.assert_array_equal(plain.brain, marked.brain)
    assert 0 < marked.healthy.sum() < plain.healthy.sum()
    assert not marked.healthy[marked.known_abnormal].any()


def test_the_maps_are_those_of_a_prediction(installed: Folders, make_scan) -> None:
    """The score of the case, made of the maps that a calibration sees, is what the prediction says."""
    model = UnpackedModel.load(installed_folder(installed.results) / "tiny").models()[0]
    predictor = Predictor.from_model_folder(model.path, LoadOptions(folds=["0"]))
    prediction = predictor.predict_volume(make_scan(3), "a")
    ((maps,),) = predictor.healthy_maps([Scan(make_scan(3), "a")])
    (found,) = rates_by(predictor.scoring.calibrations["0"], [replace(maps, subject="a")], [0.05])["everybody"]
    threshold = predictor.scoring.calibrations["0"].threshold(0.05)
    share = np.mean(prediction.anomaly[prediction.brain] > threshold)
    assert found.ratios[0] * 0.05 == pytest.approx(share, abs=0.03)


def test_a_scan_that_cannot_be_used_is_told_and_the_others_go_on(installed: Folders, scans, capsys) -> None:
    folder = scans(*NAMES)
    (folder / "person_g.nii.gz").write_bytes((folder / NAMES[0]).read_bytes()[:2000])
    arguments = ("-m", "tiny", "-i", folder, "--name", "ours", "-device", "cpu", "--results_folder", installed.results)
    assert _run(calibrate_command, *arguments) == 1
    printed = capsys.readouterr()
    assert "person_g" in printed.err
    assert "6 subjects" in printed.out


def _label(scan: Volume, folder: Path, name: str, where: tuple[slice, ...] | np.ndarray, moved_mm: float = 0.0) -> None:
    mark = np.zeros(scan.array.shape, dtype=np.uint8)
    mark[where] = 1
    origin = (scan.geometry.origin[0] + moved_mm, *scan.geometry.origin[1:])
    write_volume(mark, replace(scan.geometry, origin=origin), folder / f"{name}.nii.gz")


def test_labels_that_cannot_be_used_leave_their_scan_out(installed: Folders, scans, tmp_path: Path) -> None:
    """Else what is abnormal in them would be calibrated as healthy."""
    folder, labels = scans(*NAMES), tmp_path / "labels"
    labels.mkdir()
    read = {name[:8]: read_volume(folder / name) for name in NAMES}
    middle = (slice(2, 4), slice(10, 14), slice(8, 12))
    _label(read["person_a"], labels, "person_a", middle)
    _label(read["person_b"], labels, "person_b", middle, moved_mm=500.0)
    _label(read["person_c"], labels, "person_c", read["person_c"].array > 0)
    for ending in ("lesion", "seg"):
        _label(read["person_d"], labels, f"person_d_{ending}", middle)
    _label(read["person_e"], labels, "person_e", (slice(0, 2), slice(0, 2), slice(0, 2)))
    made = _calibrate(installed, folder, labels=str(labels))
    told = {text[:8]: text for text in made.failed}
    assert set(told) == {"person_b", "person_c", "person_d", "person_e"}
    for person, words in (
        ("person_b", "0 % of its label lies in its brain"),
        (
            "person_c",
            "% of the brain as healthy tissue" if "leaves" in told["person_c"] else "of its label lies in its brain",
        ),
        ("person_d", "has 2 labels"),
        ("person_e", "of its label lies in its brain"),
    ):
        assert words in told[person]
    assert all(len(one.subjects) == 2 for made_one in made.models.values() for one in made_one.by_fold.values())


def test_all_folds_of_an_installed_model_are_calibrated(installed: Folders, scans) -> None:
    asked = PredictionOptions(models=("tiny",), folds=("0",))
    with pytest.raises(MMCCDError, match="all of them are calibrated"):
        calibrate_on_scans(installed, asked, HealthyScans(str(scans(*NAMES))), "ours", CPU)
    assert not (installed_folder(installed.results) / "ours").exists()


def test_nothing_is_installed_where_none_can_be_used(installed: Folders, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(MMCCDError, match="can be used"):
        _calibrate(installed, tmp_path / "broken")
    assert not (installed_folder(installed.results) / "ours").exists()


def test_a_taken_name_is_refused_before_any_work(installed: Folders, scans) -> None:
    with pytest.raises(MMCCDError, match="installed already"):
        _calibrate(installed, scans(*NAMES), "tiny")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give DATASET"),
        (("-m", "tiny"), "give DATASET"),
        (("-m", "tiny", "-i", "scans"), "--name"),
        (("-i", "scans", "--name", "ours"), "give DATASET or --model"),
        (("-m", "tiny", "-i", "scans", "--name", "ours", "--max_slices", "5"), "--max_slices"),
        (("1", "-m", "tiny", "-i", "scans", "--name", "ours"), "leave out DATASET"),
        (("1", "--labels", "masks"), "--labels: it belongs to -i"),
        (("1", "--overwrite"), "--overwrite: it belongs to -i"),
    ],
)
def test_half_an_instruction_is_refused(arguments: tuple[str, ...], words: str, capsys) -> None:
    assert _run(calibrate_command, *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_trained_model_is_calibrated_on_a_copy(trained_ensemble, portable_home: Folders, scans) -> None:
    before = _content(portable_home.results)
    asked = PredictionOptions(dataset="900", trainer="MMCCDTrainer")
    made = calibrate_on_scans(portable_home, asked, HealthyScans(str(scans(*NAMES))), "ours", CPU)
    assert set(made.models[trained_ensemble[0].name].by_fold) == {"0", "2"}
    after = _content(portable_home.results)
    assert {name: after[name] for name in before} == before


def test_ages_make_rows_of_decades(installed: Folders, scans, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    rows = [f"person_{letter};{age}" for letter, age in zip("abcdef", (61, 68.4, 70, 71, 95.2, "n/a"), strict=True)]
    table.write_text("\n".join(["Name;Age at scan", *rows]))
    made = _calibrate(installed, scans(*NAMES), ages=str(table))
    calibration = next(iter(made.models.values())).by_fold["0"]
    assert [one.age for one in calibration.subjects] == [61, 68, 70, 71, 90, None]
    groups = {name: len(found[0].ratios) for name, found in found_rates(calibration.subjects).items()}
    assert groups == {"everybody": 6, "61 to 70 years": 3, "71 to 80 years": 1, "81 to 90 years": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,years\na,3", 'no column "age"'),
        ("name,age\nb,3", "tells nobody"),
        ("", "empty"),
        ("name,age\na,old", "nobody"),
    ],
)
def test_a_table_without_ages_is_a_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "ages.csv").write_text(text)
    with pytest.raises(MMCCDError, match=words):
        read_ages_table(tmp_path / "ages.csv", ["a"])


def test_an_age_is_nobody_s_name(tmp_path: Path) -> None:
    (tmp_path / "ages.csv").write_text("case,age\n5,61\n61,33\n")
    assert read_ages_table(tmp_path / "ages.csv", ["5", "61"]) == {"5": 61.0, "61": 33.0}


def test_found_rates_of_a_known_answer(trained_ensemble) -> None:
    """Three people alike meet the promise exactly; a fourth with ten times the tail exceeds it, and only that one."""
    subject = load_calibration(trained_ensemble[0] / "fold_0" / "calibration.json").subjects[0]
    classes = len(subject.histograms["combined"])

    def person(high: int):
        counts = [0] * classes
        counts[10], counts[100] = 10000 - high, high
        return replace(subject, histograms={**subject.histograms, "combined": tuple(counts)})

    alike = found_rates([person(100)] * 3, [0.01])["everybody"][0]
    assert alike.ratios == pytest.approx((1.0, 1.0, 1.0), rel=0.02)
    odd = found_rates([*[person(100)] * 3, person(1000)], [0.01])["everybody"][0]
    assert odd.worst == pytest.approx(10.0, rel=0.02)
    assert max(odd.ratios[:3]) <= 1
    assert found_rates([person(100)]) == {}


def test_rates_are_written_with_interval_and_worst() -> None:
    text = describe_found_rates({"everybody": [FoundRate(0.005, (0.5, 1.5, 4.0))]})
    assert "0.005" in text
    assert "2.00 x (" in text
    assert "worst 4.0 x" in text
    assert describe_found_rates({}) == ""


def test_the_card_holds_the_new_figures(installed: Folders, scans) -> None:
    made = _calibrate(installed, scans(*NAMES))
    card = load_json(next(made.path.glob("*/model_card.json")))
    assert (card["calibrated_on"], card["calibration_source"], card["name"]) == (6, OWN_SCANS, "ours")
