"""Registration of scans whose headers were moved by known rigid motions: how many mm are left.

python tests/benchmarks/measure_registration.py --dataset $mmccd_raw/Dataset001_RealBrain --motions 2
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.preprocessing.registration import register


def moved(volume: Volume, rotation: Rotation, shift: np.ndarray) -> Volume:
    """The same voxels under a header that is turned about the volume's centre and shifted (mm)."""
    geometry = volume.geometry
    centre = geometry.corners().mean(axis=0)
    turn = rotation.as_matrix()
    origin = turn @ (np.array(geometry.origin) - centre) + centre + shift
    direction = turn @ np.reshape(geometry.direction, (3, 3))
    return Volume(volume.array, Geometry(geometry.size, geometry.spacing, tuple(origin), tuple(direction.ravel())))


def errors(
    fixed: Volume, moving: Volume, rotation: Rotation, shift: np.ndarray, brain: np.ndarray
) -> tuple[np.ndarray, float]:
    """Distances (mm) over the brain between where registration puts a point and where it belongs, and the seconds."""
    centre = moving.geometry.corners().mean(axis=0)
    start = time.perf_counter()
    found = register(fixed, moved(moving, rotation, shift))
    seconds = time.perf_counter() - start
    geometry = fixed.geometry
    indices = np.argwhere(brain)[::97, ::-1]
    points = (indices * geometry.spacing) @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin
    expected = rotation.apply(points - centre) + centre + shift
    reached = np.array([found.transform.TransformPoint(point) for point in points.tolist()])
    return np.linalg.norm(reached - expected, axis=1), seconds


def main() -> None:
    """Print a line per pair and motion, and the quantiles over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset of brain-extracted, registered scans")
    parser.add_argument("--motions", type=int, default=1, help="random motions per pair of modalities")
    parser.add_argument("--largest_shift", type=float, default=25.0, help="mm")
    parser.add_argument("--largest_angle", type=float, default=25.0, help="degrees")
    options = parser.parse_args()
    dataset = load_dataset(options.dataset)
    random = np.random.default_rng(0)
    collected = []
    for case in dataset.cases("Tr"):
        scans = {name: read_volume(dataset.channel_file(case, name)) for name in dataset.modalities}
        fixed = scans[dataset.modalities[0]]
        brain = find_brain(fixed.array, fixed.geometry.spacing, case)
        for name, motion in itertools.product(dataset.modalities[1:], range(options.motions)):
            direction = random.standard_normal((2, 3))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            angle, length = random.uniform(0, (options.largest_angle, options.largest_shift))
            rotation, shift = Rotation.from_rotvec(np.radians(angle) * direction[0]), length * direction[1]
            found, seconds = errors(fixed, scans[name], rotation, shift, brain)
            collected.append(found)
            print(
                f"{case} {dataset.modalities[0]} <- {name}, motion {motion}: {length:.1f} mm and {angle:.1f} degrees; left "
                f"median {np.median(found):.2f} mm, 95th percentile {np.percentile(found, 95):.2f} mm; {seconds:.1f} s",
                flush=True,
            )
    everything = np.concatenate(collected)
    print(f"all: median {np.median(everything):.2f} mm, 95th percentile {np.percentile(everything, 95):.2f} mm")


if __name__ == "__main__":
    main()
