"""How often is a scan warned of because of a rim along the brain's edge, as it is and with a rim put on?

    python tests/benchmarks/measure_rims.py MODEL_FOLDER SCAN [SCAN ...] [--with_rims] [--trim_edge MM]

The scans are of the model's input modality. With --with_rims, which takes brain-only scans alone, each is also predicted
with a shell of 3 mm around its upper 60 %, twice as bright as the brain, and with a coil's brightness that falls from 2.5
times at the surface within 3 mm.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor

SHELL_MM, BRIGHTER, UPPER_SHARE = 3.0, 2.0, 0.6
COIL_GAIN, COIL_MM = 1.5, 3.0


def with_shell(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """What an extraction left around the convexities."""
    outside = ndimage.distance_transform_edt(~brain, sampling=volume.geometry.spacing[::-1])
    slices = np.flatnonzero(brain.any(axis=(1, 2)))
    lowest = slices[0] + (1 - UPPER_SHARE) * (slices[-1] - slices[0])
    shell = (outside > 0) & (outside <= SHELL_MM) & (np.arange(len(brain)) >= lowest)[:, None, None]
    return np.where(shell, BRIGHTER * np.median(volume.array[brain]), volume.array)


def with_coil(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """What is near the surface, brighter."""
    padded = np.pad(brain, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=volume.geometry.spacing[::-1])[1:-1, 1:-1, 1:-1]
    return np.where(brain, volume.array * (1 + COIL_GAIN * np.exp(-depth / COIL_MM)), volume.array)


def scans_of(paths: list[Path], with_rims: bool) -> Iterator[Scan]:
    """Each scan as it is, and with rims."""
    for path in paths:
        volume = to_canonical(read_volume(path))
        yield Scan(volume, path.name)
        if not with_rims:
            continue
        brain = find_brain(volume.array, volume.geometry.spacing, path.name)
        for name, change in (("shell", with_shell), ("coil", with_coil)):
            array = change(volume, brain).astype(np.float32)
            yield Scan(Volume(array, volume.geometry), f"{path.name}, {name}")


def main() -> None:
    """Predict, and tell a line a scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--with_rims", action="store_true")
    parser.add_argument("--trim_edge", type=float, default=0.0, metavar="MM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_model_folder(options.model, LoadOptions(trim_edge_mm=options.trim_edge))
    warned: dict[str, list[bool]] = {}
    for found in predictor.predict_volumes(scans_of(options.scans, options.with_rims), only_score=True):
        if isinstance(found, Settled):
            print(f"{found.outcome}")
            continue
        if found.edge is None:
            raise SystemExit(f"{options.model} doesn't know healthy people's edges: run mmccd_calibrate.")
        edge = found.edge
        warned.setdefault(found.case.partition(", ")[2] or "as it is", []).append(edge.is_rim)
        print(
            f"{found.case}: {'rim' if edge.is_rim else '-'}, score {edge.rim:.2f} (healthy at most {edge.usual_rim:.2f}), "
            f"around {edge.profile.around:.2f}, over {edge.profile.over:.2f}, {found.anomalous_ml or 0:.1f} ml marked",
            flush=True,
        )
    for what, flags in warned.items():
        print(f"{what}: {sum(flags)} of {len(flags)} warned of")


if __name__ == "__main__":
    main()
