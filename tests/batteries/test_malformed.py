"""Damaged files and odd options by the hundred: a sentence each, and nothing lost, left behind or waited for."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from command_runner import CommandRunner, Ended
from damaged_files import damaged_bytes, damaged_json, damaged_nifti, odd_things
from folder_content import bytes_of, content_of, left_behind, left_in_temporary
from odd_options import odd_options
from small_world import DATASET, MODEL, NETWORK_OPTIONS, PLANS

pytestmark = pytest.mark.battery
PREDICT = ("predict", ("-i", "scans", "-o", "out", "-device", "cpu", "--preset", "fast"))
LIMIT = 150.0
FOLD = f"mmccd/results/{DATASET}/{MODEL}/fold_0"
PREPROCESSED = f"mmccd/preprocessed/{DATASET}"
TRAIN = (
    "train",
    ("7", "0", *NETWORK_OPTIONS, "--num_epochs", "3", "--iterations_per_epoch", "2", "--planned_steps", "-np", "0"),
)
CROSS_VALIDATE = ("cross_validate", ("7", *NETWORK_OPTIONS, "-f", "0", "-np", "0"))
EVALUATE = ("evaluate", ("-ref", f"mmccd/raw/{DATASET}/labelsTs", "-pred", "maps", "-o", "again.json", "-np", "0"))
AGAIN = ("predict", ("-i", "scans", "-o", "maps", "-device", "cpu", "--preset", "fast", "--continue_prediction"))
IMPORT = (
    "import_export",
    ("-i", "export.zip", "-d", "8", "-n", "Import", "--healthy", "--modalities", "FLAIR", "T1", "-np", "0"),
)
PLAN = (
    "plan_and_preprocess",
    (
        *("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "6"),
        *("-gpu_memory_target", "1", "--time_budget", "0.02", "-np", "0", "-device", "cpu"),
    ),
)
# File, how often it is damaged, and the command that reads it.
JSON_FILES = (
    (f"mmccd/results/{DATASET}/{MODEL}/plans.json", 15, PREDICT),
    (f"{FOLD}/calibration.json", 20, PREDICT),
    (f"mmccd/results/{DATASET}/{MODEL}/dataset_fingerprint.json", 8, PREDICT),
    (f"mmccd/results/{DATASET}/{MODEL}/dataset.json", 4, PREDICT),
    (f"mmccd/results/{DATASET}/best_configuration.json", 8, PREDICT),
    ("maps/test_00.json", 12, AGAIN),
    ("maps/test_01.json", 6, EVALUATE),
    (f"{PREPROCESSED}/splits_final.json", 8, TRAIN),
    (f"{PREPROCESSED}/{PLANS}/plans.json", 10, TRAIN),
    (f"{FOLD}/training_log.jsonl", 8, TRAIN),
    (f"mmccd/raw/{DATASET}/dataset.json", 12, PLAN),
    (f"{PREPROCESSED}/dataset_fingerprint.json", 6, PLAN),
    (f"mmccd/results/{DATASET}/{MODEL}/dataset.json", 3, CROSS_VALIDATE),
    ("mmccd/raw/Dataset008_Import/dataset.json", 5, IMPORT),
)


class Battery:
    """Tries a command on a damaged copy of the world and judges how it ended.

    Parameters
    ----------
    world : undamaged
    folder : for the copy
    """

    def __init__(self, world: Path, folder: Path, runner: CommandRunner, group: str, count: Callable[..., None]) -> None:
        self.world, self.folder, self.runner, self.group, self.count = world, folder, runner, group, count
        self.found: list[tuple[str, dict[str, str]]] = []
        self.home = folder / "home"

    def fresh(self) -> Path:
        """A new copy of the world, and an empty TMPDIR."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.world, self.home, symlinks=True)
        (self.folder / "tmp").mkdir()
        return self.home

    def run(self, what: str, command: str, arguments: Sequence[str], kept: Sequence[str], tries: int = 1) -> Ended:
        """Run a command and count its faults.

        Parameters
        ----------
        kept : files and folders of the home that it must leave as they are
        tries : damaged files that it meets
        """
        before = self._state(kept)
        ended = self.runner.run(command, list(arguments), self.home, self.folder / "tmp", limit=LIMIT)
        faults: dict[str, str] = {}
        if "Traceback" in ended.said or "an unexpected " in ended.said:
            faults["tracebacks"] = ended.said[-3000:]
        if ended.hung or ended.left_running:
            faults["hangs"] = ended.said[-1000:]
        elif ended.status not in (0, 1, 2) or (ended.status and not re.search(r"error: \S", ended.said)):
            faults["untold"] = f"status {ended.status}: {ended.said[-1000:]}"
        if self._state(kept) != before or set(os.listdir(self.folder)) != {"home", "tmp"}:
            faults["files lost"] = str(sorted(os.listdir(self.folder)))
        there = [*left_behind(self.home), *left_in_temporary(self.folder / "tmp")]
        if there:
            faults["left behind"] = str(there)
        self.note(what, faults, tries)
        return ended

    def note(self, what: str, faults: dict[str, str], tries: int = 0) -> None:
        """Count faults of a try."""
        self.count(self.group, *faults, tries=tries)
        if faults:
            self.found.append((what, faults))

    def end(self) -> None:
        """Fail if there was a fault."""
        text = "\n".join(f"{what}: {kind}: {told}" for what, faults in self.found for kind, told in faults.items())
        assert not self.found, text

    def _state(self, kept: Sequence[str]) -> dict[str, object]:
        return {name: bytes_of(self.home / name) for name in kept}


