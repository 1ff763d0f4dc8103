"""What a map costs, and what it finds, against the published test procedure on the same weights and slices.

    python tests/benchmarks/inference.py -o FILE.json
    python tests/benchmarks/inference.py -o FILE.json -m MODEL_FOLDER -d RAW_DATASET

The first takes the phantom of mmccd_demo and trains on it, the second a trained model, and imagesTs and labelsTs. In one
run, side by side:

- network evaluations a slice: all strips of the published procedure (those without brain among them), and those of --preset;
- wall time a slice: the published loop (published_loop.py: strip by strip, all slices in a batch) is timed on a few strips
  and multiplied up to all of them; ours on the same slices, whole; the median of the ratios of several rounds counts;
- area under the precision-recall curve of the squared error over the brain's pixels of all slices, mean over seeds of the
  noise for both; the published setting is computed by the package's preset "paper", which
  tests/inference/test_published_loop.py holds against published_loop.py. The interval is the 2.5th to 97.5th percentile of
  2000 bootstrap samples: cases are drawn, and slices of each, since slices of one person resemble each other.

FILE.json holds evaluations_ratio, wall_ratio, auprc_ratio, auprc_interval, and what they are made of; with --rungs also the
AUPRC of every steps and strips that mmccd_train chooses from, and of the preset "cyclic".
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from published_loop import PublishedLoop
from tqdm import tqdm

from mmccd_auto.core.files import save_json
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.evaluation.metrics import count_scores, ranking_figures
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.choice.compare import candidate_settings, seeded
from mmccd_auto.inference.maps.engine import MapMaker, SliceWork, stream_maps
from mmccd_auto.inference.maps.fold_model import FoldModel, load_fold
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.options import PRESETS, MapOptions
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder, find_models
from mmccd_auto.workflows.demo import DATASET_NUMBER, TRAINERS, run_demo

CPU = torch.device("cpu")
TIMED_STRIPS = 2
ROUNDS = 3
RESAMPLES = 2000


@dataclass(frozen=True)
class TestSlices:
    """Slices of one test case with abnormal tissue in them, and where it is."""

    work: SliceWork
    lesions: np.ndarray


def test_slices(model: ModelFolder, plan: Plan, raw: Path, count: int) -> list[TestSlices]:
    """About ``count`` slices with lesions, equally many of each test case: those at equal steps of their list by height."""
    dataset = load_dataset(raw)
    cases = [case for case in dataset.cases("Ts") if dataset.label_file(case, "Ts").is_file()]
    found = []
    for number, case in enumerate(cases):
        scan = read_volume(dataset.channel_file(case, model.input_modality, "Ts"))
        label = read_volume(dataset.label_file(case, "Ts"), dtype=None)
        made = preprocess_case(case, {model.input_modality: scan}, plan, label=label)
        lesions = (made.anomaly > 0) & made.brain
        there = np.flatnonzero(lesions.any(axis=(1, 2)))
        wanted = min(len(there), count // len(cases) + (number < count % len(cases)))
        if wanted:
            chosen = there[((np.arange(wanted) + 0.5) * len(there) / wanted).astype(int)]
            work = SliceWork(case, made.image[0, chosen], made.brain[chosen], tuple(chosen.tolist()))
            found.append(TestSlices(work, lesions[chosen]))
    if not found:
        raise SystemExit(f"{raw} has no test case with a label: scans in imagesTs, labels in labelsTs.")
    return found


def run(cycle: torch.nn.Module, plan: Plan, slices: list[TestSlices], settings: InferenceSettings) -> tuple[list, int]:
    """Squared errors [S, H, W] of each case, and the network evaluations of all."""
    maps = list(stream_maps(MapMaker(cycle, settings, CPU, plan.patch_size), [one.work for one in slices]))
    return [one.squared for one in maps], sum(one.network_evaluations for one in maps)


def auprc(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of (scores, lesions) of the brain's pixels of several slices, pooled."""
    return ranking_figures(count_scores(*(np.concatenate(values) for values in zip(*parts, strict=True))))["auprc"]


