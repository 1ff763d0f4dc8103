"""A scan that looks like a brain, and a model folder whose networks are tiny and random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.model.cycle import Cycle, build_cycle
from mmccd_auto.plans.case_fingerprint import CaseFingerprint, ModalityFingerprint, SlicesFingerprint
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import write_case
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, Checkpoint, load_checkpoint, save_checkpoint
from mmccd_auto.workflows.sharing.describe_model import MakersWords
from mmccd_auto.workflows.sharing.export_model import export_model

PERSON, CASE = "Geheimrat Mustermann", "mustermann_2019_flair"
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TRAINERS = {"mmccd": "MMCCDTrainer", "cyclic_unet": "CyclicUNetTrainer"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, which wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def random_cycle() -> Callable[..., Cycle]:
    """Builds a cycle whose weights are all random (untrained U-Nets give 0 everywhere), in evaluation mode."""

    def build(plan: Plan, method: str = "mmccd", seed: int = 0) -> Cycle:
        cycle = build_cycle(method, plan)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in cycle.parameters():
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        return cycle.eval().requires_grad_(False)

    return build


@pytest.fixture
def model_folder(tmp_path: Path, tiny_plan: Plan, random_cycle: Callable[..., Cycle]) -> Callable[..., Path]:
    """Writes a model folder as a training would leave it; returns its path."""

    def write(method: str = "mmccd", folds: tuple[str, ...] = ("0",), plan: Plan = tiny_plan) -> Path:
        trainer = TRAINERS[method]
        folder = tmp_path / "results" / plan.dataset_name / f"{trainer}__{plan.plans_name}__FLAIR-T1"
        plan.save(folder / PLANS_FILE)
        save_json({}, folder / "dataset.json")
        for number, fold in enumerate(folds):
            weights = random_cycle(plan, method, number).state_dict()
            checkpoint = Checkpoint(method, trainer, plan, "FLAIR-T1", fold, 1, 5, weights, weights)
            save_checkpoint(checkpoint, folder / f"fold_{fold}" / CHECKPOINT_FINAL)
        return folder

    return write


@pytest.fixture
def make_scan() -> Callable[..., Volume]:
    """A skull-stripped scan in LPS: an ellipsoid without symmetry, with smooth contrast, on a background of 0."""

    def make(seed: int = 0, size: tuple[int, int, int] = (22, 26, 7)) -> Volume:
        z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in reversed(size)), indexing="ij")
        brain = (x / 0.8) ** 2 + ((y + 0.05) / 0.85) ** 2 + ((z - 0.1 * x) / 0.95) ** 2 < 1
        brain &= ~((x > 0.5) & (y > 0.3))
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=brain.shape), 1.0)
        array = np.where(brain, 400 + 60 * x - 40 * y + 600 * noise, 0).astype(np.float32)
        return Volume(array, Geometry(size, (4.5, 5.0, 7.0), (-30.0, 12.5, 7.25), IDENTITY))

    return make


@pytest.fixture
def scans(tmp_path: Path, make_scan: Callable[..., Volume]) -> Callable[..., Path]:
    """Writes scans with the given file names into a folder; returns the folder."""

    def write(*names: str) -> Path:
        folder = tmp_path / "scans"
        for seed, name in enumerate(names):
            volume = make_scan(seed)
            write_volume(volume.array, volume.geometry, folder / name)
        return folder

    return write


@pytest.fixture
def quick_plan(tiny_plan: Plan) -> Plan:
    """One diffusion step and no overlap of strips, to be quick."""
    quick = replace(tiny_plan.configurations["FLAIR-T1"], sampling_steps=1, strip_stride=8)
    return replace(tiny_plan, configurations={"FLAIR-T1": quick})


@pytest.fixture
def preprocessed(tmp_path: Path, quick_plan: Plan, make_scan: Callable[..., Volume]) -> Path:
    """Four preprocessed cases; d has no FLAIR, and in b an abnormality is marked. Fold 0 validates on a and b, 2 on c."""
    folder = tmp_path / "preprocessed" / quick_plan.dataset_name / quick_plan.plans_name
    for seed, case in enumerate("abcd"):
        scan = make_scan(seed)
        label = None
        if case == "b":
            marked = np.zeros(scan.array.shape, dtype=np.uint8)
            marked[1, 12, 10] = 1
            label = Volume(marked, scan.geometry)
        volumes = {"T1": scan} if case == "d" else {"FLAIR": scan, "T1": scan}
        write_case(folder, preprocess_case(case, volumes, quick_plan, label=label))
    save_json(
        [
            {"train": ["c", "d"], "val": ["a", "b"]},
            {"train": ["a", "b", "c"], "val": ["d"]},
            {"train": ["a", "b", "d"], "val": ["c"]},
        ],
        folder.parent / "splits_final.json",
    )
    return folder


def _fingerprint() -> DatasetFingerprint:
    """Two named people."""
    names = ("0.5", "2", "10", "25", "50", "75", "90", "98", "99.5")
    modality = ModalityFingerprint(
        dict.fromkeys(names, 400.0), 400.0, 10.0, 1.0, (4.0, 4.0, 4.0), (0.2, 0.4, 0.5, 0.6, 0.7), "stripped"
    )
    slices = {axis: SlicesFingerprint(5, 5, (90.0, 80.0)) for axis in ("axial", "coronal", "sagittal")}
    cases = {
        f"{CASE}_{number}": CaseFingerprint(
            subject=f"{PERSON} {number}",
            orientation="LPS",
            size=(22, 26, 7),
            spacing=(4.5, 5.0, 7.0 + number),
            slice_axis="axial",
            brain_box=(49.0, 120.0, 90.0),
            brain_volume=300.0,
            mask_given=False,
            one_grid=True,
            brain_overlap=1.0,
            slices=slices,
            modalities={"FLAIR": modality, "T1": modality},
        )
        for number in range(2)
    }
    return DatasetFingerprint.of_cases("Dataset900_Tiny", ("FLAIR", "T1"), cases)


@pytest.fixture
def portable_home(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")


@pytest.fixture
def trained_ensemble(model_folder, quick_plan, preprocessed) -> tuple[Path, Path]:
    """An ensemble that was chosen as the best: MMCCD of two folds, and Cyclic U-Net. Earlier versions' names are in it."""
    paths = (model_folder("mmccd", ("0", "2"), quick_plan), model_folder("cyclic_unet", plan=quick_plan))
    for path in paths:
        for final in path.glob("fold_*/checkpoint_final.pth"):
            checkpoint = load_checkpoint(final)
            record = {"healthy_slices": 12, "subjects": 3, "training_cases": [CASE], "versions": {"torch": "2"}}
            save_checkpoint(replace(checkpoint, record=record), final)
        calibrate_model(path, preprocessed, device=torch.device("cpu"), max_slices=4)
        for file in path.glob("fold_*/calibration.json"):
            content = load_json(file)
            for subject in content["subjects"]:
                subject["subject"] = f"{PERSON} {subject['subject']}"
            save_json(content, file)
        (path / "fold_0" / "validation").mkdir()
        (path / "fold_0" / "validation" / f"{CASE}.npz").write_bytes(b"maps")
        (path / "fold_0" / "progress.png").write_bytes(b"picture")
        _fingerprint().save(path / FINGERPRINT_FILE)
        save_json(
            {"channel_names": {"0": "FLAIR", "1": "T1"}, "name": "Tiny", "subjects": {CASE: PERSON}}, path / "dataset.json"
        )
    best = {"models": {"FLAIR": [path.name for path in paths]}, "default_modality": "FLAIR"}
    save_json(best, paths[0].parent / "best_configuration.json")
    return paths


@pytest.fixture
def model_file(trained_ensemble, portable_home, tmp_path) -> Path:
    words = MakersWords("Tiny networks.", "CC-BY-4.0", "20 to 45 years")
    return export_model(portable_home, PredictionOptions(dataset="900"), tmp_path / "model.zip", "tiny", words).path


@pytest.fixture
def other_home(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "there" / "raw", tmp_path / "there" / "preprocessed", tmp_path / "there" / "results")
