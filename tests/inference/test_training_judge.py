"""The label-free judge of a training."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.choice.training_judge import SyntheticJudge
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.training.options import TrainingMachine
from mmccd_auto.workflows.train import TrainingOptions, train

CPU = torch.device("cpu")


class Blind(torch.nn.Module):
    """Gives back what it is shown: a reconstruction that hides every anomaly."""

    masked = False
    further = ()

    def reconstruct(self, x, keep, sampling, strip_keys, slice_keys):
        return x

    def evaluations(self, sampling):
        return 1


class Seeing(Blind):
    """Gives back the mean of the brain: everything that is unusually bright or dark stands out."""

    def reconstruct(self, x, keep, sampling, strip_keys, slice_keys):
        brain = x != -3
        return torch.where(brain, x.mean() + 0 * x, x)


def test_it_prefers_a_cycle_that_finds_something(quick_plan, preprocessed):
    judge = SyntheticJudge(quick_plan, "FLAIR-T1", 0, preprocessed, CPU)
    blind, seeing = judge(Blind()), judge(Seeing())
    assert 0 < blind < seeing < 1
    assert judge(Seeing()) == seeing


def test_it_leaves_the_random_numbers_of_the_training_alone(quick_plan, preprocessed):
    judge, cycle = SyntheticJudge(quick_plan, "FLAIR-T1", 0, preprocessed, CPU), build_cycle("mmccd", quick_plan).eval()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    judge(cycle)
    assert torch.equal(torch.rand(4), expected)


def test_no_healthy_slice_is_told(quick_plan, tmp_path):
    with pytest.raises(MMCCDError, match="preprocess the dataset"):
        SyntheticJudge(quick_plan, "FLAIR-T1", "all", tmp_path, CPU)


def test_a_training_keeps_the_best_state_of_a_fold_but_not_of_all(tmp_path, quick_plan, preprocessed):
    home = preprocessed.parent
    quick_plan.save(preprocessed / "plans.json")
    (home / "dataset.json").write_text("{}")
    DatasetFingerprint(home.name, ("FLAIR", "T1"), {}, {}, {}).save(home / "dataset_fingerprint.json")
    folders = Folders(tmp_path / "raw", home.parent, tmp_path / "results")
    options = TrainingOptions("FLAIR-T1", "CyclicUNetTrainer", quick_plan.plans_name, 2, 1)
    output = train(folders, home.name, 0, options, TrainingMachine(CPU))
    records = [line for line in (output / "training_log.jsonl").read_text().splitlines() if line]
    judged = [json.loads(line)["synthetic_auprc"] for line in records]
    assert all(0 < value < 1 for value in judged)
    best = load_checkpoint(output / "checkpoint_best.pth")
    assert best.epoch == 1 + judged.index(max(judged))
    output = train(folders, home.name, "all", replace(options, num_epochs=1), TrainingMachine(CPU))
    assert not (output / "checkpoint_best.pth").exists()
    assert load_json(output / "calibration.json")["source"] == "healthy validation slices"