@pytest.fixture
def battery(world: Path, tmp_path: Path, runner: CommandRunner, count: Callable[..., None], request) -> Battery:
    """A battery of the test's name."""
    group = request.node.originalname.removeprefix("test_").replace("_", " ")
    made = Battery(world, tmp_path / "try", runner, group, count)
    made.fresh()
    return made


@pytest.mark.parametrize("seed", range(3))
def test_damaged_scans(battery: Battery, seed: int) -> None:
    """Among them a good one, whose map must come out the same."""
    chance, names = random.Random(seed), {}
    good = gzip.decompress((battery.home / "scans/test_01_0000.nii.gz").read_bytes())
    for number in range(25):
        what, content = damaged_nifti(good, chance)
        names[f"odd{number:02d}_0000.nii.gz"] = what
        (battery.home / f"scans/odd{number:02d}_0000.nii.gz").write_bytes(content)
    if seed == 0:
        names |= dict.fromkeys(odd_things(battery.home / "scans"), "no file")
    ended = battery.run(str(names), *PREDICT, kept=("mmccd", "maps"), tries=len(names))
    out = battery.home / "out"
    maps = {name: _voxels(folder / name) for folder in (out, battery.home / "maps") for name in _good(folder)}
    same = all(_voxels(out / name) == _voxels(battery.home / "maps" / name) for name in _good(battery.home / "maps"))
    battery.note("the good scans' maps", {} if maps and same else {"other results": ended.said[-1000:]})
    battery.end()


def _good(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("test_0*.nii.gz"))


def _voxels(path: Path) -> bytes | None:
    return gzip.decompress(path.read_bytes()) if path.is_file() else None


@pytest.mark.parametrize("seed", range(4))
def test_damaged_dicom(battery: Battery, seed: int) -> None:
    """A study with damaged files beside one that is whole."""
    chance = random.Random(seed)
    (battery.home / "scans").rename(battery.home / "before")
    shutil.copytree(battery.home / "export", battery.home / "scans")
    damaged = sorted((battery.home / "scans/0").rglob("*.dcm"))[:8]
    for path in damaged:
        path.write_bytes(damaged_bytes(path.read_bytes(), chance)[1])
    battery.run(f"seed {seed}", *PREDICT, kept=("mmccd", "maps", "export"), tries=len(damaged))
    done = list((battery.home / "out").glob("*_anomaly.nii.gz"))
    battery.note("the whole study's map", {} if done else {"files lost": "no map"})
    battery.end()


