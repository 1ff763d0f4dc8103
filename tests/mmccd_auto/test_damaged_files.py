"""Values that can't be, in every file that a person or a disk may have changed: one sentence with file and entry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.core.names import check_path_name
from mmccd_auto.evaluation.case_files import find_case_files
from mmccd_auto.inference.held_out.validation_maps import load_validation_record
from mmccd_auto.inference.options import SCORES
from mmccd_auto.inference.scores.calibration import RATES, Calibration, HealthySubject, load_calibration
from mmccd_auto.inference.scores.false_alarm_rate import histogram
from mmccd_auto.inference.scores.healthy_error import HealthyError
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.plans.plan import PLANS_FILE, Plan, ScorePlan
from mmccd_auto.preprocessing.slices import load_case_records, remove_case
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, Checkpoint, check_can_continue, load_checkpoint, save_checkpoint
from mmccd_auto.trained.inference_choice import load_choice
from mmccd_auto.trained.model_folder import ModelFolder, best_models, find_models
from mmccd_auto.training.progress import EpochRecord, TrainingLog

NAN, INFINITY = float("nan"), float("inf")
Change = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Change) -> None:
    content = load_json(path)
    change(content)
    path.write_text(json.dumps(content))


def refuse(path: Path, words: str, read: Callable[[], object]) -> None:
    """``read`` ends in one short sentence that names the file and the entry."""
    with pytest.raises(MMCCDError, match=re.escape(words)) as error:
        read()
    told = str(error.value)
    assert str(path) in told
    assert "\n" not in told
    assert len(told) < 600
    assert told.endswith(".")


# --- plans.json ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        *(("network.base_channels", value, "network.base_channels") for value in (0, -1, 10**6, 2.0, "8", None, True, 7)),
        *(
            ("network.channel_multipliers", value, "network.channel_multipliers")
            for value in ([], [0], [-1, 2], [1] * 50, 5)
        ),
        *(("network.dropout", value, "network.dropout") for value in (5.0, -1.0, 1)),
        *(("network.residual_blocks", value, "network.residual_blocks") for value in (0, -1, 10**6)),
        *(("network.norm_groups", value, "network.norm_groups") for value in (0, -4)),
        *(("training.batch_size", value, "training.batch_size") for value in (0, -1, 10**9, "5", True)),
        *(("training.learning_rate", value, "training.learning_rate") for value in (-1.0, 0, 10**6)),
        *(("training.ema_decay", value, "training.ema_decay") for value in (2.0, 1, -0.1)),
        *(("training.gradient_clip", value, "training.gradient_clip") for value in (-1.0, 0)),
        *(("training.num_epochs", value, "training.num_epochs") for value in (0, 10**12)),
        *(("training.iterations_per_epoch", value, "training.iterations_per_epoch") for value in (0, 10**12)),
        *(("training.learning_rate", value, "which is no number") for value in (NAN, INFINITY)),
        *(("diffusion.timesteps", value, "diffusion.timesteps") for value in (10**9, 0)),
        *(("diffusion.beta_start", value, "diffusion.beta_start") for value in (0, 1, -1)),
        *(("target_spacing", value, "target_spacing") for value in (0, -1, 1e-9, 1e9, "1")),
        *(("target_spacing", value, "which is no number") for value in (NAN, INFINITY)),
        *(("patch_size", value, "patch_size") for value in ([40000, 40000], [0, 0], [31, 32], [32], 32, [32, 32, 32])),
        *(("strip_width", value, "strip_width") for value in (10**9, 0, 33)),
        *(("slice_axis", value, "slice_axis") for value in ("Axial", 0)),
        *(("modalities", value, "modalities") for value in ([], ["../x", "T1"], ["a__b"], "FLAIR")),
        *(("plans_name", value, "plans_name") for value in ("../../elsewhere", "/tmp/x", "", ".", "a__b", "x" * 300, 5)),
        *(("dataset_name", value, "dataset_name") for value in ("../x", "..", "a\x00b")),
        *(("configurations.FLAIR-T1.sampling_steps", value, "sampling_steps") for value in (0, 1001, 10**9)),
        *(("configurations.FLAIR-T1.strip_stride", value, "strip_stride") for value in (0, 9)),
        *(("configurations.FLAIR-T1.strips_per_pass", value, "strips_per_pass") for value in (-1, 17)),
        ("configurations.FLAIR-T1.score.smoothing_mm", 51, "score.smoothing_mm"),
        ("configurations", {}, "configurations"),
        ("configurations.FLAIR-T1.input_modality", "CT", "CT, which is no modality"),
        ("default_configuration", "X-Y", "default_configuration X-Y"),
        ("network.unheard_of", 1, "unknown entry network.unheard_of"),
    ],
)
def test_plans(tmp_path: Path, tiny_plan: Plan, entry: str, value: object, words: str) -> None:
    path = tmp_path / PLANS_FILE
    tiny_plan.save(path)

    def change(content: dict[str, Any]) -> None:
        *parents, last = entry.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    edit(path, change)
    refuse(path, words, lambda: Plan.load(path))


def test_legal_edits_of_a_plan_are_obeyed(tmp_path: Path, tiny_plan: Plan) -> None:
    path = tmp_path / PLANS_FILE
    tiny_plan.save(path)
    edit(path, lambda plan: plan["training"].update(learning_rate=1, batch_size=64, seed=-1, weight_decay=0))
    edit(path, lambda plan: plan.update(target_spacing=4, why={}, strip_width=32))
    edit(path, lambda plan: plan["configurations"]["FLAIR-T1"].pop("strips_per_pass"))
    plan = Plan.load(path)
    assert (plan.training.learning_rate, plan.training.batch_size, plan.strip_width) == (1.0, 64, 32)
    assert isinstance(plan.target_spacing, float)


# --- calibration.json ---------------------------------------------------------------------------------------------------


@pytest.fixture
def calibration_file(tmp_path: Path) -> Path:
    subject = HealthySubject(
        subject="a",
        slices=2,
        pixels=100,
        histograms={name: histogram(np.linspace(0, 2, 100)) for name in SCORES},
        largest_component_mm3={f"{rate:g}": 1.0 for rate in RATES},
        case_score=1.0,
    )
    table = ((0.1,) * 5, (0.2,) * 5)
    calibration = Calibration(
        settings={"preset": "balanced"},
        score=ScorePlan(),
        source="healthy validation slices",
        weights_sha256={"0": "0" * 64},
        healthy_error=HealthyError((-1.0, 1.0), (3.0, 6.0, 10.0, 16.0), table, table, 1.0),
        units=dict.fromkeys(SCORES, 1.0),
        subjects=(subject,),
    )
    path = tmp_path / "calibration.json"
    save_json(asdict(calibration), path)
    assert load_calibration(path) == calibration
    return path


def _subject(content: dict[str, Any]) -> dict[str, Any]:
    return content["subjects"][0]


CALIBRATIONS: dict[str, tuple[str, Change]] = {
    "no subject": ("subjects", lambda c: c.update(subjects=[])),
    "no unit": ("units.combined", lambda c: c.update(units={})),
    "one unit": ("units.squared", lambda c: c["units"].pop("squared")),
    "negative unit": ("units.combined", lambda c: c["units"].update(combined=-1.0)),
    "unit of 0": ("units.combined", lambda c: c["units"].update(combined=0)),
    "unit too small for 32 bits": ("units.combined", lambda c: c["units"].update(combined=1e-300)),
    "unit too large for 32 bits": ("units.darker", lambda c: c["units"].update(darker=1e300)),
    "infinite unit": ("Infinity", lambda c: c["units"].update(combined=INFINITY)),
    "no histogram": ("subjects[0].histograms.combined", lambda c: _subject(c).update(histograms={})),
    "empty histogram": ("subjects[0].histograms.combined", lambda c: _subject(c)["histograms"].update(combined=[])),
    "short histogram": ("subjects[0].histograms.combined", lambda c: _subject(c)["histograms"]["combined"].pop()),
    "histogram of zeros": (
        "subjects[0].histograms.squared counts no pixel",
        lambda c: _subject(c)["histograms"].update(squared=[0] * len(_subject(c)["histograms"]["squared"])),
    ),
    "negative count": ("histograms.combined[0]", lambda c: _subject(c)["histograms"]["combined"].__setitem__(0, -1)),
    "count no whole number": ("histograms.combined[0]", lambda c: _subject(c)["histograms"]["combined"].__setitem__(0, 1.5)),
    "no component": ("largest_component_mm3.0.05", lambda c: _subject(c).update(largest_component_mm3={})),
    "negative component": ("largest_component_mm3", lambda c: _subject(c)["largest_component_mm3"].update({"0.05": -1})),
    "no pixels": ("subjects[0].pixels", lambda c: _subject(c).update(pixels=0)),
    "smoothing NaN": ("NaN", lambda c: c["score"].update(smoothing_mm=NAN)),
    "smoothing too wide": ("score.smoothing_mm", lambda c: c["score"].update(smoothing_mm=1000)),
    "other weight": ("score.other_weight", lambda c: c["score"].update(other_weight=2)),
    "sign": ("score.lesion_sign", lambda c: c["score"].update(lesion_sign="")),
    "no centres": ("healthy_error.intensity_centres", lambda c: c["healthy_error"].update(intensity_centres=[])),
    "centres descend": ("intensity_centres must ascend", lambda c: c["healthy_error"].update(intensity_centres=[1, -1])),
    "too many centres": ("healthy_error.brighter", lambda c: c["healthy_error"].update(intensity_centres=[1, 2, 3])),
    "edges descend": ("distance_edges_mm must", lambda c: c["healthy_error"].update(distance_edges_mm=[3, 2, 10, 16])),
    "ragged table": ("healthy_error.darker must have 2 rows", lambda c: c["healthy_error"]["darker"][1].pop()),
    "table of 0": ("healthy_error.darker[0][0]", lambda c: c["healthy_error"]["darker"][0].__setitem__(0, 0)),
    "median 0": ("healthy_error.usual_median", lambda c: c["healthy_error"].update(usual_median=0)),
    "source": ("source", lambda c: c.update(source="my own")),
    "fold": ("00", lambda c: c.update(weights_sha256={"00": "x"})),
    "settings": ("settings", lambda c: c.update(settings=[])),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibrations(calibration_file: Path, name: str) -> None:
    words, change = CALIBRATIONS[name]
    edit(calibration_file, change)
    refuse(calibration_file, words, lambda: load_calibration(calibration_file))
    with pytest.raises(MMCCDError, match=r"mmccd_calibrate|no number"):
        load_calibration(calibration_file)


# --- model folders ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, tiny_plan: Plan) -> ModelFolder:
    folder = tmp_path / "results" / "Dataset900_Tiny" / "MMCCDTrainer__mmccdPlans__FLAIR-T1"
    tiny_plan.save(folder / PLANS_FILE)
    weights = build_cycle("mmccd", tiny_plan).state_dict()
    record = {"training_cases": ["a"], "batch_parts": 1, "other": [1]}
    checkpoint = Checkpoint("mmccd", "MMCCDTrainer", tiny_plan, "FLAIR-T1", "0", 1, 5, weights, weights, record=record)
    save_checkpoint(checkpoint, folder / "fold_0" / CHECKPOINT_FINAL)
    return ModelFolder(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "must be an object with models, default_modality"),
        (None, "must be an object"),
        ("x", "must be an object"),
        ({"models": {"FLAIR": 5}, "default_modality": "FLAIR"}, "models.FLAIR is 5"),
        ({"models": {"FLAIR": [["a"]]}, "default_modality": "FLAIR"}, 'models.FLAIR[0] is ["a"]'),
        ({"models": {"FLAIR": []}, "default_modality": "FLAIR"}, "models.FLAIR is []"),
        ({"models": {"FLAIR": ["../x"]}, "default_modality": "FLAIR"}, 'models.FLAIR[0] is "../x"'),
        ({"models": {"FLAIR": ["a"]}, "default_modality": "T1"}, "default_modality T1 is none of models"),
        ({"models": {"FLAIR": ["a"]}}, "the entry default_modality is missing"),
    ],
)
def test_best_configurations(model: ModelFolder, content: object, words: str) -> None:
    path = model.path.parent / "best_configuration.json"
    save_json(content, path)
    refuse(path, words, lambda: best_models([model]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling_steps": 0}, "sampling_steps is 0"),
        ({"sampling_steps": 10**9}, "sampling_steps is 1000000000"),
        ({"strip_stride": -1}, "strip_stride is -1"),
        ({"strips_per_pass": 10**6}, "strips_per_pass"),
        ({"score": {"smoothing_mm": -3}}, "score.smoothing_mm is -3"),
        ({"planned": {}}, "the entry planned.sampling_steps is missing"),
        ({"tried": [5]}, "tried[0] is 5"),
        ({"fold": "../0"}, "fold is"),
        ({"whyy": ""}, "unknown entry whyy"),
    ],
)
def test_choices(model: ModelFolder, changes: dict[str, Any], words: str) -> None:
    path = model.path / "inference.json"
    save_json({"sampling_steps": 1, "strip_stride": 2, "score": {}, "why": "", **changes}, path)
    refuse(path, words, lambda: load_choice(model))


def test_a_choice_of_an_earlier_version_is_read(model: ModelFolder) -> None:
    save_json({"sampling_steps": 1, "strip_stride": 2, "score": {}, "why": ""}, model.path / "inference.json")
    assert load_choice(model).strips_per_pass == 1


CHECKPOINTS: dict[str, tuple[str, Callable[[dict[str, Any], dict[str, Any]], object]]] = {
    "record is a list": ("record is []", lambda content, metadata: metadata.update(record=[])),
    "cases are a number": ("record.training_cases", lambda content, metadata: metadata["record"].update(training_cases=5)),
    "parts": ("record.batch_parts is 0", lambda content, metadata: metadata["record"].update(batch_parts=0)),
    "no record": ("the entry record is missing", lambda content, metadata: metadata.pop("record")),
    "fold": ("fold is", lambda content, metadata: metadata.update(fold="../0")),
    "epoch": ("epoch is -1", lambda content, metadata: metadata.update(epoch=-1)),
    "step": ('step is "5"', lambda content, metadata: metadata.update(step="5")),
    "trainer": ("trainer is", lambda content, metadata: metadata.update(trainer="../T")),
    "plan": ("plan.training.batch_size is 0", lambda content, metadata: metadata["plan"]["training"].update(batch_size=0)),
    "no plan": ("the entry plan is missing", lambda content, metadata: metadata.pop("plan")),
    "version": ("another version", lambda content, metadata: metadata.update(format=99)),
    "weights are a text": ("weights is a str", lambda content, metadata: content.update(weights="x")),
    "weights are numbers": ("is no tensor", lambda content, metadata: content.update(weights={"a": 5})),
    "weights without names": ("is no tensor with a name", lambda content, metadata: content.update(weights={5: 1})),
    "no weights": ("weights is missing", lambda content, metadata: content.pop("weights")),
    "weights NaN": (
        "holds NaN or infinite numbers",
        lambda content, metadata: next(iter(content["weights"].values())).fill_(NAN),
    ),
    "sparse weights": (
        "holds no plain numbers",
        lambda content, metadata: content.update(weights={"a": torch.eye(3).to_sparse()}),
    ),
    "optimizer": ("optimizer is a list", lambda content, metadata: content.update(optimizer=[])),
    "scaler": ("gradient_scaler is a int", lambda content, metadata: content.update(gradient_scaler=5)),
    "metadata no text": ("metadata is no text", lambda content, metadata: content.update(metadata=5)),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(model: ModelFolder, name: str) -> None:
    words, change = CHECKPOINTS[name]
    path = model.fold(0) / CHECKPOINT_FINAL
    content = torch.load(path, weights_only=True)
    metadata = json.loads(content["metadata"])
    change(content, metadata)
    if isinstance(content["metadata"], str):
        content["metadata"] = json.dumps(metadata)
    torch.save(content, path)
    refuse(path, words, lambda: model.checkpoint(0))


def test_weights_of_another_shape_and_missing_ones_are_told(model: ModelFolder) -> None:
    checkpoint = model.checkpoint(0)
    first = next(iter(checkpoint.weights))
    for weights in ({**checkpoint.weights, first: torch.zeros(2)}, {}, {**checkpoint.weights, "other": torch.zeros(1)}):
        with pytest.raises(MMCCDError, match="do not fit the networks"):
            replace(checkpoint, weights=weights).build_cycle()


def test_a_final_checkpoint_is_not_continued(model: ModelFolder) -> None:
    path = model.fold(0) / CHECKPOINT_FINAL
    found = load_checkpoint(path)
    refuse(path, "lacks the optimiser's state", lambda: check_can_continue(found, path))
    for state in ({"param_groups": 5, "state": {}}, {"param_groups": [], "state": []}, {"state": {}}):
        refuse(path, "no optimiser's state", lambda state=state: check_can_continue(replace(found, optimizer=state), path))
    broken = {"param_groups": [{}], "state": {0: {"exp_avg": torch.tensor([NAN])}}}
    refuse(path, "optimizer.state.0", lambda: check_can_continue(replace(found, optimizer=broken), path))


def test_copies_of_folds_and_other_folders_are_no_part_of_a_model(model: ModelFolder) -> None:
    content = (model.fold(0) / CHECKPOINT_FINAL).read_bytes()
    for name in ("fold_0_old", "fold_00", "fold_\u0663", "fold_", "fold_-1"):
        (model.path / name).mkdir()
        (model.path / name / CHECKPOINT_FINAL).write_bytes(content)
    assert model.folds() == ["0"]
    assert [found.path for found in find_models(model.path.parents[1])] == [model.path]


# --- training_log.jsonl -------------------------------------------------------------------------------------------------


def _line(number: int, **changes: object) -> bytes:
    record = EpochRecord(number, 5 * number, 1.0, 2.0, 0.1, 1e-4, {"forward": 1.0}, {"forward": 1.0}, "validation")
    return json.dumps({**asdict(record), **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x81\n", "line 1"),
        (b"[]\n", "line 1: it must be an object"),
        (b"5\n", "line 1: it must be an object"),
        (b'{"epoch": 1}\n', "the entry iterations is missing"),
        (_line(1) + b"5\n" + _line(2), "line 2"),
        (_line(1) + b"{\n" + _line(2), "line 2"),
        (_line(1, epoch=0), "epoch is 0"),
        (_line(1, synthetic_auprc="x"), "synthetic_auprc"),
        (_line(1, train=[1]), "train is [1]"),
        (_line(1) + _line(1), "epoch 1 comes after 1"),
        (_line(1) + _line(3) + _line(2), "line 3"),
        (b"[" * 5000 + b"\n", "nested too deeply"),
        (_line(1) + b"[]", "line 2"),
    ],
)
def test_logs(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "training_log.jsonl"
    path.write_bytes(data)
    refuse(path, words, TrainingLog(path).read)
    refuse(path, words, lambda: TrainingLog(path).truncate(1))
    assert path.read_bytes() == data


def test_a_log_that_a_kill_cut_off_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "training_log.jsonl"
    for end, epochs in ((b"", 2), (_line(3)[:20], 2), (_line(3).rstrip(), 3), (b"\n", 2), (_line(3, other=1), 3)):
        path.write_bytes(_line(1) + _line(2) + end)
        assert [record["epoch"] for record in TrainingLog(path).read()] == list(range(1, epochs + 1))


# --- preprocessed cases and others --------------------------------------------------------------------------------------

CASES: dict[str, tuple[str, Change]] = {
    "file elsewhere": ("slice", lambda c: c["slices"][0].update(file="../../secret.npz")),
    "absolute file": ("slice", lambda c: c["slices"][0].update(file="/etc/passwd")),
    "case elsewhere": ("case", lambda c: c.update(case="../x")),
    "another case": ("case", lambda c: c.update(case="b_1")),
    "index": ("slices[0].index", lambda c: c["slices"][0].update(index=-1)),
    "healthy": ("slices[0].healthy", lambda c: c["slices"][0].update(healthy=1)),
    "spacing": ("geometry.grid", lambda c: c["geometry"]["grid"].update(spacing=[0, 1, 1])),
    "size": ("geometry.original", lambda c: c["geometry"]["original"].update(size=[0, 1, 1])),
    "direction": ("geometry.canonical.direction", lambda c: c["geometry"]["canonical"].update(direction=[1.0])),
    "axis": ("geometry.slice_axis", lambda c: c["geometry"].update(slice_axis="x")),
    "modalities": ("modalities", lambda c: c.update(modalities=[])),
    "sources": ("sources", lambda c: c.update(sources={"a": [1]})),
}


@pytest.mark.parametrize("name", CASES)
def test_preprocessed_cases(preprocessed: Path, name: str) -> None:
    words, change = CASES[name]
    path = preprocessed / "a_1.json"
    edit(path, change)
    refuse(path, words, lambda: load_case_records(preprocessed))


@pytest.mark.parametrize("case", ["..", "../elsewhere", "/etc", ".", "", "a/b"])
def test_no_case_is_removed_elsewhere(tmp_path: Path, case: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "plans").mkdir()
    with pytest.raises(MMCCDError, match="the name"):
        remove_case(tmp_path / "plans", case)
    assert (tmp_path / "elsewhere").is_dir()


def test_validation_records(model: ModelFolder, tmp_path: Path) -> None:
    path = model.fold(0) / "validation" / "validation.json"
    good = {"settings": {}, "source": "healthy validation slices", "weights_sha256": "0", "cases": {"a": "a"}}
    save_json(good, path)
    assert load_validation_record(model, "0", tmp_path).cases == {"a": "a"}
    for changes, words in (
        ({"cases": {}}, "cases is {}"),
        ({"cases": {"../a": "a"}}, "cases.../a"),
        ({"source": "x"}, 'source is "x"'),
        ({"settings": 5}, "settings is 5"),
    ):
        save_json({**good, **changes}, path)
        refuse(path, words, lambda: load_validation_record(model, "0", tmp_path))


def test_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "dataset_fingerprint.json"
    good = {"dataset": "Dataset900_Tiny", "modalities": ["FLAIR"], "cases": {}, "failed": {}, "summary": {}}
    for changes, words in (
        ({"cases": {"../x": {}}}, "cases.../x"),
        ({"cases": {"x": {"subject": 5}}}, "cases.x"),
        ({"modalities": []}, "modalities is []"),
        ({"dataset": "../x"}, 'dataset is "../x"'),
    ):
        save_json({**good, **changes}, path)
        refuse(path, words, lambda: DatasetFingerprint.load(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "must be an object"),
        ({"input_modality": "FLAIR"}, "the entry input_file is missing"),
        ({"input_file": "a.nii.gz"}, "the entry input_modality is missing"),
        ({"input_file": 5, "input_modality": "FLAIR"}, "input_file is 5"),
    ],
)
def test_records_of_predictions(tmp_path: Path, content: object, words: str) -> None:
    for folder, name in (("labels", "a.nii.gz"), ("maps", "a_anomaly.nii.gz")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    save_json(content, tmp_path / "maps" / "a.json")
    with pytest.raises(MMCCDError, match=re.escape(words)):
        find_case_files(tmp_path / "labels", tmp_path / "maps")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        check_path_name("unheard of", "x", "-p")
