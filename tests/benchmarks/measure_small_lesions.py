"""How well are small lesions found that are drawn into scans of healthy people, by the map and by its control?

    python tests/benchmarks/measure_small_lesions.py MODEL SCAN [SCAN ...] [--darker] [--draws N] [--per_scan N]

MODEL is a model folder or the name of a ready model (ready_FLAIR). The scans are brain-only, of the model's input
modality. Balls of 2 to 6 mm radius with soft, uneven edges are put where the brain is deeper than 8 mm, in tissue of
usual intensity, and are brighter (on T1: --darker) by 15 to 60 % of the brain's median. Average precision is of all
brain voxels, and by radius of those lesions and of the brain without any. The columns "joined W" are the geometric mean
of map and control, the control with the weight W.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score

from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.trained.ready_models import find_ready, ready_names

RADII_MM, CONTRASTS = (2.0, 6.0), (0.15, 0.6)
CLASSES_MM = ((2.0, 3.0), (3.0, 4.5), (4.5, 6.0))
LEAST_DEPTH_MM, APART_MM = 8.0, 8.0
USUAL = (30, 90)
"""Percentiles of the brain's intensities between which a lesion's middle lies: no fluid, no vessel."""
EDGE_MM, UNEVEN_MM = 0.7, 1.5
WEIGHTS = (0.25, 0.5, 0.75)
LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class Drawn:
    """A scan with lesions, and the radius of the lesion that each voxel belongs to, in mm (0: none)."""

    volume: Volume
    radii: np.ndarray
    lesions: int


def draw_lesions(volume: Volume, count: int, darker: bool, random: np.random.Generator) -> Drawn:
    """Draw up to ``count`` lesions, none near another."""
    scan, spacing = volume.array.astype(np.float32), volume.geometry.spacing[::-1]
    brain = scan > 0
    depth = ndimage.distance_transform_edt(brain, sampling=spacing)
    low, high = np.percentile(scan[brain], USUAL)
    free = (depth > LEAST_DEPTH_MM) & (scan > low) & (scan < high)
    uneven = ndimage.gaussian_filter(random.normal(size=scan.shape), [UNEVEN_MM / edge for edge in spacing])
    uneven /= uneven.std()
    level, radii = float(np.median(scan[brain])), np.zeros(scan.shape, np.float32)
    altered, drawn = scan.copy(), 0
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(scan.shape, spacing, strict=True)), indexing="ij"))
    while drawn < count and free.any():
        middle = random.choice(np.argwhere(free)) * spacing
        distance = np.sqrt(((grid - middle[:, None, None, None]) ** 2).sum(axis=0))
        radius, contrast = random.uniform(*RADII_MM), random.uniform(*CONTRASTS) * level
        depth_inside = radius * (1 + 0.15 * uneven) - distance
        share = brain / (1 + np.exp(np.clip(-depth_inside / EDGE_MM * 2, -50, 50)))
        altered += (-contrast if darker else contrast) * share.astype(np.float32)
        radii[share > 0.5] = radius
        free &= distance > 2 * radius + APART_MM
        drawn += 1
    return Drawn(Volume(np.where(brain, np.maximum(altered, 1e-3), 0).astype(np.float32), volume.geometry), radii, drawn)


def precisions(score: np.ndarray, radii: np.ndarray, brain: np.ndarray) -> list[float]:
    """Average precision of all lesions, then of each class of radii."""
    found = []
    for low, high in ((0.0, np.inf), *CLASSES_MM):
        counted = brain & ((radii == 0) | ((radii >= low) & (radii < high)))
        found.append(float(average_precision_score(radii[counted] > 0, score[counted])))
    return found


def scores_of(predictor: Predictor, cases: Sequence[Drawn]) -> Iterator[tuple[Drawn, dict[str, np.ndarray]]]:
    """Map, control and both joined, by name."""
    scans = [Scan(one.volume, f"case {number}") for number, one in enumerate(cases)]
    for one, found in zip(cases, predictor.predict_volumes(scans, control=True), strict=True):
        if isinstance(found, Settled):
            raise SystemExit(f"{found.outcome}")
        map_, control = (np.maximum(array, LEAST_SCORE) for array in (found.anomaly, found.control))
        joined = {f"joined {weight:g}": map_ ** (1 - weight) * control**weight for weight in WEIGHTS}
        yield one, {"map": map_, "control": control, **joined}


def model_folder(name: str) -> Path:
    """The folder of a ready model, or the folder that is named."""
    if name not in ready_names():
        return Path(name)
    ready = find_ready(name)
    return ready.path / ready.manifest.models[0]


def main() -> None:
    """Draw, predict, and tell a line a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--darker", action="store_true")
    parser.add_argument("--draws", type=int, default=2, metavar="N")
    parser.add_argument("--per_scan", type=int, default=25, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_model_folder(model_folder(options.model))
    volumes = [to_canonical(read_volume(path)) for path in options.scans]
    cases = [
        draw_lesions(volume, options.per_scan, options.darker, np.random.default_rng([number, draw]))
        for number, volume in enumerate(volumes)
        for draw in range(options.draws)
    ]
    table: dict[str, list[list[float]]] = {}
    for one, scores in scores_of(predictor, cases):
        for name, score in scores.items():
            table.setdefault(name, []).append(precisions(score, one.radii, one.volume.array > 0))
    print(f"{sum(one.lesions for one in cases)} lesions in {len(cases)} scans; average precision, mean over the scans")
    print(" ".join(f"{text:>12}" for text in ("", "all", *(f"{low:g}-{high:g} mm" for low, high in CLASSES_MM))))
    for name, rows in table.items():
        print(f"{name:>12} " + " ".join(f"{value:12.3f}" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
