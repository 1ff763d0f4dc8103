"""Files are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from mmccd_auto.core import files
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import TEMPORARY_PREFIX, atomic_path, link_or_copy, load_json, save_json, save_json_once


def write_and_raise(target, exception):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise exception


def write_to_full_disk(target):
    with atomic_path(target) as temporary:
        temporary.unlink()
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


KILLED = """
import os, signal, sys
from mmccd_auto.core import files
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "once":
    files.os.link = kill
    files.save_json_once({}, sys.argv[1])
else:
    with files.atomic_path(sys.argv[1]) as temporary:
        temporary.write_text("half")
        kill()
"""
LIVING = """
import sys
from mmccd_auto.core.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("whole")
    print("written", flush=True)
    sys.stdin.readline()
"""
needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")


@pytest.fixture(autouse=True)
def swept_nothing(monkeypatch):
    monkeypatch.setattr(files, "_swept", set())


@needs_posix
@pytest.mark.parametrize("how", ["atomic", "once"])
def test_leftovers_of_killed_writers_go_with_the_next_writing_into_the_folder(tmp_path, how):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "slice.npz"), how], check=False)
    (leftover,) = names(tmp_path)
    assert leftover.startswith(TEMPORARY_PREFIX)
    save_json({}, tmp_path / "other.json")
    assert names(tmp_path) == ["other.json"]


@needs_posix
@pytest.mark.parametrize("namespace", [[], ["unshare", "--pid", "--fork", "--mount-proc"]])
def test_a_living_writer_keeps_its_temporary_also_in_another_container_of_the_host_name(tmp_path, namespace):
    if namespace and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")
    command = [*namespace, sys.executable, "-c", LIVING, str(tmp_path / "map")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        save_json({}, tmp_path / "map")
        process.communicate("\n")
    assert process.returncode == 0
    assert (tmp_path / "map").read_text() == "whole"
    assert names(tmp_path) == ["map"]


def test_temporaries_of_other_machines_go_when_they_are_old(tmp_path):
    young, old = f"{TEMPORARY_PREFIX}00000000-1-map", f"{TEMPORARY_PREFIX}00000001-1-map"
    users_own = f"{TEMPORARY_PREFIX}notes"
    for name in (young, old, users_own):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0) if name != young else None)
    save_json({}, tmp_path / "map")
    assert names(tmp_path) == sorted([young, users_own, "map"])


def test_a_file_system_without_locks_is_written_to_and_only_old_temporaries_go(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(files, "lock_descriptor", no_locks)
    young, old = (f"{TEMPORARY_PREFIX}{files._machine()}-{number}-map" for number in (1, 2))
    for name in (young, old):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))
    save_json({}, tmp_path / "map")
    assert names(tmp_path) == sorted([young, "map"])


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    listed = []
    list_folder = os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda path: listed.append(path) or list_folder(path))
    for number in range(5):
        save_json({}, tmp_path / f"{number}.json")
    assert len(listed) == 1


def test_a_writer_whose_file_was_taken_for_a_dead_ones_makes_another(tmp_path, monkeypatch):
    locked = []

    def lock(descriptor, **_):
        locked.append(descriptor)
        if len(locked) == 2:
            (removed,) = tmp_path.glob(f"{TEMPORARY_PREFIX}*-map")
            removed.unlink()
        if len(locked) == 1:
            for held in tmp_path.iterdir():
                held.unlink()
        return len(locked) > 1

    monkeypatch.setattr(files, "lock_descriptor", lock)
    save_json({"a": 1}, tmp_path / "map")
    assert len(locked) == 3
    assert load_json(tmp_path / "map") == {"a": 1}


def test_json_round_trip_keeps_text(tmp_path):
    content = {"why": "1 mm × 240", "values": [1, 2.5, None], "nested": {"a": True}}
    save_json(content, tmp_path / "a.json")
    assert load_json(tmp_path / "a.json") == content


def test_numbers_stand_on_one_line_and_nothing_else_does(tmp_path):
    content = {"sizes": [1, -2.5e-7, 3], "empty": [], "texts": ["a, b", "[\n  1,\n  2\n]"], "rows": [[1, 2], [None, True]]}
    save_json(content, tmp_path / "a.json")
    lines = [line.strip() for line in (tmp_path / "a.json").read_text().splitlines()]
    assert '"sizes": [1, -2.5e-07, 3],' in lines
    assert "[1, 2]," in lines
    assert '"a, b",' in lines
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


def test_json_that_is_missing_a_folder_or_a_pipe(tmp_path):
    with pytest.raises(MMCCDError, match="does not exist"):
        load_json(tmp_path / "a.json")
    with pytest.raises(MMCCDError, match="no regular file"):
        load_json(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(MMCCDError, match="no regular file"):
            load_json(tmp_path / "pipe.json")


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


@pytest.mark.parametrize("links", [True, False])
def test_a_file_gets_a_second_name_or_is_copied(tmp_path, monkeypatch, links):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    source, target = tmp_path / "map.nii.gz", tmp_path / "sub-01" / "anat" / "sub-01_probseg.nii.gz"
    source.write_text("map")
    if not links:
        monkeypatch.setattr(files.os, "link", refused)
    for _ in range(2):
        link_or_copy(source, target)
        assert target.read_text() == "map"
        assert os.path.samefile(source, target) == links
        assert names(target.parent) == [target.name]
    source.unlink()
    source.write_text("another map")
    link_or_copy(source, target)
    assert target.read_text() == "another map"
    assert names(target.parent) == [target.name]


def test_a_file_that_is_not_there_gets_no_second_name_and_the_earlier_one_stays(tmp_path):
    target = tmp_path / "b.nii.gz"
    target.write_text("earlier")
    with pytest.raises(MMCCDError, match=r"b\.nii\.gz could not be written .*a\.nii\.gz"):
        link_or_copy(tmp_path / "a.nii.gz", target)
    assert target.read_text() == "earlier"
    assert names(tmp_path) == [target.name]