def pixels(slices: list[TestSlices], squared: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores, lesions) of the brain's pixels, slice by slice."""
    return [
        (values[brain], lesions[brain])
        for one, scores in zip(slices, squared, strict=True)
        for values, lesions, brain in zip(scores, one.lesions, one.work.brain, strict=True)
    ]


def bootstrap(ours: list[list], paper: list[list], cases: list[int]) -> list[float]:
    """The interval of the ratio of mean AUPRCs (over seeds) when cases, and slices of each, are drawn with replacement.

    ``cases`` holds the number of slices of each case, in their order.
    """
    random = np.random.default_rng(0)
    firsts = np.cumsum([0, *cases[:-1]])
    ratios = []
    for _ in tqdm(range(RESAMPLES), desc="bootstrap", leave=False):
        people = random.integers(len(cases), size=len(cases))
        drawn = np.concatenate([firsts[one] + random.integers(cases[one], size=cases[one]) for one in people])
        means = [np.mean([auprc([seed[index] for index in drawn]) for seed in seeds]) for seeds in (ours, paper)]
        ratios.append(means[0] / means[1])
    return [float(value) for value in np.percentile(ratios, [2.5, 97.5])]


def wall_ratios(cycle, plan, slices, settings, rounds: int) -> tuple[list[float], float, float]:
    """Published loop over ours, for each round; and the medians of their seconds a slice."""
    loop = PublishedLoop(cycle, plan.patch_size)
    rows, columns = plan.patch_size
    images = np.concatenate([one.work.image for one in slices])
    if images.shape[1:] != (rows, columns):
        raise SystemExit("some brain is larger than the patch: the published loop has no tiles.")
    x = torch.from_numpy(images)[:, None]
    middle = len(loop.strips) // 4
    published, ours = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        loop.run(x, loop.strips[middle : middle + TIMED_STRIPS], torch.Generator().manual_seed(0))
        published.append((time.perf_counter() - started) * len(loop.strips) / TIMED_STRIPS / len(x))
        started = time.perf_counter()
        run(cycle, plan, slices, settings)
        ours.append((time.perf_counter() - started) / len(x))
    ratios = [one / other for one, other in zip(published, ours, strict=True)]
    return ratios, statistics.median(published), statistics.median(ours)


def rungs(model: ModelFolder, fold: FoldModel, plan: Plan, slices: list[TestSlices], seeds: int) -> list[dict]:
    """What each of the steps and strips finds of the lesions, on the same slices; the cheapest first."""
    number = sum(len(one.work.image) for one in slices)
    found = []
    for settings in [
        make_settings(plan, model.configuration, options=MapOptions(preset="cyclic")),
        *candidate_settings(model, fold),
    ]:
        values = []
        for one in seeded(settings, seeds):
            squared, evaluations = run(fold.cycle, plan, slices, one)
            values.append(auprc(pixels(slices, squared)))
        rung = (settings.sampling.steps, settings.strip_stride, settings.strips_per_pass)
        names = ("sampling_steps", "strip_stride", "strips_per_pass")
        per_slice = evaluations / number
        found.append({**dict(zip(names, rung, strict=True)), "evaluations_per_slice": per_slice, "auprc_by_seed": values})
    return found


