"""Maps that use a person's other modalities where they are there: any subset, by public functions and the command."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from dicom_writing import CLEAN, T1, T2, write_scans
from scipy import ndimage

from mmccd_auto.cli.commands.predict import _command as predict_command
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model, needed_for_subset
from mmccd_auto.inference.prediction.ensemble import Ensemble
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import load_calibration
from mmccd_auto.inference.scores.further import best_fitting, subset_name, subsets_of
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.model.subset_remover import SubsetRemover
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.preprocessing.further_modalities import lay_further
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import write_case
from mmccd_auto.sources.beside import load_beside
from mmccd_auto.sources.cases import SourceOptions, list_source_cases
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, Checkpoint, save_checkpoint
from mmccd_auto.trained.portable.portable_fold import planned_weights
from mmccd_auto.workflows.pacs.objects import make_objects
from mmccd_auto.workflows.sharing.without_people import nameless_calibrations

CPU = torch.device("cpu")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MODALITIES = ("FLAIR", "T1", "T2")
SUBSETS = [(), ("T1",), ("T2",), ("T1", "T2")]
SIZE, SPACING = (36, 42, 16), (4.0, 4.0, 7.0)


@pytest.fixture
def plan(tiny_plan: Plan) -> Plan:
    """The tiny plan of three modalities."""
    return replace(tiny_plan, modalities=MODALITIES, normalisation=dict.fromkeys(MODALITIES, "percentile"))


def person(seed: int = 0, lesion: bool = False) -> dict[str, Volume]:
    """One brain-only head in three modalities on one grid, of three tissues; a lesion is seen in all of them."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in reversed(SIZE)), indexing="ij")
    brain = (x / 0.8) ** 2 + ((y + 0.05) / 0.85) ** 2 + ((z - 0.1 * x) / 0.95) ** 2 < 1
    brain &= ~((x > 0.5) & (y > 0.3))
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=brain.shape), 1.5)
    tissue = np.digitize(noise, np.quantile(noise[brain], (0.2, 0.6)))
    sick = (x - 0.3) ** 2 + (y + 0.3) ** 2 + (z / 0.8) ** 2 < 0.05
    levels = {"FLAIR": (150, 420, 330, 600), "T1": (120, 300, 450, 180), "T2": (700, 400, 280, 650)}
    volumes = {}
    for number, (name, values) in enumerate(levels.items()):
        kind = np.where(sick, 3, tissue) if lesion else tissue
        grain = np.random.default_rng([seed, number]).normal(0, 8, brain.shape)
        array = np.where(brain, np.choose(kind, values) + grain, 0).astype(np.float32)
        volumes[name] = Volume(array, Geometry(SIZE, SPACING, (-30.0, 12.5, 7.25), IDENTITY))
    return volumes


@pytest.fixture
def preprocessed(tmp_path: Path, plan: Plan) -> Path:
    """Five people; e has no T2. Fold 0 holds a to d out."""
    folder = tmp_path / "preprocessed" / plan.dataset_name / plan.plans_name
    for seed, case in enumerate("abcde"):
        volumes = person(seed)
        if case == "e":
            del volumes["T2"]
        write_case(folder, preprocess_case(case, volumes, plan))
    save_json([{"train": ["e"], "val": ["a", "b", "c", "d"]}], folder.parent / "splits_final.json")
    return folder


@pytest.fixture
def make_model(tmp_path: Path, plan: Plan, preprocessed: Path) -> Callable[..., Path]:
    """Writes and calibrates a model whose network is small and random, and gives its folder."""

    def make(method: str = "subset_remover", trainer: str = "MMCCDTrainerSubsetRemover", seed: int = 1) -> Path:
        folder = tmp_path / "results" / plan.dataset_name / f"{trainer}__{plan.plans_name}__FLAIR-T1"
        plan.save(folder / PLANS_FILE)
        save_json({}, folder / "dataset.json")
        cycle = build_cycle(method, plan)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in cycle.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        weights = cycle.state_dict()
        save_checkpoint(
            Checkpoint(method, trainer, plan, "FLAIR-T1", "0", 1, 5, weights, weights), folder / "fold_0" / CHECKPOINT_FINAL
        )
        calibrate_model(folder, preprocessed, device=CPU)
        return folder

    return make


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    return make_model()


