"""Measure the regions of the average brain against segmented heads, and fit the surface of the tentorium to them again.

    python tests/benchmarks/fit_brain_regions.py --label_maps DIR

DIR holds whole-head label maps by FreeSurfer's numbers (SynthSeg's training set: training_seg_*.nii.gz). Each head gets a
simple contrast, the average brain is laid on it as prediction does, and its labels are counted in MNI space. Printed are the
Dice of the shipped regions with the voxels where most heads agree, that of a newly fitted tentorium in heads that it
was not fitted on, and how much of each head's lateral ventricles the fit covers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.lesions.atlas import TENTORIUM_UNIT_MM, Atlas, load_atlas
from mmccd_auto.inference.lesions.places import place_maps
from mmccd_auto.inference.lesions.template_fit import fit_template

WHITE = (2, 41, 7, 46, 16, 28, 60, 77, 85)
GREY = (3, 42, 8, 47, 17, 18, 53, 54)
DEEP_GREY = (10, 11, 12, 13, 26, 49, 50, 51, 52, 58)
VENTRICLES, OTHER_FLUID = (4, 43, 5, 44), (14, 15, 24)
INFRATENTORIAL = (7, 8, 46, 47, 16, 15)
CONTRASTS = ((0.6, 0.8, 0.1), (1.0, 0.7, 0.25), (0.4, 0.6, 1.2))
"""Of white matter, grey matter and fluid: as in FLAIR, T1 and T2."""

LEAST_HEADS = 5
RIDGE, STEPS = 1e-3, 40
BELOW_MM, BEHIND_MM = 20.0, 20.0


@dataclass
class Counts:
    """Heads that reach each voxel of the average brain, and how many of them are infratentorial or deep grey there."""

    all: np.ndarray
    infratentorial: np.ndarray
    deep_grey: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Counts:
        return cls(*(np.zeros(shape) for _ in range(3)))

    def agreed(self, part: np.ndarray) -> np.ndarray:
        """The voxels where most heads say so, of those that enough heads reach."""
        return (part > 0.5 * self.all) & (self.all >= LEAST_HEADS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label_maps", required=True, type=Path, metavar="DIR")
    files = sorted(parser.parse_args().label_maps.glob("training_seg_*.nii.gz"))
    atlas = load_atlas()
    shape = sitk.GetArrayViewFromImage(atlas.brain).shape
    halves = (Counts.empty(shape), Counts.empty(shape))
    for number, path in enumerate(files):
        share = count_head(path, number, atlas, halves[number % 2])
        print(f"{path.name}: the fit covers {share:.0%} of the volume of its lateral ventricles", flush=True)
    counts = Counts(
        *(getattr(halves[0], name) + getattr(halves[1], name) for name in ("all", "infratentorial", "deep_grey"))
    )
    for name, truth in (("infratentorial", counts.infratentorial), ("deep_grey", counts.deep_grey)):
        region = sitk.GetArrayFromImage(getattr(atlas, name)) > 0.5
        print(f"shipped {name}: Dice {dice(region & (counts.all >= LEAST_HEADS), counts.agreed(truth)):.3f}")
    terms = tentorium_terms(atlas)
    for fitted_on, seen in ((halves[0], halves[1]), (halves[1], halves[0]), (counts, counts)):
        weights = fit_tentorium(fitted_on, terms)
        region = (terms @ weights > 0) & (seen.all >= LEAST_HEADS)
        held_out = "the other half of the heads" if fitted_on is not counts else "the same heads"
        score = dice(region, seen.agreed(seen.infratentorial))
        print(f"fitted tentorium {[round(float(one), 1) for one in weights]}: Dice {score:.3f} on {held_out}")


def count_head(path: Path, seed: int, atlas: Atlas, counts: Counts) -> float:
    """Lay the average brain on a head and count its labels in MNI space; give the covered share of its ventricles."""
    labels = to_canonical(read_volume(path))
    brain = _brain(labels.array)
    scan = Volume(_scan(labels.array, brain, seed), labels.geometry)
    to_template = fit_template(scan, brain, np.zeros_like(brain)).to_template
    maps = place_maps(scan, brain, to_template)
    image = Volume(labels.array.astype(np.int32), labels.geometry).to_image()
    here = sitk.GetArrayFromImage(sitk.Resample(image, maps.grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    inside = np.argwhere(sitk.GetArrayViewFromImage(maps.grid) > 0.5)
    points = [to_template.TransformPoint(maps.grid.TransformIndexToPhysicalPoint(one[::-1].tolist())) for one in inside]
    spacing, origin = np.array(atlas.brain.GetSpacing()), np.array(atlas.brain.GetOrigin())
    index = np.rint((np.array(points) - origin) / spacing).astype(int)[:, ::-1]
    fits = ((index >= 0) & (index < counts.all.shape)).all(axis=1)
    index, found = tuple(index[fits].T), here[tuple(inside[fits].T)]
    np.add.at(counts.all, index, 1)
    np.add.at(counts.infratentorial, index, np.isin(found, INFRATENTORIAL))
    np.add.at(counts.deep_grey, index, np.isin(found, DEEP_GREY))
    true = np.count_nonzero(np.isin(here, VENTRICLES))
    return np.count_nonzero(maps.ventricle_mm == 0) / max(true, 1)


def tentorium_terms(atlas: Atlas) -> np.ndarray:
    """The terms of TENTORIUM at every voxel of the average brain, float [z, y, x, 10]."""
    z, y, x = np.indices(sitk.GetArrayViewFromImage(atlas.brain).shape, dtype=float)
    spacing, origin = atlas.brain.GetSpacing(), atlas.brain.GetOrigin()
    side = np.abs(origin[0] + spacing[0] * x) / TENTORIUM_UNIT_MM
    front = -(origin[1] + spacing[1] * y) / TENTORIUM_UNIT_MM
    above = (origin[2] + spacing[2] * z) / TENTORIUM_UNIT_MM
    ones = np.ones_like(side)
    squares = (side**2, side * front, side * above, front**2, front * above, above**2)
    return np.stack((ones, side, front, above, *squares), axis=-1)


def fit_tentorium(counts: Counts, terms: np.ndarray) -> np.ndarray:
    """Fit the surface by logistic regression with a small ridge; float [10]."""
    front, above = terms[..., 2] * TENTORIUM_UNIT_MM, terms[..., 3] * TENTORIUM_UNIT_MM
    usable = (counts.all >= LEAST_HEADS) & (above < BELOW_MM) & (front < BEHIND_MM)
    design, share = terms[usable], counts.infratentorial[usable] / counts.all[usable]
    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        curvature = design.T @ (design * (chance * (1 - chance) + 1e-6)[:, None]) + RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(curvature, design.T @ (share - chance))
    return weights


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def _brain(labels: np.ndarray) -> np.ndarray:
    tissue = np.isin(labels, WHITE + GREY + DEEP_GREY + VENTRICLES + OTHER_FLUID)
    return ndimage.binary_fill_holes(ndimage.binary_closing(tissue, iterations=2))


def _scan(labels: np.ndarray, brain: np.ndarray, seed: int) -> np.ndarray:
    """A simple contrast with noise, the skull removed; float32 [z, y, x]."""
    random = np.random.default_rng(seed)
    white, grey, fluid = CONTRASTS[seed % len(CONTRASTS)]
    values = np.where(brain, fluid, 0).astype(np.float32)
    values[np.isin(labels, WHITE)] = white
    values[np.isin(labels, GREY + DEEP_GREY)] = grey
    values += 0.03 * random.standard_normal(labels.shape).astype(np.float32)
    return np.where(brain, ndimage.gaussian_filter(values, 0.5), 0).astype(np.float32)


if __name__ == "__main__":
    main()