def test_damaged_archives(battery: Battery) -> None:
    chance = random.Random(1)
    good = (battery.home / "export.zip").read_bytes()
    for number in range(6):
        what, content = damaged_bytes(good, chance)
        (battery.home / "export.zip").write_bytes(content)
        shutil.rmtree(battery.home / "out", ignore_errors=True)
        battery.run(f"{number} {what}", "predict", ("-i", "export.zip", *PREDICT[1][2:]), kept=("mmccd", "maps", "export"))
    battery.end()


@pytest.mark.parametrize(
    ("name", "tries", "command"), JSON_FILES, ids=[f"{name}-{command[0]}" for name, _, command in JSON_FILES]
)
def test_damaged_json(battery: Battery, name: str, tries: int, command: tuple[str, tuple[str, ...]]) -> None:
    chance = random.Random(name)
    kept = ["scans", "export", f"mmccd/raw/{DATASET}/imagesTr", f"{FOLD}/checkpoint_final.pth"]
    kept += [] if command[0] == "train" else [f"{FOLD}/checkpoint_latest.pth"]
    good = (battery.home / name).read_text()
    for number in range(tries):
        if number and command[0] != "predict":
            battery.fresh()
        lines = good.splitlines()
        if name.endswith(".jsonl"):
            what, lines[0] = damaged_json(lines[0], chance)
            damaged = "\n".join(lines) + "\n"
        else:
            what, damaged = damaged_json(good, chance)
        (battery.home / name).write_bytes(damaged.encode("utf-8", "surrogatepass"))
        shutil.rmtree(battery.home / "out", ignore_errors=True)
        battery.run(f"{name}, {what}", *command, kept=kept)
        if command is AGAIN:
            faults = _not_as_before(battery, "maps")
            battery.note(f"{name}, {what}", faults)
    battery.end()


def _not_as_before(battery: Battery, folder: str) -> dict[str, str]:
    expected, found = content_of(battery.world / folder), content_of(battery.home / folder)
    other = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    return {"other results": str(other)} if other else {}


@pytest.mark.parametrize("name", ["checkpoint_final.pth", "checkpoint_latest.pth"])
def test_damaged_checkpoints(battery: Battery, name: str) -> None:
    chance = random.Random(name)
    good = (battery.home / FOLD / name).read_bytes()
    for number in range(8):
        battery.fresh()
        what, content = damaged_bytes(good, chance)
        (battery.home / FOLD / name).write_bytes(content)
        if name == "checkpoint_latest.pth":
            (battery.home / FOLD / "checkpoint_final.pth").unlink()
        command = PREDICT if name == "checkpoint_final.pth" else TRAIN
        battery.run(f"{name} {number} {what}", *command, kept=("scans", "maps", "mmccd/raw"))
    battery.end()


def test_damaged_slices(battery: Battery) -> None:
    chance = random.Random(2)
    slices = sorted((battery.home / PREPROCESSED / PLANS).rglob("*.npz"))
    for number, path in enumerate(chance.sample(slices, 6)):
        battery.fresh()
        what, content = damaged_bytes(path.read_bytes(), chance)
        path.write_bytes(content)
        shutil.rmtree(battery.home / FOLD)
        battery.run(f"{number} {path.name} {what}", *TRAIN, kept=("scans", "maps", "mmccd/raw"))
    battery.end()


def test_odd_options(battery: Battery) -> None:
    kept = ("scans", "maps", "export", "mmccd/raw/Dataset007_Phantom", f"{PREPROCESSED}/{PLANS}", f"mmccd/results/{DATASET}")
    before = json.dumps(bytes_of(battery.home))
    for command, arguments in odd_options():
        if json.dumps(bytes_of(battery.home)) != before:
            battery.fresh()
        battery.run(f"{command} {arguments}", command, arguments, kept=() if command in ("train", "calibrate") else kept)
    battery.end()
