"""What Windows does otherwise with files: an open one can't be removed, and its folder can't be renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mmccd_auto.core.disk.workspaces import OWNER_FILE, remove_abandoned, workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import check_path_name

DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="nothing tells here which files are open")


def open_files() -> list[str]:
    """The regular files that this process holds open."""
    found = []
    for number in os.listdir(DESCRIPTORS):
        try:
            path = os.readlink(DESCRIPTORS / number)
        except FileNotFoundError:
            continue
        if os.path.isfile(path):
            found.append(path)
    return found


@pytest.fixture
def like_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a system that refuses to rename or remove what is open."""
    rename, unlink = Path.rename, os.unlink

    def refusing_rename(path: Path, target: Path) -> Path:
        if any(Path(file).is_relative_to(path) for file in open_files()):
            raise PermissionError(13, "Access is denied", str(path))
        return rename(path, target)

    def refusing_unlink(path: str | Path, *, dir_fd: int | None = None) -> None:
        folder = os.getcwd() if dir_fd is None else os.readlink(DESCRIPTORS / str(dir_fd))
        if os.path.join(folder, path) in open_files():
            raise PermissionError(32, "The file is in use by another process", str(path))
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(Path, "rename", refusing_rename)
    monkeypatch.setattr(os, "unlink", refusing_unlink)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_workspaces_come_and_go(like_windows: Path) -> None:
    with workspace("predict") as folder:
        assert folder.parent == like_windows
        (folder / "scan.nii").write_bytes(b"a patient")
        assert remove_abandoned() == 0, "a living run's folder stays"
        assert (folder / "scan.nii").is_file()
    assert list(like_windows.iterdir()) == []


def test_workspaces_of_dead_runs_go(like_windows: Path) -> None:
    left = like_windows / "mmccd-predict-dead"
    left.mkdir(mode=0o700)
    (left / OWNER_FILE).touch()
    (left / "scan.nii").write_bytes(b"a patient")
    assert remove_abandoned() == 1
    assert list(like_windows.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "con",
        "CON",
        "aux.nii",
        "NUL.nii.gz",
        "nul .nii",
        "com1",
        "LPT9.x",
        "com\u00b9",
        "CONIN$",
        "a:b",
        "a\\b",
        "a?",
        "a*",
        "a ",
        "a.",
    ],
)
def test_names_that_no_file_of_windows_may_have_are_refused(name: str) -> None:
    with pytest.raises(MMCCDError, match="give a plain name"):
        check_path_name("case", name, "scans")


@pytest.mark.parametrize("name", ["conrad", "auxiliary", "com10", "console_1", "a.con", "nullo"])
def test_names_that_only_look_like_devices_are_taken(name: str) -> None:
    assert check_path_name("case", name, "scans") == name
