"""Is the promised false-alarm rate met in a healthy subject that calibration has never seen?

    python tests/benchmarks/measure_false_alarms.py MODEL_FOLDER

reads the errors on held-out healthy slices that mmccd_train and mmccd_calibrate left in fold_K/validation. Each subject in
turn is left out: the calibration is fitted on the others (each by the fold that held it out), the threshold for each rate
is taken, and the share of the left-out subject's healthy pixels above it is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps, load_validation_record
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import HELD_OUT, fit_calibration
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder, preprocessed_folder

RATES = (0.05, 0.01, 0.005, 0.001)


def held_out_cases(model: ModelFolder) -> list[CaseMaps]:
    """The healthy held-out slices of all folds."""
    found: dict[str, CaseMaps] = {}
    preprocessed = preprocessed_folder(Folders.resolve(), model)
    for fold in model.folds():
        record = load_validation_record(model, fold, preprocessed)
        if record is not None and record.source == HELD_OUT:
            found |= {case.case: case for case in load_validation_maps(model, fold, record, preprocessed)}
    return list(found.values())


def rates_when_left_out(cases: Sequence[CaseMaps], model: ModelFolder) -> dict[str, list[float]]:
    """Per subject, the shares of its pixels above the thresholds for RATES that the other subjects give."""
    score = chosen_plan(model).configuration(model.configuration).score
    found = {}
    for subject in sorted({case.subject for case in cases}):
        others = [case for case in cases if case.subject != subject]
        own = [case for case in cases if case.subject == subject]
        calibration = fit_calibration(others, score, {}, HELD_OUT, {})
        values = np.concatenate([calibration.scores(case)["combined"][case.brain] for case in own])
        found[subject] = [float(np.mean(values > calibration.threshold(rate))) for rate in RATES]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder with several calibrated folds")
    model = ModelFolder(parser.parse_args().model)
    found = rates_when_left_out(held_out_cases(model), model)
    print("| left out | " + " | ".join(f"{100 * rate:g} %" for rate in RATES) + " |")
    print("|---|" + "---|" * len(RATES))
    for subject, shares in found.items():
        print(f"| {subject} | " + " | ".join(f"{100 * share:.2f} %" for share in shares) + " |")
    table = np.array(list(found.values())) / RATES
    print("| mean / promised | " + " | ".join(f"{value:.2f}" for value in table.mean(axis=0)) + " |")
    print("| worst / promised | " + " | ".join(f"{value:.2f}" for value in table.max(axis=0)) + " |")


if __name__ == "__main__":
    main()
