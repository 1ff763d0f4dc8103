"""Planners found by name, in the package and in a folder of the user's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.cost import multiply_accumulates
from mmccd_auto.plans.options import PlannerOptions
from mmccd_auto.plans.planner import MMCCDPlanner
from mmccd_auto.plans.planners import find_planner

DOCUMENTATION = Path(__file__).parents[2] / "documentation"


def example_of_the_documentation(page: str, mark: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", (DOCUMENTATION / page).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if mark in block]
    return code


def test_our_planner_is_found():
    assert find_planner("MMCCDPlanner") is MMCCDPlanner


def test_the_planner_of_the_documentation_works_from_a_folder(tmp_path, make_fingerprint):
    code = example_of_the_documentation("planning.md", "class ThinStripPlanner")
    assert len(code.splitlines()) <= 20
    (tmp_path / "my_planners.py").write_text(code, encoding="utf-8")
    planner = find_planner("ThinStripPlanner", [tmp_path])
    assert find_planner("ThinStripPlanner", [tmp_path]) is planner
    fingerprint = make_fingerprint()
    ours, theirs = (
        kind(fingerprint, fingerprint.dataset, fingerprint.modalities).plan() for kind in (MMCCDPlanner, planner)
    )
    assert theirs.planner == "ThinStripPlanner"
    assert theirs.strip_width < ours.strip_width
    assert (theirs.slice_axis, ours.slice_axis) == ("coronal", "axial")
    assert "20 mm" in theirs.why["strip_width"]
    assert theirs.plans_name != ours.plans_name


def test_the_planner_of_the_page_on_extending_works(tmp_path, make_fingerprint):
    code = example_of_the_documentation("extending.md", "class ZScorePlanner")
    (tmp_path / "my_planners.py").write_text(code, encoding="utf-8")
    fingerprint = make_fingerprint()
    plan = find_planner("ZScorePlanner", [tmp_path])(fingerprint, fingerprint.dataset, fingerprint.modalities).plan()
    assert plan.normalisation == dict.fromkeys(plan.modalities, "zscore")
    assert plan.plans_name == "mmccdPlansZScore"


def test_an_unknown_name_lists_what_there_is(tmp_path):
    (tmp_path / "mine.py").write_text("class Mine: pass\n")
    with pytest.raises(MMCCDError, match=r"choose one of MMCCDPlanner, .*Mine"):
        find_planner("Nobody", [tmp_path])
    with pytest.raises(MMCCDError, match="must derive from MMCCDPlanner"):
        find_planner("Mine", [tmp_path])


def test_only_files_with_the_class_are_run(tmp_path):
    (tmp_path / "a_script.py").write_text("raise SystemExit('must not run')\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "base.py").write_text("BATCH = 7\n")
    (tmp_path / "good.py").write_text(
        "from base import BATCH\nfrom mmccd_auto.plans.planner import MMCCDPlanner\n\n\n"
        "class Good(MMCCDPlanner):\n    batch_limits = (BATCH, BATCH)\n"
    )
    assert find_planner("Good", [tmp_path]).batch_limits == (7, 7)


def test_a_file_that_fails_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n\n\nclass Bad:\n    pass\n")
    with pytest.raises(MMCCDError, match=r"bad\.py could not be run .*nothing_of_this_name"):
        find_planner("Bad", [tmp_path])


def test_a_name_used_twice_is_refused(tmp_path):
    source = "from mmccd_auto.plans.planner import MMCCDPlanner as Base\n\n\nclass MMCCDPlanner(Base):\n    pass\n"
    (tmp_path / "same.py").write_text(source)
    with pytest.raises(MMCCDError, match="more than once"):
        find_planner("MMCCDPlanner", [tmp_path])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MMCCDError, match="not a folder"):
        find_planner("Any", [tmp_path / "absent"])


def test_the_small_planner_needs_a_fraction_of_the_arithmetic(make_fingerprint):
    fingerprint = make_fingerprint()
    options = ("Dataset001_Test", fingerprint.modalities)
    usual = MMCCDPlanner(fingerprint, *options, options=PlannerOptions(resolution="lowres")).plan()
    small = find_planner("MMCCDPlannerSmall")(fingerprint, *options, options=PlannerOptions(resolution="lowres")).plan()
    assert small.plans_name == "mmccdPlansSmall_lowres"
    assert small.patch_size == usual.patch_size
    assert multiply_accumulates(small.network, small.patch_size) < 0.2 * multiply_accumulates(
        usual.network, usual.patch_size
    )
    assert "planner" in small.why["network.base_channels"]
