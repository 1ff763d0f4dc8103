"""A dataset, a trained model, maps and a hospital's export, as small as they may be, made once by the commands."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from command_runner import CommandRunner
from dicom_writing import Scan, write_scans
from scipy import ndimage

from mmccd_auto.core.files import save_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry

DATASET = "Dataset007_Phantom"
PLANS = "mmccdPlansSmall_lowres"
TRAINER = "MMCCDTrainer"
MODEL = f"{TRAINER}__{PLANS}__FLAIR-T1"
NETWORK_OPTIONS = ("-p", PLANS, "-device", "cpu")
GEOMETRY = Geometry((40, 48, 8), (4.0, 4.0, 14.0), (-80.0, -95.0, -50.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
PREDICT = ("-device", "cpu", "--preset", "fast", "--continue_prediction")
FLAIR = {"EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500", "SequenceName": "*tir2d"}
T1 = {"EchoTime": "10", "RepetitionTime": "500", "SequenceName": "*se2d"}


@dataclass(frozen=True)
class Step:
    """A command of the daily work.

    Attributes
    ----------
    name : of the step
    command, arguments : what is run; a repetition continues
    """

    name: str
    command: str
    arguments: tuple[str, ...]


STEPS = (
    Step(
        "plan_and_preprocess",
        "plan_and_preprocess",
        (
            *("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "6"),
            *("-gpu_memory_target", "1", "--time_budget", "0.02", "-np", "0", "-device", "cpu"),
        ),
    ),
    Step(
        "train",
        "train",
        ("7", "0", *NETWORK_OPTIONS, "--num_epochs", "3", "--iterations_per_epoch", "2", "--planned_steps", "-np", "0"),
    ),
    Step("calibrate", "calibrate", ("7", *NETWORK_OPTIONS, "--max_slices", "2")),
    Step(
        "find_best_configuration", "find_best_configuration", ("7", *NETWORK_OPTIONS, "--per_kind", "1", "--max_slices", "2")
    ),
    Step("cross_validate", "cross_validate", ("7", *NETWORK_OPTIONS, "-f", "0", "-np", "0")),
    Step("predict", "predict", ("-i", "scans", "-o", "maps", *PREDICT)),
    Step("predict a zip archive", "predict", ("-i", "export.zip", "-o", "maps_of_export", "--dicom_seg", *PREDICT)),
    Step(
        "import",
        "import_export",
        ("-i", "export.zip", "-d", "8", "-n", "Import", "--healthy", "--modalities", "FLAIR", "T1", "-np", "0"),
    ),
    Step("export_model", "export_model", ("7", "-o", "model.zip")),
    Step("install_model", "install_model", ("model.zip", "--name", "travelled", "--overwrite")),
    Step(
        "evaluate", "evaluate", ("-ref", f"mmccd/raw/{DATASET}/labelsTs", "-pred", "maps", "-o", "figures.json", "-np", "0")
    ),
)


def make_world(folder: Path, runner: CommandRunner) -> Path:
    """Make a folder in which every step has been run once.

    Raises
    ------
    AssertionError
        If a step fails.
    """
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    raw = home / "mmccd" / "raw" / DATASET
    _write_dataset(raw)
    (home / "scans").mkdir()
    for case in ("test_00", "test_01"):
        shutil.copy(raw / "imagesTs" / f"{case}_0000.nii.gz", home / "scans")
    _write_export(home)
    for step in STEPS:
        ended = runner.run(step.command, step.arguments, home, temporary)
        assert ended.status == 0, f"{step.name}: {ended.said}"
        if step.name == "plan_and_preprocess":
            _make_small(home / "mmccd" / "preprocessed" / DATASET / PLANS / "plans.json")
    return home


def _make_small(path: Path) -> None:
    """Plan a network that works in milliseconds."""
    plan = json.loads(path.read_text())
    small = {
        "base_channels": 8,
        "channel_multipliers": [1, 2],
        "residual_blocks": 1,
        "attention_edges": [],
        "norm_groups": 4,
    }
    plan["network"] |= small
    plan["training"] |= {"batch_size": 2}
    for configuration in plan["configurations"].values():
        configuration |= {"sampling_steps": 1, "strip_stride": plan["strip_width"]}
    path.write_text(json.dumps(plan))


def _write_dataset(raw: Path) -> None:
    """Five people to train on, the first of them with a lesion that is marked, and two with lesions to test with."""
    people = [(f"healthy_{number:02d}", "Tr", number, number == 0) for number in range(5)]
    people += [(f"test_{number:02d}", "Ts", 10 + number, True) for number in range(2)]
    for case, split, seed, ill in people:
        scans, label = _simulate(seed, ill)
        for channel, scan in enumerate(scans):
            write_volume(scan, GEOMETRY, raw / f"images{split}" / f"{case}_{channel:04d}.nii.gz")
        if ill:
            write_volume(label, GEOMETRY, raw / f"labels{split}" / f"{case}.nii.gz")
    content = {
        "channel_names": {str(number): name for number, name in enumerate(("FLAIR", "T1", "T2"))},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
        "subjects": {case: case for case, *_ in people},
    }
    save_json(content, raw / "dataset.json")


def _simulate(seed: int, ill: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Three contrasts of one tissue, float32 [z, y, x], without skull, and the label of a bright lesion."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in reversed(GEOMETRY.size)), indexing="ij")
    brain = (x / 0.85) ** 2 + ((y + 0.05) / 0.9) ** 2 + ((z - 0.1 * x) / 1.1) ** 2 < 1
    tissue = ndimage.gaussian_filter(random.normal(size=brain.shape), 1.5)
    tissue /= tissue.std()
    label = (((x - 0.3) / 0.2) ** 2 + ((y - 0.2) / 0.2) ** 2 + (z / 0.4) ** 2 < 1) & brain & ill
    scans = []
    for contrast, of_lesion in ((-30, 300), (60, -100), (-50, 250)):
        values = 500 + contrast * tissue + of_lesion * label + 10 * random.normal(size=brain.shape)
        scans.append(np.where(brain, values, 0).astype(np.float32))
    return scans, label.astype(np.uint8)


def _write_export(home: Path) -> None:
    """Two people's FLAIR and T1 as a zip archive and as a folder."""
    scans = []
    for number in (1, 2):
        patient, study = (f"ZZNAME{number}^Geheim", f"ZZID-{number}", "19510203"), f"1.2.826.0.1.3680043.8.498.{number}"
        scans += [
            Scan(1, "FLAIR", FLAIR, patient=patient, study=study, uid=f"{study}.1"),
            Scan(2, "T1", T1, patient=patient, study=study, uid=f"{study}.2"),
        ]
    for place, one in enumerate(scans):
        write_scans(home / "export" / f"{place}", [one])
    with zipfile.ZipFile(home / "export.zip", "w") as archive:
        for path in sorted((home / "export").rglob("*.dcm")):
            archive.write(path, path.relative_to(home))
