"""The workflow for other systems does what .ci/run does, and the floor of the coverage can't fall."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = ("ruff check .", "ruff format --check .", ".ci/imports", "pytest")
FLOOR = ".ci/coverage_floor.py"


def test_the_workflow_has_the_steps_of_the_script(repository: Path) -> None:
    script = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in script if line in CHECKS] == list(CHECKS)
    workflow = (repository / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert [step for step in re.findall(r"run: (.+)$", workflow, re.MULTILINE) if step in CHECKS] == list(CHECKS)


def test_the_workflow_runs_every_python_that_the_package_names(repository: Path) -> None:
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    workflow = (repository / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (pythons,) = re.findall(r"^ +python: \[(.+)\]$", workflow, re.MULTILINE)
    assert re.findall(r'"(.+?)"', pythons) == re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    (systems,) = re.findall(r"^ +system: \[(.+)\]$", workflow, re.MULTILINE)
    assert systems.split(", ") == ["ubuntu-latest", "macos-latest", "windows-latest"]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A repository whose floor has been 40 and then 55."""
    run(tmp_path, "git", "init", "-q")
    for floor in (40, 55):
        set_floor(tmp_path, floor)
        run(tmp_path, "git", "add", "pyproject.toml")
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        run(tmp_path, "git", *identity, "commit", "-q", "-m", f"Raise the floor to {floor}")
    return tmp_path


def set_floor(folder: Path, floor: float) -> None:
    text = f"[tool.coverage.report]\nfail_under = {floor}\n"
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)


@pytest.mark.parametrize(("floor", "status"), [(54.9, 1), (0, 1), (55, 0), (60, 0)])
def test_the_floor_can_not_fall(repository: Path, history: Path, floor: float, status: int) -> None:
    set_floor(history, floor)
    done = run(history, sys.executable, str(repository / FLOOR), "check")
    assert done.returncode == status, done.stderr
    assert ("was 55" in done.stderr) == bool(status)


@pytest.mark.parametrize(
    ("measured", "said"), [(61.7, "raise fail_under in pyproject.toml from 55 to 61"), (55.9, "the floor 55 %")]
)
def test_a_measurement_says_to_what_the_floor_can_be_raised(
    repository: Path, history: Path, measured: float, said: str
) -> None:
    (history / "coverage.json").write_text(f'{{"totals": {{"percent_covered": {measured}}}}}', encoding="utf-8")
    assert said in run(history, sys.executable, str(repository / FLOOR), "advise", "coverage.json").stdout
