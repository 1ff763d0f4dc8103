"""The stages of a whole job: skipped when finished, continued when not, and never mixed with those of another job."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.workflows.running.stages import FAILED, Stages, content_key


def test_a_finished_stage_is_skipped_and_says_what_it_decided(tmp_path: Path) -> None:
    Stages(tmp_path, False).run("plan", {"-i": "a"}, lambda settings: settings.update(name="x") or "64 px")
    again = Stages(tmp_path, False)
    record = again.run("plan", {"-i": "a"}, lambda _: pytest.fail("it was done again"))
    assert (record.decided, record.settings) == ("64 px", {"name": "x"})
    assert "64 px" in again.table()


def test_a_stage_that_stopped_continues_with_its_settings(tmp_path: Path) -> None:
    def stop(settings: dict) -> str:
        settings["folds"] = 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, False).run("train", {}, stop)
    Stages(tmp_path, False).run("train", {}, lambda settings: str(settings["folds"]))


def test_a_stage_with_cases_that_failed_is_tried_again_until_none_does(tmp_path: Path) -> None:
    failures = [["p1 failed."], [], pytest.fail]

    def work(settings: dict) -> str:
        settings[FAILED] = failures.pop(0)
        return "maps"

    for expected in (["p1 failed."], [], []):
        assert Stages(tmp_path, False).run("predict", {}, work).settings[FAILED] == expected
    assert failures == [pytest.fail]


def test_other_inputs_are_refused_or_done_again_with_all_that_follows(tmp_path: Path) -> None:
    for name in ("plan", "train"):
        Stages(tmp_path, False).run(name, {"-i": "a"} if name == "plan" else {}, lambda _: "done")
    with pytest.raises(MMCCDError, match=r"'plan' was begun with other inputs.*--overwrite"):
        Stages(tmp_path, False).run("plan", {"-i": "b"}, lambda _: "done")
    stages, cleared = Stages(tmp_path, True), []
    for name in ("plan", "train"):
        inputs = {"-i": "b"} if name == "plan" else {}
        stages.run(name, inputs, lambda _: "again", lambda name=name: cleared.append(name))
    assert cleared == ["plan", "train"]


@pytest.mark.parametrize("change", ["grow", "rename", "edit", "remove"])
def test_a_folder_is_known_by_its_files(tmp_path: Path, change: str) -> None:
    file = tmp_path / "in" / "a.nii"
    file.parent.mkdir()
    file.write_bytes(b"x" * 100)
    (file.parent / "b.nii").write_bytes(b"y")
    before = content_key(file.parent)
    assert content_key(file.parent) == before
    if change == "grow":
        file.write_bytes(b"x" * 101)
    elif change == "edit":
        file.write_bytes(b"x" * 99 + b"z")
    elif change == "rename":
        file.rename(file.with_name("c.nii"))
    else:
        file.unlink()
    assert content_key(file.parent) != before
