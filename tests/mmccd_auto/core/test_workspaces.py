"""Temporary folders: private, removed at the end, and those of dead runs removed at the start of the next."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from mmccd_auto.core.disk.workspaces import OWNER_FILE, remove_abandoned, workspace
from mmccd_auto.core.errors import MMCCDError

WORK = """
import sys
from mmccd_auto.core.disk.workspaces import workspace
with workspace("predict") as folder:
    (folder / "archive").mkdir()
    (folder / "archive/000001").write_text("a patient")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    tempfile.tempdir = None


@pytest.fixture
def worker():
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.folder = process.stdout.readline().strip()
    yield process
    process.kill()
    process.communicate()


def test_it_is_private_and_removed_whatever_ends_the_block(tmp_path):
    def interrupted() -> None:
        with workspace("predict") as folder:
            assert folder.parent == tmp_path
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "scan").write_text("a patient")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path, worker):
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    assert os.path.exists(f"{worker.folder}/archive/000001")
    with workspace("import") as folder:
        assert os.listdir(tmp_path) == [folder.name]


def test_a_living_run_keeps_its_folder(worker):
    with workspace("predict"):
        assert os.path.exists(f"{worker.folder}/archive/000001")
    worker.communicate("\n")
    assert not os.path.exists(worker.folder)


def test_one_run_may_have_several(tmp_path):
    with workspace("predict") as outer, workspace("brain") as inner:
        assert set(os.listdir(tmp_path)) == {outer.name, inner.name}
    assert os.listdir(tmp_path) == []


def test_nothing_of_others_is_removed(tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("x")
    (tmp_path / "mmccd-notes").mkdir()
    (tmp_path / "mmccd-file").write_text("x")
    (tmp_path / "mmccd-link").symlink_to(keep)
    (tmp_path / "mmccd-open").mkdir()
    (tmp_path / "mmccd-open" / OWNER_FILE).write_text("")
    (tmp_path / "mmccd-open").chmod(0o777)
    abandoned = tmp_path / "mmccd-predict-1"
    abandoned.mkdir(mode=0o700)
    (abandoned / OWNER_FILE).write_text("")
    (abandoned / "link").symlink_to(keep)
    (abandoned / "folder").mkdir()
    (abandoned / "folder/link").symlink_to(keep)
    assert remove_abandoned() == 1
    assert not abandoned.exists()
    assert (keep / "file").read_text() == "x"
    assert {"mmccd-notes", "mmccd-file", "mmccd-link", "mmccd-open"} < set(os.listdir(tmp_path))


def test_what_was_killed_in_its_making_goes_later(tmp_path):
    unfinished = tmp_path / ".new-mmccd-predict-x"
    unfinished.mkdir(mode=0o700)
    assert remove_abandoned() == 0
    os.utime(unfinished, (time.time() - 3600, time.time() - 3600))
    assert remove_abandoned() == 1
    assert os.listdir(tmp_path) == []


def test_a_temporary_folder_that_can_not_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    with pytest.raises(MMCCDError, match=r"gone .*TMPDIR"), workspace("predict"):
        pass
