"""How well the bias field is found, and in what time, by the grid that it is fitted on and the iterations.

    python tests/benchmarks/measure_bias_field.py --dataset $mmccd_raw/Dataset001_RealBrain --cases 3

Scans have fields of their own, which nobody knows. So a known one is put on top of each; what its estimate gains by that
should be the known field, and the rest is the error. Also printed: how far the estimate lies from that of the finest grid.
All in percent of the intensity, standard deviation inside the brain, mean over the scans.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.preprocessing.bias_field import ITERATIONS, WORKING_MM, bias_field

FINEST_MM = 4.0


def known_field(shape: tuple[int, int, int]) -> np.ndarray:
    """The logarithm of a smooth field [z, y, x]."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij", sparse=True)
    return 0.15 * x + 0.1 * y**2 - 0.1 * z * y + 0.08 * np.sin(2 * x)


def iterations(text: str) -> tuple[int, ...]:
    """40,40,30 as numbers."""
    return tuple(int(number) for number in text.split(","))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset of brain-extracted scans")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--slice_mm", type=float, help="leave out slices, so that those that stay are at least so far apart")
    parser.add_argument("--grids", type=float, nargs="+", default=[WORKING_MM, 6.0], metavar="MM")
    parser.add_argument("--iterations", type=iterations, nargs="+", default=[ITERATIONS], metavar="N,N,N")
    options = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    dataset = load_dataset(options.dataset)
    tried = list(itertools.product(options.grids, options.iterations))
    found: dict[tuple, list] = {one: [] for one in tried}
    strength = []
    for case in dataset.cases("Tr")[: options.cases]:
        for modality in dataset.available_modalities(case):
            scan = to_canonical(read_volume(dataset.channel_file(case, modality)))
            *in_plane, edge = scan.geometry.spacing
            step = max(1, math.ceil((options.slice_mm or 0) / edge))
            array, spacing = scan.array[::step], (*in_plane, step * edge)
            brain = find_brain(scan.array, scan.geometry.spacing, case)[::step]
            known = known_field(array.shape)
            shaded, known = array * np.exp(known), known[brain]
            finest = np.log(bias_field(array, brain, spacing, FINEST_MM)[brain])
            strength.append(known.std())
            for one in tried:
                start = time.process_time()
                own = np.log(bias_field(array, brain, spacing, *one)[brain])
                seconds = time.process_time() - start
                gained = np.log(bias_field(shaded, brain, spacing, *one)[brain]) - own
                found[one].append((seconds, (gained - known).std(), (own - finest).std()))
    print(f"{len(strength)} scans, a field of {100 * np.mean(strength):.1f} % put on each")
    print("| grid | iterations | CPU s a scan | error | difference to 4 mm |\n|---|---|---|---|---|")
    for (grid, numbers), lines in found.items():
        seconds, error, difference = np.mean(lines, axis=0)
        steps = ", ".join(map(str, numbers))
        print(f"| {grid:g} mm | {steps} | {seconds:.2f} | {100 * error:.2f} % | {100 * difference:.2f} % |")


if __name__ == "__main__":
    main()
