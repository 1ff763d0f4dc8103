"""How fast is preprocessing, beside nnU-Net's on the same cases with as many processes?

    python tests/benchmarks/preprocessing.py RAW_DATASET [--nnunet FOLDER] [-np 2] [--rounds 3] [-- OPTIONS]

Both commands fingerprint, plan and preprocess imagesTr from nothing, in turn, and every round the other one begins:
mmccd_plan_and_preprocess (OPTIONS are handed on to it) and nnUNetv2_plan_and_preprocess -c 2d. FOLDER holds nnU-Net's
commands, for instance VENV/bin; it is no dependency of this package. Prints the medians over the rounds: cases per minute,
peak memory and bytes written of each, and the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from process_tree import Cost, parsed_with_options, run_measured

NAMES = ("nnU-Net", "mmccd_auto")


class Run(NamedTuple):
    """What one command took, and how much it left on disk (MiB)."""

    cost: Cost
    written_mb: float


def one_round(options: argparse.Namespace, folder: Path, names: tuple[str, ...]) -> dict[str, Run]:
    """Both commands in the order of ``names``, each into an empty folder."""
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
    theirs = nnunet_command(options)
    commands = {
        "nnU-Net": [theirs, "-d", number, "-c", "2d", "-np", processes, "-npfp", processes],
        "mmccd_auto": [ours, "-d", number, "-np", processes, "-device", "cpu", *options.options],
    }
    outputs = {"nnU-Net": folder / "nnUNet_preprocessed", "mmccd_auto": folder / "mmccd_preprocessed"}
    runs = {}
    for name in names:
        cost = run_measured(commands[name], environment, folder / f"{name}.log")
        runs[name] = Run(cost, sum(path.stat().st_size for path in outputs[name].rglob("*") if path.is_file()) / 1024**2)
    return runs


def nnunet_command(options: argparse.Namespace) -> str:
    """Where nnU-Net's command is."""
    found = shutil.which("nnUNetv2_plan_and_preprocess", path=options.nnunet)
    if found is None:
        raise SystemExit("nnUNetv2_plan_and_preprocess is not there: pip install nnunetv2, or --nnunet VENV/bin")
    return found


def nnunet_version(options: argparse.Namespace) -> str:
    """As the Python beside nnU-Net's command tells it."""
    python = Path(nnunet_command(options)).parent / "python"
    code = "from importlib.metadata import version; print(version('nnunetv2'))"
    if not python.exists():
        return "of unknown version"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.strip() or "of unknown version"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="DatasetXXX_Name with imagesTr and labelsTr")
    parser.add_argument("--nnunet", default=None, metavar="FOLDER", help="with nnU-Net's commands; else those on the PATH")
    parser.add_argument("-np", dest="processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parsed_with_options(parser, sys.argv[1:])
    cases = len({path.name.rsplit("_", 1)[0] for path in (options.dataset / "imagesTr").iterdir()})
    version = nnunet_version(options)
    with tempfile.TemporaryDirectory() as folder:
        rounds = [one_round(options, Path(folder), NAMES[:: (-1) ** count]) for count in range(options.rounds)]
    print(f"nnU-Net {version}; mmccd_auto {' '.join(options.options)}; medians of {options.rounds} rounds")
    print(f"| {cases} cases, {options.processes} processes | seconds | cases a minute | peak memory | written |")
    print("|---|---|---|---|---|")
    for name in NAMES:
        seconds, peak = (median(getattr(one[name].cost, entry) for one in rounds) for entry in ("seconds", "peak_mb"))
        written = median(one[name].written_mb for one in rounds)
        print(f"| {name} | {seconds:.0f} | {60 * cases / seconds:.1f} | {peak:.0f} MiB | {written:.1f} MiB |")
    speed = [one["nnU-Net"].cost.seconds / one["mmccd_auto"].cost.seconds for one in rounds]
    memory = [one["mmccd_auto"].cost.peak_mb / one["nnU-Net"].cost.peak_mb for one in rounds]
    print(f"cases a minute: {median(speed):.2f} x; peak memory: {median(memory):.2f} x")
    print(f"ratios of the rounds: {', '.join(f'{one:.2f}' for one in speed)}")


if __name__ == "__main__":
    main()