def measure(options: argparse.Namespace, path: Path, raw: Path) -> dict:
    """All figures of one model."""
    count, seeds, preset = options.slices, options.seeds, options.preset
    keep_large_blocks()
    model = ModelFolder(path)
    plan = chosen_plan(model)
    fold = load_fold(model, options.fold, CPU)
    cycle = fold.cycle
    slices = test_slices(model, plan, raw, count)
    number = sum(len(one.work.image) for one in slices)
    settings = make_settings(plan, model.configuration, options=MapOptions(preset=preset))
    paper = make_settings(plan, model.configuration, options=MapOptions(preset="paper"))
    ratios, published_seconds, our_seconds = wall_ratios(cycle, plan, slices, settings, ROUNDS)
    found: dict[str, list] = {"ours": [], "paper": []}
    for seed in tqdm(range(seeds), desc="seeds"):
        for name, one in (("ours", settings), ("paper", paper)):
            squared, evaluations = run(cycle, plan, slices, replace(one, seed=one.seed + seed))
            found[name].append(pixels(slices, squared))
            if name == "ours":
                our_evaluations = evaluations / number
    by_seed = {name: [auprc(one) for one in several] for name, several in found.items()}
    published_evaluations = PublishedLoop(cycle, plan.patch_size).evaluations_per_slice
    return {
        "evaluations_ratio": published_evaluations / our_evaluations,
        "wall_ratio": statistics.median(ratios),
        "auprc_ratio": float(np.mean(by_seed["ours"]) / np.mean(by_seed["paper"])),
        "auprc_interval": bootstrap(found["ours"], found["paper"], [len(one.work.image) for one in slices]),
        "slices": number,
        "cases": len(slices),
        "prevalence": float(np.mean(np.concatenate([lesions for _, lesions in found["ours"][0]]))),
        "published": {
            "evaluations_per_slice": published_evaluations,
            "seconds_per_slice": published_seconds,
            "auprc_by_seed": by_seed["paper"],
        },
        "ours": {
            "settings": settings.to_json(),
            "evaluations_per_slice": our_evaluations,
            "seconds_per_slice": our_seconds,
            "auprc_by_seed": by_seed["ours"],
        },
        "rungs": rungs(model, fold, plan, slices, seeds) if options.rungs else [],
        "wall_ratio_by_round": ratios,
        "threads": torch.get_num_threads(),
        "patch_size": list(plan.patch_size),
        "data": raw.name,
        "model": path.resolve().name,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("-m", dest="model", type=Path, help="trained model folder; without it, the phantom is trained")
    parser.add_argument("-d", dest="raw", type=Path, help="raw dataset with imagesTs and labelsTs")
    parser.add_argument("-f", dest="fold", default="0")
    parser.add_argument("--slices", type=int, default=12, help="with lesions, in all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--rungs", action="store_true", help="also measure the other steps and strips")
    options = parser.parse_args()
    if (options.model is None) != (options.raw is None):
        parser.error("give -m and -d together, or neither")
    with tempfile.TemporaryDirectory() as folder:
        path, raw = options.model, options.raw
        if path is None:
            run_demo(Path(folder) / "demo", processes=2)
            raw = next((Path(folder) / "demo" / "raw").glob(f"Dataset{DATASET_NUMBER}_*"))
            (path,) = (
                one.path
                for one in find_models(Path(folder) / "demo" / "results", raw.name)
                if one.trainer == TRAINERS["mmccd"]
            )
        figures = measure(options, path, raw)
    save_json(figures, options.output)
    low, high = figures["auprc_interval"]
    print(f"network evaluations a slice: {figures['evaluations_ratio']:.0f} x fewer")
    print(f"wall time a slice:           {figures['wall_ratio']:.0f} x less")
    print(f"AUPRC:                       {figures['auprc_ratio']:.3f} x ({low:.3f} to {high:.3f})")
    for one in figures["rungs"]:
        rung = f"{one['sampling_steps']} steps, stride {one['strip_stride']} px, {one['strips_per_pass']} at once"
        told = ", ".join(f"{value:.3f}" for value in one["auprc_by_seed"])
        ratio = np.mean(one["auprc_by_seed"]) / np.mean(figures["published"]["auprc_by_seed"])
        print(f"{rung}: {one['evaluations_per_slice']:.1f} evaluations, {ratio:.3f} x ({told})")


if __name__ == "__main__":
    main()
