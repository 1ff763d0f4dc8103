"""Brain extraction against known brains (brain-extracted scans in simulated heads) and against deepbet on real heads.

    python tests/benchmarks/measure_brain_extraction.py --dataset $mmccd_raw/Dataset001_RealBrain --raw HEADS

HEADS holds a folder per session with MODALITY.nii.gz (T1, FLAIR, T2) of the whole head. deepbet reads the T1; its mask is
carried to the other modalities by rigid registration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.head import mask_on, with_simulated_head
from mmccd_auto.preprocessing.brain_extraction import extract_brain
from mmccd_auto.preprocessing.registration import register

MODALITIES = ("T1", "FLAIR", "T2")
HEIGHTS = (0.55, 0.68, 0.82)
"""Of the axial slices, as shares of the brain's height: all above the eyes, so that no face is shown."""

Scan = tuple[str, str, Volume, np.ndarray | None]


def simulated(folder: Path, modalities: tuple[str, ...]) -> Iterator[Scan]:
    """Training cases in simulated heads: case, modality, head, brain."""
    dataset = load_dataset(folder)
    for number, case in enumerate(dataset.cases("Tr")):
        for modality in modalities:
            scan = read_volume(dataset.channel_file(case, modality))
            brain = find_brain(scan.array, scan.geometry.spacing, case)
            head = with_simulated_head(scan, brain, modality, np.random.default_rng(number))
            yield f"{case} (simulated head)", modality, head, mask_on(brain, scan.geometry, head.geometry)


def real(folder: Path, modalities: tuple[str, ...]) -> Iterator[Scan]:
    """Real heads: session, modality, head, deepbet's brain (None where it isn't installed)."""
    for session in sorted(path for path in folder.iterdir() if path.is_dir()):
        scans = {
            name: read_volume(session / f"{name}.nii.gz") for name in MODALITIES if (session / f"{name}.nii.gz").is_file()
        }
        brain = None
        if "T1" in scans:
            try:
                brain = extract_brain(scans["T1"], "T1", "deepbet", session.name).mask
            except MMCCDError as error:
                print(f"No reference for {session.name}: {error}")
        for modality in modalities:
            if modality in scans:
                yield session.name, modality, scans[modality], _carried(scans, brain, modality, session.name)


def _carried(scans: dict[str, Volume], brain: np.ndarray | None, modality: str, name: str) -> np.ndarray | None:
    """The brain of the T1 scan on the grid of another modality."""
    if brain is None or modality == "T1":
        return brain
    place = register(scans[modality], scans["T1"], None, name)
    mask = Volume(brain.astype(np.uint8), scans["T1"].geometry).to_image()
    distance = sitk.SignedMaurerDistanceMap(mask, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    carried = sitk.Resample(distance, scans[modality].to_image(), place.transform, sitk.sitkLinear, 99.0)
    return sitk.GetArrayFromImage(carried) < 0


def draw(rows: list[tuple[str, Volume, np.ndarray]], sagittal: bool, path: Path) -> None:
    """The outline of each mask on axial slices above the eyes, and on a sagittal one where wanted."""
    columns = len(HEIGHTS) + sagittal
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.9 * columns, 2.2 * len(rows)), squeeze=False)
    for (title, scan, found), row in zip(rows, axes, strict=True):
        turned = to_canonical(scan)
        mask = to_canonical(Volume(found.astype(np.uint8), scan.geometry)).array > 0
        heights = np.flatnonzero(mask.any(axis=(1, 2)))
        across, along, up = turned.geometry.spacing
        slices = [(int(heights[0] + share * (heights[-1] - heights[0])), along / across) for share in HEIGHTS]
        views = [(turned.array[height], mask[height], ratio) for height, ratio in slices]
        if sagittal:
            middle = mask.shape[2] // 2
            views.append((turned.array[::-1, :, middle], mask[::-1, :, middle], up / along))
        for axis, (image, outline, ratio) in zip(row, views, strict=True):
            axis.imshow(image, cmap="gray", vmax=np.percentile(turned.array, 99.5), aspect=ratio)
            axis.contour(outline, [0.5], colors="tab:orange", linewidths=0.8)
            axis.axis("off")
        row[0].set_title(title, fontsize=7, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=60)


def main() -> None:
    """Print a line per scan, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="raw dataset of brain-extracted scans, to be put into simulated heads")
    parser.add_argument("--raw", type=Path, help="folder with a folder of scans of the whole head per session")
    parser.add_argument("--bet", default="template", help="backend")
    parser.add_argument("--modalities", nargs="+", default=MODALITIES)
    parser.add_argument("--picture", type=Path, help="PNG of the real heads")
    parser.add_argument(
        "--sagittal", action="store_true", help="add a sagittal slice, which shows the face: don't publish it"
    )
    options = parser.parse_args()
    sources = ([simulated(options.dataset, tuple(options.modalities))] if options.dataset else []) + (
        [real(options.raw, tuple(options.modalities))] if options.raw else []
    )
    rows = []
    for source in sources:
        overlaps = []
        for case, modality, scan, brain in source:
            start = time.process_time()
            try:
                found = extract_brain(scan, modality, options.bet, case)
            except MMCCDError as error:
                print(f"{case:36} {modality:6} FAILED: {error}", flush=True)
                overlaps.append(0.0)
                continue
            seconds = time.process_time() - start
            overlap = float("nan")
            if brain is not None:
                both = np.count_nonzero(found.mask & brain)
                overlap = 2 * both / (np.count_nonzero(found.mask) + np.count_nonzero(brain))
                overlaps.append(overlap)
            size = np.count_nonzero(found.mask) * scan.geometry.voxel_volume / 1000
            timing = f"{size:5.0f} ml, {found.seconds:5.1f} s, {seconds:5.1f} s of processor"
            print(f"{case:36} {modality:6} {found.backend:12} Dice {overlap:.3f} {timing} {found.warning}", flush=True)
            if brain is None or "simulated" not in case:
                rows.append((f"{case} {modality}", scan, found.mask))
        if overlaps:
            print(f"median {np.median(overlaps):.3f}, least {min(overlaps):.3f}", flush=True)
    if options.picture and rows:
        draw(rows, options.sagittal, options.picture)


if __name__ == "__main__":
    main()
