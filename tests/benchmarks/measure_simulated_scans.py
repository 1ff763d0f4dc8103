"""Whether simulated heads are as various as real scans: quantiles of contrast, noise, sharpness, shading, fluid and rims.

    python tests/benchmarks/measure_simulated_scans.py --data DATA --people 40 -o statistics.json

DATA holds Dataset001_RealBrain, aged_raw, healthy_t1 and label_maps. The test cases (imagesTs) are not looked at. Fluid,
grey and white matter are told apart on each person's T1, in the same way in real and simulated people, lesions left out. A
cell holds the least value, the quantiles 10, 50 and 90 %, and the largest; the last column the real scans outside of the
range of the simulated ones. --table FILE prints the table of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scan_statistics import CoarseScan, scan_statistics, tissues_of_t1
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.true_zero import without_offset
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.label_maps.read import find_label_maps, read_label_map
from mmccd_auto.phantom.label_maps.subject import simulate_head
from mmccd_auto.phantom.label_maps.tissues import MODALITIES
from mmccd_auto.preprocessing.brain_extraction import extract_brain
from mmccd_auto.preprocessing.registration import register

SIMULATED = "simulated"
LESION_MARGIN_MM = 6.0
Statistics = dict[str, float]
Person = tuple[str, str, dict[str, Statistics]]
"""Group, name, and the statistics of each modality."""


def people_of_dataset(folder: Path) -> Iterator[Person]:
    """The training cases of a raw dataset, brain-extracted and on one grid each."""
    dataset = load_dataset(folder)
    for case in dataset.cases("Tr"):
        scans = {
            modality: to_canonical(read_volume(dataset.channel_file(case, modality)))
            for modality in dataset.available_modalities(case)
        }
        brain = np.logical_and.reduce(
            [find_brain(scan.array, scan.geometry.spacing, case) for scan in scans.values()], axis=0
        )
        label = to_canonical(read_volume(folder / "labelsTr" / f"{case}.nii.gz")).array > 0
        yield "RealBrain", case, _on_one_grid(scans, brain, _widened(label, scans["T1"].geometry.spacing))


def people_of_aged(folder: Path) -> Iterator[Person]:
    """T1 and FLAIR of old people, whole heads on two grids; what was marked as lesion on FLAIR is left out."""
    for session in sorted(folder.iterdir()):
        scans = {name: to_canonical(read_volume(session / f"{name}.nii.gz")) for name in ("T1", "FLAIR")}
        marked = to_canonical(read_volume(session / "wmh_automatic.nii.gz")).array > 0
        marked = _widened(marked, scans["FLAIR"].geometry.spacing)
        brains = {name: extract_brain(scan, name, "template", session.name).mask for name, scan in scans.items()}
        there = register(scans["FLAIR"], scans["T1"], None, session.name).transform
        t1_lesion = _carried(marked, scans["FLAIR"], scans["T1"], there.GetInverse()) > 0.5
        t1 = CoarseScan.of(without_offset(scans["T1"]), brains["T1"], t1_lesion)
        tissues = tissues_of_t1(t1)
        # On the grid of the FLAIR, so that both are averaged alike.
        moved = Volume(_carried(scans["T1"].array, scans["T1"], scans["FLAIR"], there), scans["FLAIR"].geometry)
        both = brains["FLAIR"] & (_carried(brains["T1"], scans["T1"], scans["FLAIR"], there) > 0.5)
        flair = CoarseScan.of(without_offset(scans["FLAIR"]), both, marked)
        of_flair = scan_statistics(flair, tissues_of_t1(CoarseScan.of(without_offset(moved), both, marked)))
        yield "aged", session.name, {"T1": scan_statistics(t1, tissues), "FLAIR": of_flair}


def people_of_t1(folder: Path) -> Iterator[Person]:
    """T1 of healthy people, whole heads."""
    for path in sorted(folder.glob("*.nii.gz")):
        scan = to_canonical(read_volume(path))
        try:
            brain = extract_brain(scan, "T1", "template", path.name).mask
        except MMCCDError as error:
            print(error)
            continue
        yield "healthy T1", path.name.split("_")[0], _on_one_grid({"T1": scan}, brain, None)


def simulated_people(label_maps: Path, people: int, seed: int) -> Iterator[Person]:
    """Simulated people as the ready models are trained on."""
    maps, seconds = find_label_maps(label_maps), []
    for index in range(people):
        label_map = read_label_map(maps[index % len(maps)])
        start = time.process_time()
        head = simulate_head(label_map, (seed, index))
        seconds.append(time.process_time() - start)
        scans = {modality: to_canonical(scan) for modality, scan in head.scans.items()}
        brain = to_canonical(Volume(head.brain.array.astype(np.uint8), head.geometry)).array > 0
        yield SIMULATED, str(index), _on_one_grid(scans, brain, None)
    print(f"{np.mean(seconds):.2f} s of processor a simulated person ({len(seconds)} people)")


def _on_one_grid(scans: dict[str, Volume], brain: np.ndarray, lesion: np.ndarray | None) -> dict[str, Statistics]:
    coarse = {modality: CoarseScan.of(without_offset(scan), brain, lesion) for modality, scan in scans.items()}
    tissues = tissues_of_t1(coarse["T1"])
    return {modality: scan_statistics(scan, tissues) for modality, scan in coarse.items()}


def _widened(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=spacing[::-1]) <= LESION_MARGIN_MM


def _carried(array: np.ndarray, source: Volume, target: Volume, transform: sitk.Transform) -> np.ndarray:
    """An array on the grid of ``source`` carried to that of ``target``, linearly; float32, 0 outside."""
    image = Volume(array.astype(np.float32), source.geometry).to_image()
    return sitk.GetArrayFromImage(sitk.Resample(image, target.to_image(), transform, sitk.sitkLinear, 0.0))


def print_table(people: list[Person]) -> None:
    """Print for each modality and statistic the quantiles by group, and who lies outside of the simulated range."""
    groups = list(dict.fromkeys(group for group, _, _ in people))
    for modality in MODALITIES:
        there = [(group, name, found[modality]) for group, name, found in people if modality in found]
        if not there:
            continue
        shown = [group for group in groups if any(one == group for one, _, _ in there)]
        beyond = measured = 0
        print(f"\n| {modality} | {' | '.join(shown)} | outside |\n|---|{'---|' * len(shown)}---|")
        for statistic in there[0][2]:
            values = defaultdict(list)
            for group, name, found in there:
                if not math.isnan(found[statistic]):
                    values[group].append((found[statistic], name))
            simulated = [value for value, _ in values[SIMULATED]]
            outside = [
                f"{name} {value:.2f}"
                for group in shown
                for value, name in values[group]
                if not min(simulated, default=-math.inf) <= value <= max(simulated, default=math.inf)
            ]
            beyond += len(outside)
            measured += sum(len(values[group]) for group in shown if group != SIMULATED)
            cells = [_quantiles([value for value, _ in values[group]]) for group in shown]
            print(f"| {statistic} | {' | '.join(cells)} | {len(outside)}: {', '.join(outside[:4])} |")
        print(f"{modality}: {beyond} of {measured} values of real scans lie outside")


def _quantiles(values: list[float]) -> str:
    if not values:
        return ""
    least, low, middle, high, most = np.quantile(values, (0, 0.1, 0.5, 0.9, 1))
    return f"{least:.3g} [{low:.3g} **{middle:.3g}** {high:.3g}] {most:.3g}"


def main() -> None:
    """Measure all people and print a table for each modality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of development data")
    parser.add_argument("--people", type=int, default=40, help="to simulate")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation")
    parser.add_argument("--real", type=Path, help="take the real people from this file of an earlier run")
    parser.add_argument("--table", type=Path, help="print the table of this file of an earlier run, and nothing else")
    parser.add_argument("-o", dest="output", type=Path, help="JSON file")
    options = parser.parse_args()
    if options.table:
        print_table(json.loads(options.table.read_text()))
        return
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if options.real:
        people = [tuple(one) for one in json.loads(options.real.read_text()) if one[0] != SIMULATED]
    else:
        sources: dict[str, Callable[[Path], Iterator[Person]]] = {
            "Dataset001_RealBrain": people_of_dataset,
            "aged_raw": people_of_aged,
            "healthy_t1": people_of_t1,
        }
        people = [person for name, source in sources.items() for person in source(options.data / name)]
    people += simulated_people(options.data / "label_maps", options.people, options.seed)
    if options.output:
        options.output.write_text(json.dumps(people, indent=1))
    print_table(people)


if __name__ == "__main__":
    main()
