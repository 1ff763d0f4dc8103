"""Workers that are started anew, as on macOS and Windows, and not forked: they import what they need by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmccd_auto.core.processes import executor
from mmccd_auto.core.processes.executor import MOST_ON_WINDOWS, make_executor, run_cases


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server to fork workers from."""
    monkeypatch.setattr(executor._server, "possible", False)


@pytest.mark.usefixtures("spawning")
def test_cases_are_worked_on_and_one_fault_stays_with_its_case() -> None:
    outcomes = run_cases(int, [("one", ("1",)), ("none", ("x",)), ("three", ("3",))], 1, "counting")
    assert [outcome.result for outcome in outcomes] == [1, None, 3]
    assert "ValueError" in str(outcomes[1].error)


def test_a_console_script_spawns_workers(tmp_path: Path) -> None:
    """Each imports the script that started its parent; that must start no command again."""
    script = tmp_path / "mmccd_count"
    script.write_text(
        "import sys\n"
        "from mmccd_auto.core.processes import executor\n"
        "def main():\n"
        "    executor._server.possible = False\n"
        "    print([one.result for one in executor.run_cases(int, [('a', ('1',)), ('b', ('2',))], 1, 'counting')])\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main())\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.stdout.splitlines() == ["[1, 2]"], done.stderr


def test_a_pool_of_windows_has_as_many_workers_as_it_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(executor, "_Pool", lambda processes, **_: asked.append(processes))
    monkeypatch.setattr(executor, "_context", lambda: None)
    make_executor(200)
    monkeypatch.setattr(sys, "platform", "win32")
    make_executor(200)
    make_executor(4)
    assert asked == [200, MOST_ON_WINDOWS, 4]


def test_a_module_needs_nothing_that_only_unix_has(tmp_path: Path) -> None:
    """Commands and what they share can be imported without the modules, signals and functions that Windows lacks."""
    code = (
        "import os, signal, sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'resource', 'termios'):\n"
        "    sys.modules.setdefault(name, None)\n"
        "for name in ('SIGKILL', 'SIGHUP', 'SIGALRM', 'pthread_sigmask', 'alarm'):\n"
        "    delattr(signal, name)\n"
        "import importlib, pkgutil\n"
        "import mmccd_auto.core, mmccd_auto.cli\n"
        "for package in (mmccd_auto.core, mmccd_auto.cli):\n"
        "    for item in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(item.name)\n"
        "from mmccd_auto.core.processes.signals import ENDING, endings_as_interrupts\n"
        "with endings_as_interrupts():\n"
        "    print([number.name for number in ENDING])\n"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.stdout.split() == ["['SIGTERM']"], done.stderr