def moved(volume: Volume) -> Volume:
    """The same scan on a finer grid, stored along other axes, and the person lies 6 mm farther to one side."""
    array = ndimage.zoom(volume.array, (1, 1.25, 1.25), order=1)
    size = tuple(reversed(array.shape))
    spacing = tuple(old * count / new for old, count, new in zip(SPACING, SIZE, size, strict=True))
    start = tuple(first + (new - old) / 2 for first, new, old in zip(volume.geometry.origin, spacing, SPACING, strict=True))
    # Stored from left to right and from posterior to anterior.
    last = tuple(first + edge * (count - 1) for first, edge, count in zip(start, spacing, size, strict=True))
    geometry = Geometry(size, spacing, (last[0] + 6.0, last[1], start[2]), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    return Volume(np.ascontiguousarray(array[:, ::-1, ::-1]), geometry)


def of(volumes: dict[str, Volume], names: tuple[str, ...]) -> dict[str, Volume]:
    return {name: volumes[name] for name in names}


def test_subsets_have_names_and_the_largest_that_fits_is_taken() -> None:
    assert subsets_of(("T1", "T2")) == [("T1",), ("T2",), ("T1", "T2")]
    assert subsets_of(("A", "B", "C", "D")) == [("A", "B", "C", "D")]
    names = [subset_name(one) for one in SUBSETS[1:]]
    assert [best_fitting(names, one) for one in SUBSETS] == ["", "T1", "T2", "T1 + T2"]
    assert best_fitting(["T1", "T1 + T2"], ("T2",)) == ""
    assert best_fitting(["T1"], ("T2", "T1")) == "T1"


def test_each_subset_is_calibrated_on_the_people_who_have_it(model: Path) -> None:
    calibration = load_calibration(model / "fold_0" / "calibration.json")
    assert set(calibration.further) == {"T1", "T2", "T1 + T2"}
    assert all(len(one.subjects) == 4 and one.fits == calibration.fits == 2 for one in calibration.further.values())
    units = [one.units["brighter"] for one in (calibration, *calibration.further.values())]
    assert len(set(units)) == 4


@pytest.mark.parametrize(("people", "needed"), [(1, 1), (2, 2), (3, 3), (5, 3), (7, 4), (12, 6), (19, 10), (48, 10)])
def test_units_of_a_subset_rest_on_enough_of_the_people(people: int, needed: int) -> None:
    assert needed_for_subset(people) == needed


def test_what_a_subset_rests_on_is_told_by_itself(model: Path) -> None:
    """As where most people lack a T1: sources and least lesion volume are those of the people who have it."""
    path = model / "fold_0" / "calibration.json"
    calibration = load_calibration(path)
    many = [replace(one, subject=f"subject_{number:02d}") for number, one in enumerate(calibration.subjects * 5, start=1)]
    further = {"T1": calibration.further["T1"]}
    save_json(asdict(replace(calibration, subjects=tuple(many), limits=(), further=further)), path)
    scoring = Predictor.from_model_folder(model).scoring
    with_t1 = scoring.fitting(("T1",))
    assert "20 subjects" in scoring.source
    assert with_t1.source.endswith("; with T1, of 4 subjects")
    assert scoring.least_source == "as large as healthy people's largest false components"
    assert with_t1.least_source == "at most 100 mm3, since there are too few healthy people (4) for more"


def test_any_subset_gives_a_map_on_the_input_s_grid(model: Path) -> None:
    predictor = Predictor.from_model_folder(model)
    assert predictor.further == ("T1", "T2")
    volumes = person(9, lesion=True)
    maps = []
    for subset in SUBSETS:
        made = predictor.predict_volume(volumes["FLAIR"], "p", further=of(volumes, subset))
        assert made.geometry == volumes["FLAIR"].geometry
        assert made.anomaly.shape == volumes["FLAIR"].array.shape
        assert np.isfinite(made.anomaly).all()
        assert np.array_equal(made.brain, volumes["FLAIR"].array > 0)
        (record,) = made.further
        assert tuple(record.used) == subset
        assert record.calibrated_with == subset_name(subset)
        assert not record.left_out
        assert made.threshold == predictor.scoring.fitting(subset).threshold
        maps.append(made.anomaly)
    assert len({one.tobytes() for one in maps}) == 4


def test_what_the_model_does_not_know_is_left_alone(model: Path) -> None:
    predictor, volumes = Predictor.from_model_folder(model), person(9)
    alone = predictor.predict_volume(volumes["FLAIR"], "p")
    other = predictor.predict_volume(volumes["FLAIR"], "p", further={"PD": volumes["T2"]})
    np.testing.assert_array_equal(alone.anomaly, other.anomaly)
    assert alone.warnings == other.warnings


def examined(predictor: Predictor) -> str:
    """What the facts of a model say that it examines."""
    return next(value for section in predictor.facts() for name, value in section.rows if name == "Examines")


def test_a_model_of_the_input_alone_does_not_look_at_others(make_model: Callable[..., Path]) -> None:
    predictor, volumes = Predictor.from_model_folder(make_model("lesion_remover", "MMCCDTrainerLesionRemover")), person(9)
    assert predictor.further == ()
    assert predictor.scoring.further == {}
    alone = predictor.predict_volume(volumes["FLAIR"], "p")
    given = predictor.predict_volume(volumes["FLAIR"], "p", further=of(volumes, ("T1", "T2")))
    np.testing.assert_array_equal(alone.anomaly, given.anomaly)
    assert given.further == ()
    assert examined(predictor) == "FLAIR alone (modality cycle FLAIR-T1)"


def test_other_grids_and_places_are_laid_on_the_input(model: Path) -> None:
    """A scan that lies elsewhere, on other voxels and axes, gives nearly the map that it gives on the input's grid."""
    predictor, volumes = Predictor.from_model_folder(model), person(9, lesion=True)
    maps = {
        name: predictor.predict_volume(volumes["FLAIR"], "p", further=further)
        for name, further in {
            "alone": {},
            "there": of(volumes, ("T1",)),
            "elsewhere": {"T1": moved(volumes["T1"])},
        }.items()
    }
    (record,) = maps["elsewhere"].further
    assert record.used["T1"].startswith("moved by")
    brain = maps["alone"].brain
    there, elsewhere, alone = (maps[name].cycle[brain] for name in ("there", "elsewhere", "alone"))
    assert np.abs(there - elsewhere).mean() < 0.5 * np.abs(there - alone).mean()
    laid = lay_further("p", volumes["FLAIR"], "FLAIR", brain, {"T1": moved(volumes["T1"])}).there["T1"]
    assert laid.volume.geometry == volumes["FLAIR"].geometry
    assert np.corrcoef(laid.volume.array[brain], volumes["T1"].array[brain])[0, 1] > 0.8


def unlike(volume: Volume) -> Volume:
    """Noise that has nothing in common with anybody."""
    noise = np.random.default_rng(3).normal(100, 20, volume.array.shape).astype(np.float32)
    return Volume(noise, volume.geometry)


def cut(volume: Volume) -> Volume:
    """The head without its top."""
    turned = to_canonical(volume)
    lower = np.ascontiguousarray(turned.array[:-5])
    return Volume(lower, replace(turned.geometry, size=(*SIZE[:2], len(lower))))


def empty(volume: Volume) -> Volume:
    return Volume(np.zeros_like(volume.array), volume.geometry)


@pytest.mark.parametrize(
    ("damage", "told"), [(unlike, "laid on each other"), (cut, "of the brain only"), (empty, "contrast")]
)
def test_what_can_not_be_trusted_is_left_out_with_a_warning(model: Path, damage: Callable, told: str) -> None:
    predictor, volumes = Predictor.from_model_folder(model), person(9, lesion=True)
    made = predictor.predict_volume(volumes["FLAIR"], "p", further={"T1": damage(volumes["T1"]), "T2": volumes["T2"]})
    (record,) = made.further
    assert list(record.used) == ["T2"]
    assert told in record.left_out["T1"]
    (warning,) = [text for text in made.warnings if text.startswith("T1 was not used")]
    assert told in warning
    expected = predictor.predict_volume(volumes["FLAIR"], "p", further=of(volumes, ("T2",)))
    np.testing.assert_array_equal(made.anomaly, expected.anomaly)


def test_a_map_is_made_with_a_subset_that_is_calibrated(model: Path) -> None:
    """Errors of other subsets have other units; a model that was calibrated on one's own scans has those of the input."""
    path, volumes = model / "fold_0" / "calibration.json", person(9, lesion=True)
    calibration = load_calibration(path)
    full = Predictor.from_model_folder(model)
    for kept, shown in (({"T1"}, ("T1",)), (set(), ())):
        further = {name: one for name, one in calibration.further.items() if name in kept}
        save_json(asdict(replace(calibration, further=further)), path)
        predictor = Predictor.from_model_folder(model)
        made = predictor.predict_volume(volumes["FLAIR"], "p", further=of(volumes, ("T1", "T2")))
        expected = full.predict_volume(volumes["FLAIR"], "p", further=of(volumes, shown))
        np.testing.assert_array_equal(made.anomaly, expected.anomaly)
        assert made.threshold == expected.threshold
        (record,) = made.further
        assert tuple(record.used) == shown
        assert set(record.left_out) == {"T1", "T2"} - set(shown)
        assert sum("no units" in text for text in made.warnings) == len(record.left_out)


def test_an_ensemble_gives_each_member_what_it_can_use(make_model: Callable[..., Path]) -> None:
    folders = [make_model(), make_model("lesion_remover", "MMCCDTrainerLesionRemover", 2)]
    volumes = person(9, lesion=True)
    together = Ensemble.from_model_folders(folders)
    assert together.further == ("T1", "T2")
    made = together.predict_volume(volumes["FLAIR"], "p", further=of(volumes, ("T1", "T2")))
    first, second = (Predictor.from_model_folder(folder) for folder in folders)
    parts = [
        first.predict_volume(volumes["FLAIR"], "p", further=of(volumes, ("T1", "T2"))),
        second.predict_volume(volumes["FLAIR"], "p"),
    ]
    np.testing.assert_allclose(made.anomaly, np.mean([one.anomaly for one in parts], axis=0), rtol=1e-5, atol=1e-6)
    assert made.threshold == pytest.approx(np.mean([one.threshold for one in parts]))
    assert [one.model for one in made.further] == [first.identity.model]


def write(folder: Path, volumes: dict[str, Volume], case: str) -> None:
    for name, volume in volumes.items():
        write_volume(volume.array, volume.geometry, folder / f"{case}_{MODALITIES.index(name):04d}.nii.gz")


def predict(model: Path, scans: Path, output: Path, *options: str) -> dict[str, dict]:
    """Run mmccd_predict; what CASE.json tells of each case."""
    arguments = ["-m", str(model), "-i", str(scans), "-o", str(output), "-device", "cpu", *options]
    assert predict_command(arguments) == 0
    return {path.stem: load_json(path) for path in output.glob("*.json")}


def test_the_command_finds_the_other_modalities_by_itself(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scans, volumes = tmp_path / "scans", person(9, lesion=True)
    write(scans, volumes, "p1")
    write(scans, of(person(8), ("FLAIR",)), "p2")
    records = predict(model, scans, tmp_path / "maps", "--save_cycle")
    assert set(records) >= {"p1", "p2"}
    assert records["p1"]["modalities_used"] == "the input modality and T1 and T2"
    assert records["p2"]["modalities_used"] == "the input modality alone"
    assert {name: one["file"] for name, one in records["p1"]["further_files"].items()} == {
        "T1": "p1_0001.nii.gz",
        "T2": "p1_0002.nii.gz",
    }
    assert records["p1"]["threshold"] != records["p2"]["threshold"]
    assert records["p1"]["threshold_source"].endswith("; with T1 + T2, of 4 subjects")
    assert "FLAIR and T1, T2 where they are there (1 case)" in caplog.text
    page = (tmp_path / "maps" / "report.html").read_text(encoding="utf-8")
    assert "the input modality and T1 and T2" in page
    assert "FLAIR and, where a case has them, T1 and T2 (modality cycle FLAIR-T1)" in page
    expected = Predictor.from_model_folder(model).predict_volume(volumes["FLAIR"], "p1", further=of(volumes, ("T1", "T2")))
    made = read_volume(tmp_path / "maps" / "p1_anomaly.nii.gz")
    np.testing.assert_allclose(made.array, expected.anomaly, rtol=1e-4, atol=1e-5)
    mask = read_volume(tmp_path / "maps" / "p1_mask.nii.gz").array
    candidates = read_volume(tmp_path / "maps" / "p1_candidates.nii.gz").array
    np.testing.assert_array_equal((mask + candidates) > 0, made.array > records["p1"]["threshold"])


def test_the_input_alone_can_be_asked_for(model: Path, tmp_path: Path) -> None:
    scans, volumes = tmp_path / "scans", person(9, lesion=True)
    write(scans, volumes, "p1")
    records = predict(model, scans, tmp_path / "maps", "--input_only")
    assert records["p1"]["modalities_used"] == "the input modality alone"
    assert records["p1"]["further_files"] == {}
    expected = Predictor.from_model_folder(model).predict_volume(volumes["FLAIR"], "p1")
    made = read_volume(tmp_path / "maps" / "p1_anomaly.nii.gz").array
    np.testing.assert_allclose(made, expected.anomaly, rtol=1e-4, atol=1e-5)


def test_a_run_that_continues_sees_that_others_came_changed_or_went(model: Path, tmp_path: Path) -> None:
    scans, output, volumes = tmp_path / "scans", tmp_path / "maps", person(9, lesion=True)

    def run(*options: str) -> tuple[str, str]:
        before = (output / "p1.json").read_bytes() if (output / "p1.json").is_file() else b""
        record = predict(model, scans, output, "--continue_prediction", *options)["p1"]
        return record["modalities_used"], "kept" if (output / "p1.json").read_bytes() == before else "made"

    write(scans, of(volumes, ("FLAIR",)), "p1")
    assert run() == ("the input modality alone", "made")
    write(scans, of(volumes, ("T1",)), "p1")
    assert run() == ("the input modality and T1", "made")
    assert run() == ("the input modality and T1", "kept")
    write(scans, {"T1": Volume(1.5 * volumes["T1"].array, volumes["T1"].geometry)}, "p1")
    assert run() == ("the input modality and T1", "made")
    assert run("--input_only") == ("the input modality alone", "made")
    (scans / "p1_0001.nii.gz").unlink()
    assert run() == ("the input modality alone", "kept")


def test_a_damaged_other_modality_does_not_fail_the_case(model: Path, tmp_path: Path) -> None:
    scans, volumes = tmp_path / "scans", person(9)
    write(scans, volumes, "p1")
    (scans / "p1_0001.nii.gz").write_bytes(b"no volume")
    record = predict(model, scans, tmp_path / "maps")["p1"]
    assert record["modalities_used"] == "the input modality and T2"
    assert any(text.startswith("T1 was not used") for text in record["warnings"])


def test_other_modalities_of_a_bids_dataset_are_found(model: Path, tmp_path: Path) -> None:
    root, volumes = tmp_path / "bids", person(9)
    save_json({"Name": "x", "BIDSVersion": "1.9.0"}, root / "dataset_description.json")
    for session in ("1", "2"):
        for name, suffix in (("FLAIR", "FLAIR"), ("T1", "T1w")):
            if (session, name) != ("2", "T1"):
                path = root / "sub-01" / f"ses-{session}" / "anat" / f"sub-01_ses-{session}_{suffix}.nii.gz"
                write_volume(volumes[name].array, volumes[name].geometry, path)
    records = predict(model, root, tmp_path / "maps")
    used = {case: record["modalities_used"] for case, record in records.items() if "modalities_used" in record}
    assert sorted(used.values()) == ["the input modality alone", "the input modality and T1"]


def test_a_single_file_is_examined_alone(model: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write(scans, person(9), "p1")
    alone = tmp_path / "one"
    shutil.copytree(scans, alone)
    records = predict(model, alone / "p1_0000.nii.gz", tmp_path / "maps")
    assert records["p1"]["modalities_used"] == "the input modality alone"


def test_other_series_of_a_study_are_found(tmp_path: Path) -> None:
    folder = write_scans(tmp_path / "export", CLEAN)
    options = SourceOptions(output=tmp_path / "maps", channels=MODALITIES, alone=True)
    (alone,) = list_source_cases(folder, ["FLAIR"], tmp_path / "work", options).cases
    with_others = replace(options, beside=("T1", "T2"))
    (case,) = list_source_cases(folder, ["FLAIR"], tmp_path / "work", with_others).cases
    assert alone.beside == {}
    assert {name: series.number for name, series in case.beside.items()} == {"T1": T1.number, "T2": T2.number}
    assert case.scans["FLAIR"].uid == alone.scans["FLAIR"].uid
    volumes, faults = load_beside(case.beside, tmp_path / "work")
    assert set(volumes) == {"T1", "T2"}
    assert not faults


@pytest.mark.parametrize(
    ("options", "modalities"), [((), "FLAIR and T1 and T2"), (("--input_only",), "FLAIR alone")], ids=["all", "input_only"]
)
def test_the_printed_page_names_the_modalities_of_the_map(
    model: Path, tmp_path: Path, options: tuple[str, ...], modalities: str
) -> None:
    folder = write_scans(tmp_path / "export", CLEAN)
    records = predict(model, folder, tmp_path / "maps", "--dicom_seg", *options)
    (case,) = [name for name, record in records.items() if "modalities_used" in record]
    document = make_objects(tmp_path / "maps", case, tmp_path / "objects")[-1]
    written = pydicom.dcmread(document).EncapsulatedDocument
    assert f"Made of {modalities} by MMCCDTrainerSubsetRemover" in text_of(written)


def text_of(document: bytes) -> str:
    """The letters of a PDF's pages, in the order in which they are drawn."""
    text = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", document, re.DOTALL):
        with contextlib.suppress(zlib.error):
            text += re.findall(rb"\(((?:[^()\\]|\\.)*)\)", zlib.decompress(stream))
    return re.sub(r"\\(.)", r"\1", b"".join(text).decode("latin-1"))


def test_a_pattern_for_a_modality_that_no_case_needs_costs_no_case(tmp_path: Path) -> None:
    folder = write_scans(tmp_path / "export", CLEAN)
    options = SourceOptions({"T1": "no such series"}, channels=MODALITIES, alone=True, beside=("T1", "T2"))
    found = list_source_cases(folder, ["FLAIR"], tmp_path / "work", options)
    (case,) = found.cases
    assert case.error is None
    assert set(case.scans) == {"FLAIR"}
    assert set(case.beside) == {"T2"}
    assert any("It is examined without." in note for note in found.notes)


def test_where_two_files_may_be_the_other_modality_none_is_taken_and_it_is_told(tmp_path: Path) -> None:
    scans, volumes = tmp_path / "scans", person(9)
    for name in ("p1_FLAIR", "p1_T1", "p1_T1w", "p1_T2"):
        write_volume(volumes["FLAIR"].array, volumes["FLAIR"].geometry, scans / f"{name}.nii.gz")
    options = SourceOptions(channels=MODALITIES, alone=True, beside=("T1", "T2"))
    found = list_source_cases(scans, ["FLAIR"], tmp_path, options)
    (case,) = found.cases
    assert case.scans == {"FLAIR": scans / "p1_FLAIR.nii.gz"}
    assert case.beside == {}
    (note,) = [text for text in found.notes if "other modalities" in text]
    assert "several files that may be its T1" in note


def test_a_model_that_travels_has_the_networks_and_the_units_of_its_subsets(
    make_model: Callable[..., Path], plan: Plan, tmp_path: Path
) -> None:
    calibration = load_calibration(make_model() / "fold_0" / "calibration.json")
    named = replace(calibration.further["T1"].subjects[0], subject="Mustermann")
    further = {**calibration.further, "T1": replace(calibration.further["T1"], subjects=(named,))}
    sent = nameless_calibrations({"0": replace(calibration, further=further)})["0"]
    assert set(sent.further) == set(calibration.further)
    parts = (sent, *sent.further.values())
    assert all(one.subject.startswith("subject_") for part in parts for one in part.subjects)
    expected = SubsetRemover.of_plan(plan, "T1-FLAIR").state_dict()
    weights = planned_weights("subset_remover", plan, tmp_path, "T1-FLAIR")
    assert {name: one.shape for name, one in weights.items()} == {name: one.shape for name, one in expected.items()}
