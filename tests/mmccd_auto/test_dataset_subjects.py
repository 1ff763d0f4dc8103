"""Who is who by the names of cases."""

from __future__ import annotations

import json

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.integrity import description_problems
from mmccd_auto.datasets.subjects import complete_subjects, describe_people, people_by_names, person_by_name, split_people
from mmccd_auto.plans.splits import make_splits, write_or_load_splits

SESSIONS = {
    "sub-01": ["sub-01_ses-baseline", "sub-01_ses-2", "sub-01"],
    "P1": ["P1_T1", "P1_T2", "P1_T10", "P1-v1", "P1_visit2", "P1_visit_3", "P1_tp1", "P1_study2", "P1_scan1", "P1_M06"],
    "P2": ["P2_orig", "P2_pre", "P2_post", "P2_pre-op", "P2_followup", "P2_follow_up_2", "P2_year1", "P2_12months"],
    "anna": ["anna_20190102", "anna_2019-01-02", "anna_02.01.2019", "anna_baseline", "followup_anna", "baseline_anna"],
    "OAS1_0001": ["OAS1_0001_MR1", "OAS1_0001_MR2"],
    "002_S_0295": ["002_S_0295_bl", "002_S_0295_m06", "ADNI_002_S_0295_MR_Br_20120517_S150055_I304788"],
    "Patient-001": ["Patient-001_week-000-1", "Patient-001_week-013"],
    "person": ["visit1", "ses-02", "baseline", "2019-01-02"],
}
OF_THEIR_OWN = [
    *("case_0001", "case_0002", "BraTS2021_00006", "BraTS2021_00007", "IXI002-Guys-0828", "scan1", "scan_2021"),
    *("S01", "S02", "M01", "T1", "HC_01", "MS_01", "aged_01"),
    *("Kirby_113", "TCGA-FG-6692", "MS_patient26", "healthy_00", "test_00", "KKI2009-01", "José"),
    *("山田", "Brats17_TCIA_105", "UCSF-PDGM-0004", "a", "b"),
]


@pytest.mark.parametrize(("case", "person"), [(case, person) for person, cases in SESSIONS.items() for case in cases])
def test_sessions_are_of_their_person(case, person):
    assert person_by_name(case) == person


def test_people_stay_people():
    assert people_by_names(OF_THEIR_OWN) == {case: case for case in OF_THEIR_OWN}


@pytest.mark.parametrize(
    ("cases", "people"),
    [
        (["training01_01", "training01_02", "training02_01"], ["training01", "training01", "training02"]),
        (
            ["BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS-GLI-00006-000"],
            ["BraTS-GLI-00005"] * 2 + ["BraTS-GLI-00006"],
        ),
        (["P1_a", "P1_b", "P2_a"], ["P1", "P1", "P2"]),
        (["P1_2019", "P1_2020", "P2_2019"], ["P1", "P1", "P2"]),
        (["p1_T1", "P1_T2"], ["p1", "p1"]),
        # One prefix, or more numbers than a person has sessions: a study or a site.
        (["BraTS20_001", "BraTS20_002"], ["BraTS20_001", "BraTS20_002"]),
        ([f"site{site}_{number:03d}" for site in (1, 2) for number in range(20)], None),
    ],
)
def test_numbers_behind_numbers(cases, people):
    assert list(people_by_names(cases).values()) == (people or cases)


def test_a_folder_that_begins_the_names_is_the_person():
    cases = ["training01_01_pp", "training01_02_pp"]
    assert set(people_by_names(cases, ["training01"]).values()) == {"training01"}


def test_what_somebody_wrote_is_believed_and_completed():
    given = {"P1_T1": "anna", "P2_T1": "bert"}
    assert complete_subjects(["P1_T1", "P1_T2", "P2_T1", "c"], given) == {
        "P1_T1": "anna", "P1_T2": "anna", "P2_T1": "bert", "c": "c"
    }  # fmt: skip
    assert split_people({"P1_T1": "x", "P1_T2": "y", "c": "z"}) == {"P1": ["P1_T1", "P1_T2"]}


def test_people_are_described():
    text = describe_people({"sub-01_ses-1": "sub-01", "sub-01_ses-2": "sub-01", "b": "b"})
    assert text == "3 cases of 2 people: sub-01 (sub-01_ses-1, sub-01_ses-2), b"


@pytest.fixture
def longitudinal(tmp_path):
    """Writes a raw dataset of three people with two visits each, whose dataset.json holds ``more``."""

    def write(**more):
        folder = tmp_path / "Dataset001_Visits"
        for person in "123":
            for visit in "12":
                for channel in (0, 1):
                    path = folder / "imagesTr" / f"P{person}_visit{visit}_{channel:04d}.nii.gz"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
        content = {"channel_names": {"0": "FLAIR", "1": "T1"}, "numTraining": 6, **more}
        (folder / "dataset.json").write_text(json.dumps(content))
        return load_dataset(folder)

    return write


def test_folds_never_divide_a_person_that_nobody_wrote_down(longitudinal):
    dataset = longitudinal()
    for split in make_splits({case: dataset.subject(case) for case in dataset.cases()}):
        assert not {case[:2] for case in split["train"]} & {case[:2] for case in split["val"]}
    assert description_problems(dataset) == []


def test_the_check_names_sessions_that_count_as_several_people(longitudinal):
    each = {f"P{person}_visit{visit}": f"P{person}_visit{visit}" for person in "123" for visit in "12"}
    problems = description_problems(longitudinal(subjects=each))
    assert len(problems) == 3
    assert "P1_visit1, P1_visit2 as several people" in problems[0]
    assert description_problems(longitudinal(subjects=each, subjects_confirmed=True)) == []


def test_old_splits_that_divide_a_person_are_refused(longitudinal, tmp_path):
    dataset = longitudinal()
    cases = dataset.cases()
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    with pytest.raises(MMCCDError, match="delete the file to have it made again"):
        write_or_load_splits(path, {case: dataset.subject(case) for case in cases})
