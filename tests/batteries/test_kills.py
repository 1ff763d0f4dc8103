"""Every command, killed at a random moment and run again, ends with what an undisturbed run gives."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command_runner import CommandRunner, Ended
from folder_content import content_of, difference, left_behind, left_in_temporary
from small_world import DATASET, MODEL, STEPS, Step

pytestmark = pytest.mark.battery
KILLS = {"train": 6, "find_best_configuration": 5}
KILLS_OF_OTHERS = 8
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
# What a step makes, below the world: taken away before it is tried, so that it has everything to do.
MADE_BY = {
    "plan_and_preprocess": ("mmccd/preprocessed",),
    "train": ("mmccd/results",),
    "predict": ("maps",),
    "predict a zip archive": ("maps_of_export",),
    "import": ("mmccd/raw/Dataset008_Import",),
    "export_model": ("model.zip",),
    "install_model": ("mmccd/results/installed_models",),
    "evaluate": ("figures.json",),
    "cross_validate": (f"mmccd/results/{DATASET}/cross_validation/{MODEL}",),
    "calibrate": (f"mmccd/results/{DATASET}/{MODEL}/fold_0/calibration.json",),
    "find_best_configuration": (f"mmccd/results/{DATASET}/best_configuration.json",),
}


def _fresh(world: Path, folder: Path, step: Step) -> Path:
    """A copy of the world without what the step makes."""
    home = folder / "home"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, home)
    (folder / "tmp").mkdir()
    for name in MADE_BY[step.name]:
        path = home / name
        assert path.exists(), f"{step.name} no longer makes {name}"
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return home


def _run(runner: CommandRunner, step: Step, home: Path, kill_after: float | None = None, number: int = 0) -> Ended:
    return runner.run(step.command, list(step.arguments), home, home.parent / "tmp", kill_after, number)


def _faults(killed: Ended, number: int, again: Ended, home: Path, expected: dict) -> dict[str, str]:
    """What is wrong after a kill and a repetition."""
    faults = {}
    said = killed.said + again.said
    if "Traceback" in said or "unexpected " in said:
        faults["tracebacks"] = said
    if killed.hung or again.hung or killed.left_running or again.left_running:
        faults["hangs"] = said
    # A command that has ended its work, or not begun, ends as the system does it, which shells tell by the same status.
    if again.status != 0 or killed.status not in (0, -number, 128 + number):
        faults["untold"] = f"status {killed.status}, then {again.status}: {said}"
    there = [*left_behind(home), *left_in_temporary(home.parent / "tmp")]
    if there:
        faults["left behind"] = str(there)
    try:
        found = content_of(home)
    except Exception as error:
        return {**faults, "half files": repr(error)}
    if set(expected) - set(found):
        faults["files lost"] = str(set(expected) - set(found))
    other = [name for name in expected if name in found and found[name] != expected[name]]
    if other or set(found) - set(expected):
        differing = [f"{name}: {difference(expected[name], found[name])}" for name in other]
        faults["other results"] = str([*differing, *(set(found) - set(expected))])
    return faults


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_killed_and_run_again(
    world: Path, runner: CommandRunner, tmp_path: Path, count: Callable[..., None], step: Step
) -> None:
    home = _fresh(world, tmp_path / "run", step)
    undisturbed = _run(runner, step, home)
    assert undisturbed.status == 0, undisturbed.said
    expected = content_of(home)
    moments, found = random.Random(step.name), []
    for kill in range(KILLS.get(step.name, KILLS_OF_OTHERS)):
        number, share = SIGNALS[kill % len(SIGNALS)], moments.uniform(0.02, 1.0)
        # The same folder again: its path stands in sentences that are kept.
        home = _fresh(world, tmp_path / "run", step)
        killed = _run(runner, step, home, share * undisturbed.seconds, number)
        at_once = left_in_temporary(home.parent / "tmp") if number != signal.SIGKILL else []
        again = _run(runner, step, home)
        faults = _faults(killed, number, again, home, expected)
        if at_once:
            faults["left behind"] = f"in TMPDIR, after a signal that can be heard: {at_once}"
        count(f"kills of {step.name}", *faults)
        if faults:
            found.append((f"{signal.Signals(number).name} after {share:.0%}", faults))
    assert not found, "\n".join(f"{when}: {kind}: {told}" for when, faults in found for kind, told in faults.items())
