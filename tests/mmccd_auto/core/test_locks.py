"""One writer per folder: who is refused, what is left, and what a killed holder blocks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from mmccd_auto.core.disk import locks
from mmccd_auto.core.disk.locks import HOLDER_FILE, LOCK_FILE, folder_lock
from mmccd_auto.core.errors import MMCCDError

HOLD = """
import sys
from mmccd_auto.core.disk.locks import folder_lock
with folder_lock(sys.argv[1], "maps"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/out until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_run_is_refused_and_told_who_holds_the_folder(tmp_path, holder):
    told = rf"out is in use: .*process {holder.pid} on .*since 20.* writes maps"
    with pytest.raises(MMCCDError, match=told), folder_lock(tmp_path / "out", "maps"):
        pass
    holder.communicate("\n")
    with folder_lock(tmp_path / "out", "maps"):
        pass


def test_a_link_to_the_folder_is_the_folder(tmp_path, holder):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(MMCCDError, match="in use"), folder_lock(tmp_path / "link", "maps"):
        pass


def test_a_killed_holder_blocks_nobody_and_what_it_left_is_removed(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / "out" / LOCK_FILE).exists()
    with folder_lock(tmp_path / "out", "maps"):
        (tmp_path / "out/map").write_text("x")
    assert os.listdir(tmp_path / "out") == ["map"]


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with pytest.raises(ValueError, match="odd"), folder_lock(tmp_path / "a/b/out", "maps"):
        raise ValueError("odd")
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with folder_lock(tmp_path / "mine", "maps"):
        pass
    assert os.listdir(tmp_path) == ["mine"], "a folder of the user's own is not removed"


def test_the_thread_that_holds_may_take_it_again_and_others_may_not(tmp_path):
    refused = []

    def other() -> None:
        try:
            with folder_lock(tmp_path, "maps"):
                pass
        except MMCCDError as error:
            refused.append(error)

    with folder_lock(tmp_path, "maps"):
        with folder_lock(tmp_path, "calibration"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with folder_lock(tmp_path, "maps"):
        pass


def test_a_folder_that_was_removed_and_made_again_by_another_run_keeps_its_lock(tmp_path):
    folder = tmp_path / "out"
    with folder_lock(folder, "maps"):
        shutil.rmtree(folder)
        folder.mkdir()
        with FileLock(folder / LOCK_FILE, timeout=0):
            (folder / HOLDER_FILE).write_text("another's")
            saved = locks._identity(folder / LOCK_FILE)
    assert locks._identity(folder / LOCK_FILE) == saved
    assert (folder / HOLDER_FILE).read_text() == "another's"


@pytest.mark.parametrize("record", ["", "[]", "5", "{", "\x00", json.dumps({"command": "x"}), "[" * 4000])
def test_a_record_that_is_damaged_is_no_reason_to_crash(tmp_path, holder, record):
    (tmp_path / "out" / HOLDER_FILE).write_text(record)
    with pytest.raises(MMCCDError, match="in use: another run writes there"), folder_lock(tmp_path / "out", "maps"):
        pass


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(MMCCDError, match=f"{path} can't be written to"), folder_lock(path, "maps"):
            pass
    assert (tmp_path / "file").read_text() == "x"


READ_ONLY = """
import os, sys
from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    with folder_lock(".", "maps"):
        print("held")
except MMCCDError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_may_not_be_written_to_is_refused_before_work(tmp_path):
    tmp_path.chmod(0o555)
    result = subprocess.run([sys.executable, "-c", READ_ONLY, str(tmp_path)], capture_output=True, text=True)
    assert "can't be written to (Permission denied)" in result.stdout, result.stderr


def test_without_locks_of_the_file_system_a_file_stands_in(tmp_path, monkeypatch):
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", no_locks)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.0)
    with folder_lock(tmp_path / "out", "maps"), pytest.raises(MMCCDError, match="in use"):
        locks._Hold.take(tmp_path / "out", "maps", 0.0)
    assert not (tmp_path / "out").exists()
