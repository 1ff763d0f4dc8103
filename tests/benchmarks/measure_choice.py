"""Does what finds synthetic anomalies also find lesions?

    python tests/benchmarks/measure_choice.py PREPROCESSED MODEL_FOLDER [MODEL_FOLDER ...] [-f FOLD]

For each model, settings and score that mmccd_find_best_configuration tries: the area under the precision-recall curve
(AUPRC) of synthetic anomalies in the fold's healthy held-out slices, and that of the labelled lesions of the same held-out
subjects, in all their slices. Then the rank correlation (Spearman) of the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from mmccd_auto.evaluation.metrics import count_scores, ranking_figures
from mmccd_auto.inference.choice.compare import Tried, try_choices
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.held_out.healthy_slices import choose_healthy_slices, find_records, healthy_maps
from mmccd_auto.inference.maps.engine import MapMaker
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.inference.scores.calibration import fit_calibration
from mmccd_auto.preprocessing.slices import read_slices
from mmccd_auto.trained.model_folder import ModelFolder

CPU = torch.device("cpu")
PER_KIND, MAX_SLICES = 2, 96


class LabelledCases:
    """The held-out subjects of a fold that have a labelled lesion, and what a model makes of all their slices."""

    def __init__(self, model: ModelFolder, fold: str, preprocessed: Path) -> None:
        self.model, self.preprocessed = model, preprocessed
        self.loaded = load_fold(model, fold, CPU)
        self.modality = model.input_modality
        self.records, self.source = find_records(preprocessed, fold, self.modality)
        self.healthy = choose_healthy_slices(self.records, MAX_SLICES)
        self.maps: dict[tuple[int, int, int], dict[str, CaseMaps]] = {}
        self.lesions = {
            case: read_slices(preprocessed, record, [item.index for item in record.slices])[2] > 0
            for case, record in self.records.items()
        }

    def auprc(self, tried: Tried) -> float:
        """The AUPRC of the lesions by the settings and the score of ``tried``, mean over the labelled subjects."""
        wholes = self._maps(tried.sampling_steps, tried.strip_stride, tried.strips_per_pass)
        healthy = [
            whole.of_slices([whole.indices.index(index) for index in self.healthy[case]])
            for case, whole in wholes.items()
            if case in self.healthy
        ]
        calibration = fit_calibration(healthy, tried.score, {}, self.source, {})
        score = "squared" if tried.published else "combined"
        found = []
        for case, whole in wholes.items():
            lesions = self.lesions[case][whole.brain]
            if lesions.any():
                values = calibration.scores(whole)[score][whole.brain]
                found.append(ranking_figures(count_scores(values, lesions))["auprc"])
        return float(np.mean(found))

    def _maps(self, steps: int, stride: int, together: int) -> dict[str, CaseMaps]:
        if (steps, stride, together) not in self.maps:
            settings = make_settings(
                self.model.plan,
                self.model.configuration,
                options=MapOptions(sampling_steps=steps, strip_stride=stride, strips_per_pass=together),
            )
            self.maps[steps, stride, together] = {
                case: healthy_maps(
                    MapMaker(self.loaded.cycle, settings, CPU, self.model.plan.patch_size),
                    self.modality,
                    self.preprocessed,
                    record,
                    [item.index for item in record.slices],
                )
                for case, record in self.records.items()
            }
        return self.maps[steps, stride, together]


def tell(lines: Sequence[tuple[Tried, float]]) -> None:
    """Print the table and the rank correlation."""
    print("| model | steps | strip stride | score | synthetic | lesions |\n|---|---|---|---|---|---|")
    for tried, real in sorted(lines, key=lambda line: -line[0].auprc):
        score = "squared" if tried.published else f"{tried.score.smoothing_mm:g} mm, x {tried.score.other_weight:g}"
        name = tried.model.split("__")[0]
        print(f"| {name} | {tried.sampling_steps} | {tried.strip_stride} px | {score} | {tried.auprc:.3f} | {real:.3f} |")
    synthetic, real = ([pair[0].auprc for pair in lines], [pair[1] for pair in lines])
    print(f"{len(lines)} models and settings, Spearman's rank correlation {spearmanr(synthetic, real).statistic:.2f}")
    for name in dict.fromkeys(tried.model for tried, _ in lines):
        own = [(tried.auprc, value) for tried, value in lines if tried.model == name]
        print(f"  of {name} alone ({len(own)}): {spearmanr(*zip(*own, strict=True)).statistic:.2f}")


def main() -> None:
    """Measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preprocessed", type=Path, help="$mmccd_preprocessed/DATASET/PLANS")
    parser.add_argument("models", type=Path, nargs="+", help="model folders TRAINER__PLANS__CYCLE")
    parser.add_argument("-f", dest="fold", default="0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for path in options.models:
        model = ModelFolder(path)
        labelled = LabelledCases(model, options.fold, options.preprocessed)
        trial = SyntheticTrial(options.fold, options.preprocessed, CPU, PER_KIND, MAX_SLICES)
        for tried in try_choices(model, trial, seeds=1):
            lines.append((tried, labelled.auprc(tried)))
    tell(lines)


if __name__ == "__main__":
    main()
