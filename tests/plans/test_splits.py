"""Folds by subject."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.plans.splits import cases_of_fold, make_splits, write_or_load_splits

SUBJECTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=5), st.sampled_from("PQRSTUVWXYZ"), max_size=30)


@given(SUBJECTS, st.integers(2, 6), st.integers(0, 3))
def test_each_subject_validates_once_and_never_trains_beside_itself(subjects, folds, seed):
    splits = make_splits(subjects, folds, seed)
    people = set(subjects.values())
    assert len(splits) == (0 if len(people) < 2 else min(folds, len(people)))
    for split in splits:
        assert sorted(split["train"] + split["val"]) == sorted(subjects)
        assert split["train"] == sorted(split["train"])
        assert split["val"] == sorted(split["val"])
        assert split["val"]
        assert not {subjects[case] for case in split["train"]} & {subjects[case] for case in split["val"]}
    if splits:
        assert sorted(case for split in splits for case in split["val"]) == sorted(subjects)
        sizes = [len({subjects[case] for case in split["val"]}) for split in splits]
        assert max(sizes) - min(sizes) <= 1


def test_splits_depend_on_the_seed_and_not_on_the_order():
    subjects = {f"case{index}": f"person{index}" for index in range(20)}
    assert make_splits(dict(reversed(subjects.items()))) == make_splits(subjects)
    assert make_splits(subjects, seed=1) != make_splits(subjects, seed=2)


def test_an_edited_file_is_obeyed_and_left_alone(tmp_path):
    path = tmp_path / "splits_final.json"
    subjects = {"a": "A", "b": "B", "c": "C"}
    made = write_or_load_splits(path, subjects)
    assert load_json(path) == made
    edited = [{"train": ["a"], "val": ["c"]}]
    save_json(edited, path)
    assert write_or_load_splits(path, subjects) == edited
    assert load_json(path) == edited


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"train": ["a", "zz"], "val": ["b"]}], "fold 0: unknown case zz"),
        ([{"train": ["a"], "val": ["a2"]}], "fold 0: A is in train and in val"),
        ([{"train": [], "val": ["a"]}], "training cases is empty"),
        ({"train": ["a"]}, "must be a list"),
        ([{"train": ["a"]}], r"the entry \[0\].val is missing"),
    ],
)
def test_unusable_splits_are_refused(tmp_path, content, message):
    path = tmp_path / "splits_final.json"
    save_json(content, path)
    with pytest.raises(MMCCDError, match=message) as error:
        write_or_load_splits(path, {"a": "A", "a2": "A", "b": "B"})
    assert str(path) in str(error.value)


def test_folds_by_number_and_all():
    cases = ["c", "a", "b"]
    splits = make_splits({case: case for case in cases})
    assert len(splits) == 3
    assert cases_of_fold(splits, cases, 2) == splits[2]
    assert cases_of_fold(splits, cases, "1") == splits[1]
    assert cases_of_fold(splits, cases, "all") == {"train": ["a", "b", "c"], "val": ["a", "b", "c"]}
    for fold in (3, -1, "first"):
        with pytest.raises(MMCCDError, match=r"0\.\.2 or `all`"):
            cases_of_fold(splits, cases, fold)
    with pytest.raises(MMCCDError, match="one subject only"):
        cases_of_fold(make_splits({"a": "A", "b": "A"}), ["a", "b"], 0)
