"""How long does the choice of steps and strips take, with and without giving losers up, and what is chosen?

    python tests/benchmarks/measure_elimination.py PREPROCESSED MODEL_FOLDER [-f FOLD] [--slices N] [--seeds N]

Everything on all seeds first, from which the rule of earlier versions (the cheapest within 1 % of the best mean) and the one
of now choose; then with successive elimination. No file of the model is touched.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from mmccd_auto.inference.choice.choose_steps import describe_choice
from mmccd_auto.inference.choice.compare import Tried, best_of, choice_of, try_choices
from mmccd_auto.inference.choice.race import race_steps
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.trained.inference_choice import PlannedInference
from mmccd_auto.trained.model_folder import ModelFolder

OLD_TOLERANCE = 0.01


def within_one_percent(tried: list[Tried]) -> Tried:
    """What earlier versions chose."""
    calibrated = [one for one in tried if not one.published]
    top = max(one.auprc for one in calibrated)
    near = [one for one in calibrated if one.auprc >= (1 - OLD_TOLERANCE) * top]
    return min(near, key=lambda one: (one.evaluations_per_slice, -one.auprc))


def main() -> None:
    """Choose in both ways, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preprocessed", type=Path, help="$mmccd_preprocessed/DATASET/PLANS")
    parser.add_argument("model", type=Path, help="model folder TRAINER__PLANS__CYCLE")
    parser.add_argument("-f", dest="fold", default="0")
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ModelFolder(options.model)
    configuration = model.plan.configuration(model.configuration)
    trial = SyntheticTrial(options.fold, options.preprocessed, torch.device("cpu"), 1, options.slices)
    started = time.monotonic()
    tried = try_choices(model, trial, scores=[configuration.score], seeds=options.seeds)
    seconds = time.monotonic() - started
    planned = PlannedInference.of(configuration)
    print(describe_choice(choice_of(best_of(tried), tried, planned)))
    for name, one in (("within 1 % of the best", within_one_percent(tried)), ("by intervals", best_of(tried))):
        print(f"{name}: {one.rung}, {one.evaluations_per_slice:.1f} evaluations a slice, AUPRC {one.auprc:.3f}")
    started = time.monotonic()
    race = race_steps(model, trial, configuration.score, options.seeds)
    eliminated = time.monotonic() - started
    print(describe_choice(choice_of(race.chosen, race.tried, planned, given_up=race.given_up)))
    print(f"by elimination: {race.chosen.rung}; {race.describe_time()}")
    print(f"everything {seconds:.1f} s, by elimination {eliminated:.1f} s: {seconds / eliminated:.2f} times faster")


if __name__ == "__main__":
    main()
