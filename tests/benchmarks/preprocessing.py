"""How fast is preprocessing, beside nnU-Net's on the same cases with as many processes?

    python tests/benchmarks/preprocessing.py RAW_DATASET [--nnunet FOLDER] [-np 2] [--rounds 2] [-- OPTIONS]

Both commands fingerprint, plan and preprocess imagesTr from nothing, in turn: mmccd_plan_and_preprocess (OPTIONS are handed
on to it) and nnUNetv2_plan_and_preprocess -c 2d. FOLDER holds nnU-Net's commands, for instance VENV/bin; it is no dependency
of this package. Prints cases per minute and peak memory of each, and the ratios, of the round with the median ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from process_tree import Cost, run_measured


def one_round(options: argparse.Namespace, folder: Path) -> dict[str, Cost]:
    """Both commands, each into an empty folder."""
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    if not (raw / options.dataset.name).exists():
        (raw / options.dataset.name).symlink_to(options.dataset.resolve())
    number = options.dataset.name[len("Dataset") :][:3]
    environment = {**os.environ, "nnUNet_raw": str(raw), "mmccd_raw": str(raw)}
    for name in ("nnUNet_preprocessed", "nnUNet_results", "mmccd_preprocessed", "mmccd_results"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        environment[name] = str(folder / name)
    processes = str(options.processes)
    ours = str(Path(sys.executable).parent / "mmccd_plan_and_preprocess")
    theirs = shutil.which("nnUNetv2_plan_and_preprocess", path=options.nnunet)
    if theirs is None:
        raise SystemExit("nnUNetv2_plan_and_preprocess is not there: pip install nnunetv2, or --nnunet VENV/bin")
    commands = {
        "nnU-Net": [theirs, "-d", number, "-c", "2d", "-np", processes, "-npfp", processes],
        "mmccd_auto": [ours, "-d", number, "-np", processes, "-device", "cpu", *options.options],
    }
    return {name: run_measured(command, environment, folder / f"{name}.log") for name, command in commands.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="DatasetXXX_Name with imagesTr and labelsTr")
    parser.add_argument("--nnunet", default=None, metavar="FOLDER", help="with nnU-Net's commands; else those on the PATH")
    parser.add_argument("-np", dest="processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("options", nargs="*", help="of mmccd_plan_and_preprocess, after --")
    options = parser.parse_args()
    cases = len({path.name.rsplit("_", 1)[0] for path in (options.dataset / "imagesTr").iterdir()})
    with tempfile.TemporaryDirectory() as folder:
        rounds = [one_round(options, Path(folder)) for _ in range(options.rounds)]
    rounds.sort(key=lambda one: one["nnU-Net"].seconds / one["mmccd_auto"].seconds)
    middle = rounds[len(rounds) // 2]
    print(f"| {cases} cases, {options.processes} processes | seconds | cases a minute | peak memory |\n|---|---|---|---|")
    for name, cost in middle.items():
        print(f"| {name} | {cost.seconds:.0f} | {60 * cases / cost.seconds:.1f} | {cost.peak_mb:.0f} MiB |")
    theirs, ours = middle["nnU-Net"], middle["mmccd_auto"]
    print(f"cases a minute: {theirs.seconds / ours.seconds:.2f} x; peak memory: {ours.peak_mb / theirs.peak_mb:.2f} x")
    told = ", ".join(f"{one['nnU-Net'].seconds / one['mmccd_auto'].seconds:.2f}" for one in rounds)
    print(f"ratios of the rounds: {told}")


if __name__ == "__main__":
    main()
