"""How much of healthy tissue that it has never seen does a cycle explain?

    python tests/benchmarks/measure_reconstruction.py MODEL_FOLDER [MODEL_FOLDER ...]

reads the errors on held-out healthy slices that mmccd_train and mmccd_calibrate left in fold_K/validation. Per subject: R2
(1 less the mean squared error over the variance of the brain's pixels; the mean intensity of that brain would reach 0,
but no method knows it beforehand) and the correlation of the scan and its cycle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps, load_validation_record
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import HELD_OUT
from mmccd_auto.trained.model_folder import ModelFolder, preprocessed_folder


def explained(case: CaseMaps) -> tuple[float, float]:
    """R2 and correlation over the brain's pixels."""
    cycle, error = case.maps.cycle[case.brain].astype(np.float64), case.maps.signed[case.brain].astype(np.float64)
    scan = cycle + error
    return 1 - float(np.mean(error**2) / scan.var()), float(np.corrcoef(scan, cycle)[0, 1])


def main() -> None:
    """Print a line per subject."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model folders with calibrated folds")
    print("| model | fold | case | R2 | correlation |\n|---|---|---|---|---|")
    for path in parser.parse_args().models:
        model = ModelFolder(path)
        preprocessed = preprocessed_folder(Folders.resolve(), model)
        for fold in model.folds():
            record = load_validation_record(model, fold, preprocessed)
            if record is None or record.source != HELD_OUT:
                continue
            for case in load_validation_maps(model, fold, record, preprocessed):
                share, correlation = explained(case)
                print(f"| {model.trainer} | {fold} | {case.case} | {share:.2f} | {correlation:.2f} |")


if __name__ == "__main__":
    main()
