"""What does a cluster cost beside processes of one machine, and does the scheduler's memory grow?

    python tests/benchmarks/measure_cluster.py [--cases 2000] [--workers 2]

Simulates small cases and preprocesses them by mmccd_plan_and_preprocess, once with -np and once at as many workers of a dask
scheduler, each a process of its own as on machines of their own. Printed are the wall times and their ratio, the scheduler's
memory when its workers have come and when the command has ended, its own processor time, and whether the files agree to
the last byte.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from scipy import ndimage

from mmccd_auto.core.files import save_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry

GEOMETRY = Geometry((40, 48, 8), (4.0, 4.0, 14.0), (-80.0, -95.0, -50.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
DATASET = "Dataset007_Small"
OPTIONS = ("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "6")


def write_small_dataset(raw: Path, cases: int) -> Path:
    """Write a raw dataset of healthy cases of FLAIR and T1, 15 000 voxels each, and give its folder."""
    folder = raw / DATASET
    names = [f"case_{number:05d}" for number in range(cases)]
    for number, case in enumerate(names):
        for channel, scan in enumerate(simulate(number)):
            write_volume(scan, GEOMETRY, folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    content = {
        "channel_names": {"0": "FLAIR", "1": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "subjects": {case: case for case in names},
    }
    save_json(content, folder / "dataset.json")
    return folder


def simulate(seed: int) -> list[np.ndarray]:
    """Simulate two contrasts of one tissue without skull, float32 [z, y, x]."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in reversed(GEOMETRY.size)), indexing="ij")
    brain = (x / 0.85) ** 2 + ((y + 0.05) / 0.9) ** 2 + ((z - 0.1 * x) / 1.1) ** 2 < 1
    tissue = ndimage.gaussian_filter(random.normal(size=brain.shape), 1.5)
    tissue /= tissue.std()
    scans = [500 + contrast * tissue + 10 * random.normal(size=brain.shape) for contrast in (-30, 60)]
    return [np.where(brain, scan, 0).astype(np.float32) for scan in scans]


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    """Name the files below two folders that are not the same to the last byte."""
    first, second = contents(one), contents(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


@contextmanager
def dask_processes(folder: Path, workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run a scheduler and its workers; gives its address and its process."""
    file, started = folder / "scheduler.json", []
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "OMP_NUM_THREADS": "1"}

    def start(module: str, *options: str) -> subprocess.Popen:
        with (folder / "dask.txt").open("ab") as log:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
            started.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log))
        return started[-1]

    try:
        places = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        scheduler = start("dask_scheduler", *places, "--scheduler-file", str(file))
        while not (file.is_file() and file.read_text().endswith("}")):
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            start("dask_worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers)
        yield address, psutil.Process(scheduler.pid)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def preprocess(home: Path, raw: Path, *options: str) -> float:
    """Run the command; gives its wall time in seconds."""
    command = [
        str(Path(sys.executable).parent / "mmccd_plan_and_preprocess"),
        *OPTIONS,
        "-device",
        "cpu",
        *options,
        "--raw_folder",
        str(raw),
    ]
    began = time.monotonic()
    subprocess.run([*command, "--preprocessed_folder", str(home), "--quiet"], check=True, cwd=raw)
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        write_small_dataset(raw, options.cases)
        alone = preprocess(folder / "processes", raw, "-np", str(options.workers))
        with dask_processes(folder, options.workers) as (address, scheduler):
            before = scheduler.memory_info().rss / 2**20
            cluster = preprocess(folder / "cluster", raw, "--cluster", address)
            after, times = scheduler.memory_info().rss / 2**20, scheduler.cpu_times()
        unlike = differing(folder / "processes", folder / "cluster")
    print(f"{options.cases} cases, {options.workers} workers, load {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    print(f"-np: {alone:.1f} s; --cluster: {cluster:.1f} s; ratio {cluster / alone:.2f}")
    print(f"scheduler: {before:.0f} MiB at the start, {after:.0f} MiB at the end ({after / before:.2f} x)")
    each = 1000 * (times.user + times.system) / (2 * options.cases)
    print(f"scheduler: {each:.1f} ms of processor time a call, its start included; 2 calls a case")
    print("the files agree to the last byte" if not unlike else f"{len(unlike)} files differ: {', '.join(unlike[:5])}")


if __name__ == "__main__":
    main()
