"""How do time and peak memory of mmccd_predict grow with slices and cases?

    python tests/benchmarks/scaling.py MODEL_FOLDER SCAN [SCAN ...] [--cases 4 40] [-- OPTIONS]

Each SCAN (a file, or a folder of DICOM files) alone: seconds from file to maps, of the command as a whole. Then the first
SCAN, a file, under as many names as --cases says: seconds a case and peak memory, and the ratio of the most and the fewest
cases. OPTIONS are handed on to mmccd_predict (--preset, for instance).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from process_tree import Cost, parsed_with_options, run_measured

from mmccd_auto.imaging.file_names import volume_ending


def predict(options: argparse.Namespace, source: Path, folder: Path) -> tuple[Cost, list[dict]]:
    """What the command took, and the CASE.json of every case."""
    output = folder / "maps"
    command = [str(Path(sys.executable).parent / "mmccd_predict"), "-m", str(options.model), "-i", str(source)]
    command += ["-o", str(output), "-device", options.device, *options.options]
    cost = run_measured(command, os.environ, folder / "log.txt")
    return cost, [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, nargs="*", default=[4, 40], help="none: the scans alone")
    parser.add_argument("-device", default="cpu")
    options = parsed_with_options(parser, sys.argv[1:])
    print("| scan | seconds | network evaluations | peak memory |\n|---|---|---|---|")
    for scan in options.scans:
        with tempfile.TemporaryDirectory() as folder:
            cost, records = predict(options, scan, Path(folder))
        evaluations = sum(record["network_evaluations"] for record in records)
        print(f"| {scan.name} | {cost.seconds:.1f} | {evaluations} | {cost.peak_mb:.0f} MiB |", flush=True)
    if options.cases:
        many(options)


def many(options: argparse.Namespace) -> None:
    """Measure and print how the first scan under many names goes."""
    scan = options.scans[0]
    costs: dict[int, Cost] = {}
    print("\n| cases | seconds | seconds a case | peak memory |\n|---|---|---|---|")
    for count in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            scans = Path(folder) / "scans"
            scans.mkdir()
            for number in range(count):
                (scans / f"case{number:03d}{volume_ending(scan.name)}").symlink_to(scan.resolve())
            costs[count], records = predict(options, scans, Path(folder))
            if len(records) != count:
                raise SystemExit(f"{len(records)} of {count} cases were predicted")
        one = costs[count]
        print(f"| {count} | {one.seconds:.1f} | {one.seconds / count:.2f} | {one.peak_mb:.0f} MiB |", flush=True)
    most, fewest = costs[max(costs)], costs[min(costs)]
    print(f"peak memory, {max(costs)} against {min(costs)} cases: {most.peak_mb / fewest.peak_mb:.3f} x")


if __name__ == "__main__":
    main()
