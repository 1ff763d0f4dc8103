"""What would a million cases take? Sizes of folders that commands have written, times of documentation/performance.md.

    python tests/benchmarks/estimate_scale.py RAW PREPROCESSED [MAPS] [--cases 1000000] [--days 7]

RAW is a raw dataset, PREPROCESSED its folder below $mmccd_preprocessed, MAPS what mmccd_predict wrote. What is measured here
are bytes a case; the seconds that one worker takes for a case, and the milliseconds of the scheduler, are options, whose
defaults stand in documentation/performance.md and documentation/scaling.md. All else is computed from these.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import ceil
from pathlib import Path

DAY = 86400.0
LARGEST_JSON = 256 * 2**20
"""Bytes that a JSON file may have, see mmccd_auto.core.strict_json."""


@dataclass(frozen=True)
class Stage:
    """A stage of the work.

    Attributes
    ----------
    name : of the stage
    seconds : of one worker for a case
    read, written : bytes a case
    calls : of a scheduler for a case
    """

    name: str
    seconds: float
    read: float
    written: float
    calls: int = 1


def size(path: Path) -> int:
    """Count the bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def main() -> None:
    """Measure, compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("preprocessed", type=Path)
    parser.add_argument("maps", type=Path, nargs="?")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=7.0, help="in which each stage is to be done")
    parser.add_argument("--preprocess_seconds", type=float, default=2 * 60 / 28.2, help="two processes, 28.2 cases a minute")
    parser.add_argument("--predict_seconds", type=float, default=122.1, help="standard network, 2 cores, 155 slices")
    parser.add_argument("--call_ms", type=float, default=26.9, help="of the scheduler's processor time a case and stage")
    options = parser.parse_args()
    training = len({path.name.rsplit("_", 1)[0] for path in (options.raw / "imagesTr").glob("*.nii.gz")})
    raw = size(options.raw / "imagesTr") / training
    plans = [path.parent for path in options.preprocessed.glob("*/plans.json")]
    slices = size(plans[0]) / training
    fingerprint = (options.preprocessed / "dataset_fingerprint.json").stat().st_size / training
    stages = [Stage("preprocessing", options.preprocess_seconds, raw, slices, calls=2)]
    if options.maps is not None:
        scans = [path.stat().st_size for path in (options.raw / "imagesTr").glob("*_0000.nii.gz")]
        cases = [path.name.removesuffix("_anomaly.nii.gz") for path in options.maps.glob("*_anomaly.nii.gz")]
        maps = sum(size(path) for case in cases for path in options.maps.glob(f"{case}[._]*")) / len(cases)
        stages.append(Stage("prediction", options.predict_seconds, sum(scans) / len(scans), maps))
    files = sum(path.is_file() for path in plans[0].rglob("*")) / training
    print(f"measured on {training} cases: {raw / 2**20:.1f} MiB raw a case, ", end="")
    print(f"{slices / 2**20:.1f} MiB of slices in {files:.0f} files")
    print(f"computed for {options.cases} cases, each stage in {options.days:g} days:")
    print("| stage | worker hours | workers | read | written | both, a second |\n|---|---|---|---|---|---|")
    for stage in stages:
        hours, span = stage.seconds * options.cases / 3600, options.days * DAY
        both = (stage.read + stage.written) * options.cases
        print(
            f"| {stage.name} | {hours:.0f} | {ceil(stage.seconds * options.cases / span)} | "
            f"{stage.read * options.cases / 1e12:.1f} TB | {stage.written * options.cases / 1e12:.1f} TB | "
            f"{both / span / 1e6:.0f} MB |"
        )
    print(f"calls a second that one scheduler serves: {1000 / options.call_ms:.0f}")
    for stage in stages:
        served = 1000 / options.call_ms / stage.calls * stage.seconds
        print(f"workers that one scheduler serves in the {stage.name}: {served:.0f}")
    most, whole = LARGEST_JSON / fingerprint, fingerprint * options.cases / 1e9
    print(f"dataset_fingerprint.json: {fingerprint / 1024:.1f} KiB a case, {whole:.1f} GB for {options.cases} cases")
    print(f"cases whose fingerprint fits into the {LARGEST_JSON // 2**20} MiB that a JSON file may have: {most:.0f}")


if __name__ == "__main__":
    main()
