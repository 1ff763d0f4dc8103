"""The demo, as small as it may be: what it leaves is what its user is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.trained.select import choose_models
from mmccd_auto.workflows.demo import DemoSettings, run_demo

SMALL = DemoSettings(
    training_subjects=3, test_subjects=1, base_channels=8, num_epochs=1, iterations_per_epoch=2, batch_size=2
)


@pytest.mark.slow
def test_the_demo_ends_with_a_page_figures_and_a_model_that_predicts_by_default(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    told = run_demo(output, settings=SMALL)
    assert told.endswith(f"open {output / 'report.html'}")
    assert "AUPRC" in told
    assert "train fold 0" in told
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page == (output / "maps/report.html").read_text(encoding="utf-8")
    assert "test_00" in page
    assert set(load_json(output / "results.json")["methods"]) == {
        *("mmccd", "cyclic_unet", "ready", "control", "intensity", "smoothed intensity"),
    }
    folders = Folders(output / "raw", output / "preprocessed", output / "results")
    (model,) = choose_models(folders, PredictionOptions())
    assert (model.trainer, model.configuration) == ("MMCCDTrainerShort", "FLAIR-T1")
    with pytest.raises(MMCCDError, match="not empty"):
        run_demo(output, settings=SMALL, device=torch.device("cpu"))
