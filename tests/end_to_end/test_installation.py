"""The package as a wheel: complete, and usable from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmccd_auto.cli import entry_points

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "mmccd_auto", "plans", "preprocessing", "inference"]
    source.mkdir()
    subprocess.run(["cp", "-r", *(str(REPOSITORY / name) for name in files), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_one_package_with_all_rooms(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert top == {"mmccd_auto"}
    expected = {
        ("" if folder == "mmccd_auto" else "mmccd_auto/") + path.relative_to(REPOSITORY).as_posix()
        for folder in ("mmccd_auto", "plans", "preprocessing", "inference")
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    assert expected <= set(names)
    assert "mmccd_auto/py.typed" in names


def test_wheel_works_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import mmccd_auto, mmccd_auto.plans.plan, mmccd_auto.workflows.train\n"
        "from mmccd_auto.plans.planners import find_planner\n"
        "print(mmccd_auto.plans.plan.__file__, find_planner('MMCCDPlannerSmall').__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, str(site)]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-c", code, str(site)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in result.stdout
    assert "MMCCDPlannerSmall" in result.stdout


def test_workers_of_the_wheel_come_from_it(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from mmccd_auto.core.processes.executor import load_libraries_early, make_executor\n"
        "if __name__ == '__main__':\n"
        "    load_libraries_early()\n"
        "    with make_executor(1) as executor:\n"
        "        print(executor.submit(eval, '__import__(\"mmccd_auto.plans.plan\").__file__').result())\n"
    )
    result = subprocess.run([sys.executable, str(script)], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert result.stdout.strip() == str(site / "mmccd_auto" / "__init__.py"), result.stderr


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ("", True),
        ("-d 1", True),
        ("-d 1 -np 2", True),
        ("-np 0 -d 1 -np 10", True),
        ("--raw_folder /a/-np=0", True),
        ("-d 1 -np 0", False),
        ("-np=0 -d 1", False),
        ("-d 1 -np", False),
        ("-h", False),
        ("-d 1 --help", False),
        ("--version", False),
    ],
)
def test_libraries_are_loaded_early_where_there_will_be_workers(monkeypatch, arguments: str, started: bool) -> None:
    done = []
    monkeypatch.setattr(sys, "argv", ["mmccd_plan_and_preprocess", *arguments.split()])
    monkeypatch.setattr(entry_points, "load_libraries_early", lambda: done.append("early"))
    monkeypatch.setattr(entry_points, "import_module", lambda name: SimpleNamespace(main=lambda: done.append(name)))
    entry_points.plan_and_preprocess()
    assert done == ["early"] * started + ["mmccd_auto.cli.commands.plan_and_preprocess"]


def test_importing_every_module_touches_no_folder(tmp_path: Path) -> None:
    code = (
        "import os, pkgutil, importlib\n"
        "import mmccd_auto\n"
        "for item in pkgutil.walk_packages(mmccd_auto.__path__, 'mmccd_auto.'):\n"
        "    importlib.import_module(item.name)\n"
        "print(sorted(os.listdir('.')))"
    )
    environment = {**os.environ, "mmccd_raw": "/nonexistent/raw", "mmccd_results": "/nonexistent/results"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
