"""Files are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from mmccd_auto import files
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import TEMPORARY_PREFIX, atomic_path, load_json, save_json, save_json_once


def write_and_raise(target, exception):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise exception


def write_to_full_disk(target):
    with atomic_path(target) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("content")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_at_the_end_and_with_its_suffix(tmp_path):
    target = tmp_path / "new" / "map.nii.gz"
    with atomic_path(target) as temporary:
        temporary.write_text("content")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")
    assert target.read_text() == "content"
    assert names(target.parent) == ["map.nii.gz"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, MMCCDError])
def test_exception_leaves_the_old_file_and_no_temporary(tmp_path, exception):
    target = tmp_path / "plans.json"
    target.write_text("old")
    with pytest.raises(exception):
        write_and_raise(target, exception)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["plans.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_while_writing(tmp_path):
    target = tmp_path / "result.json"
    with pytest.raises(MMCCDError, match="free some disk space") as caught:
        write_to_full_disk(target)
    assert str(target) in str(caught.value)
    assert TEMPORARY_PREFIX not in str(caught.value)
    assert names(tmp_path) == []


def test_full_disk_while_renaming(tmp_path, monkeypatch):
    target = tmp_path / "result.json"
    target.write_text("old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(MMCCDError, match="No space left"):
        save_json({"a": 1}, target)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MMCCDError, match="choose another folder"):
        save_json({}, tmp_path / "file" / "result.json")


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(MMCCDError, match="could not be written"), atomic_path(tmp_path / "a.json"):
        pass


def test_other_missing_file_is_named(tmp_path):
    with pytest.raises(MMCCDError, match=r"other\.txt"), atomic_path(tmp_path / "a.json"):
        (tmp_path / "other.txt").read_text()


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    target = tmp_path / "slice.npz"
    script = (
        "import os, signal, sys\nfrom mmccd_auto.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    if os.name == "nt":
        pytest.skip("needs SIGKILL")
    subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    (leftover,) = names(tmp_path)
    assert leftover.startswith(TEMPORARY_PREFIX)
    living = leftover.replace(f"-{leftover.split('-')[2]}-", f"-{os.getppid()}-")
    (tmp_path / living).touch()
    other_machine = f"{TEMPORARY_PREFIX}00000000-1-slice.npz"
    forgotten = f"{TEMPORARY_PREFIX}00000001-1-slice.npz"
    for name in (other_machine, forgotten):
        (tmp_path / name).touch()
    two_days_ago = time.time() - 2 * 86400
    os.utime(tmp_path / forgotten, (two_days_ago, two_days_ago))
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == sorted([living, other_machine, "slice.npz"])


def test_leftovers_of_other_files_are_not_touched(tmp_path):
    other = f"{TEMPORARY_PREFIX}00000001-1-CASE_slice.npz"
    (tmp_path / other).touch()
    os.utime(tmp_path / other, (0, 0))
    save_json({}, tmp_path / "slice.npz")
    assert names(tmp_path) == sorted([other, "slice.npz"])


def test_json_round_trip_keeps_text(tmp_path):
    content = {"why": "1 mm × 240", "values": [1, 2.5, None], "nested": {"a": True}}
    save_json(content, tmp_path / "a.json")
    assert load_json(tmp_path / "a.json") == content


def test_json_with_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_json(tmp_path / "a.json") == {"a": 1}


def test_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_json({"a": float("nan")}, tmp_path / "a.json")
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_broken_json_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(MMCCDError, match=r"a\.json is not valid JSON"):
        load_json(tmp_path / "a.json")


def test_missing_json_and_folder(tmp_path):
    with pytest.raises(MMCCDError, match="does not exist"):
        load_json(tmp_path / "a.json")
    with pytest.raises(MMCCDError, match="can't be opened"):
        load_json(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_of_two_who_write_once_the_first_one_wins(tmp_path, monkeypatch, links):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "folder" / "choice.json"
    assert save_json_once({"by": "first"}, path)
    assert not save_json_once({"by": "second"}, path)
    assert load_json(path) == {"by": "first"}
    assert [file.name for file in path.parent.iterdir()] == ["choice.json"]
