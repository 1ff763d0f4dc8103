"""The examples of documentation/extending.md do what it says (that of a planner: tests/plans/test_find_planner.py)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.files import save_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.model_folder import ModelFolder, fold_folder, model_folder_name
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.trainers import cycle_class_of, find_trainer

DOCUMENTATION = Path(__file__).parents[2] / "documentation" / "extending.md"


def example(mark: str) -> str:
    """The one Python block of the documentation that holds ``mark``."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if mark in block]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder my_ideas with the trainers of the documentation."""
    path = tmp_path / "my_ideas"
    path.mkdir()
    for name in ("WarmupTrainer", "AbsoluteErrorTrainer"):
        code = example(f"class {name}")
        assert len(code.splitlines()) <= 20
        (path / f"{name}.py").write_text(code, encoding="utf-8")
    return path


def make_scan() -> np.ndarray:
    """A brain in 8 slices of 10, 0 outside."""
    z, y, x = np.ogrid[:10, :150, :130]
    brain = (((y - 75) / 50) ** 2 + ((x - 65) / 40) ** 2 < 1) & (np.abs(z - 4.5) < 4)
    return np.where(brain, np.random.default_rng(0).uniform(100, 200, size=brain.shape), 0).astype(np.float32)


@pytest.mark.parametrize("name", ["WarmupTrainer", "AbsoluteErrorTrainer"])
def test_the_trainers_train(
    folder: Path, name: str, tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list
) -> None:
    model = tmp_path / model_folder_name(name, "mmccdPlans", "FLAIR-T1")
    kind = find_trainer(name, [folder])
    trainer = kind(
        tiny_plan, None, 0, preprocessed, fold_folder(model, 0), splits, TrainerOptions(num_epochs=2, iterations_per_epoch=1)
    )
    trainer.train()
    rates = [record["learning_rate"] for record in trainer.log.read()]
    assert rates == pytest.approx([2e-5, 4e-5] if name == "WarmupTrainer" else [1e-4, 1e-4])
    checkpoint = ModelFolder(model).checkpoint(0)
    assert cycle_class_of(checkpoint, [folder]).name == ("mmccd" if name == "WarmupTrainer" else "absolute_error")
    prediction = Predictor.from_model_folder(model, LoadOptions(extensions=[folder])).predict_arrays(
        make_scan(), (1.0, 1.0, 5.0)
    )
    assert np.isfinite(prediction.anomaly).all()
    assert prediction.anomaly.max() > 0


def test_the_python_example_trains_and_predicts(
    folder: Path, tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = tmp_path / "mmccd" / "preprocessed" / "Dataset001_RealBrain"
    dataset.mkdir(parents=True)
    preprocessed.rename(dataset / "mmccdPlans")
    tiny_plan.save(dataset / "mmccdPlans" / "plans.json")
    save_json(splits, dataset / "splits_final.json")
    save_json({"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {}, "file_ending": ".nii.gz"}, dataset / "dataset.json")
    scan = make_scan()
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    write_volume(scan, Geometry((130, 150, 10), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), axes), tmp_path / "scans" / "new.nii.gz")
    code = example("trainer.train()")
    for theirs, ours in (('"cuda"', '"cpu"'), ("processes=8", "processes=0"), ("num_epochs=50", "num_epochs=1")):
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {"array": scan}
    exec(compile(code, str(DOCUMENTATION), "exec"), names)
    assert names["prediction"].anomaly.shape == scan.shape
    assert (tmp_path / "maps" / "new_anomaly.nii.gz").is_file()
