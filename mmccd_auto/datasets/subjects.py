"""Who is who: the people behind cases, as the cases' names give them.

Sessions of one person must stay in one fold. Where nobody has written down whose a case is, its name often shows it: BIDS
says ``sub-01_ses-2``, others write visits, time points, years or dates behind the person.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

NOBODY = "person"
# More parts of one name than a person has sessions: those are people of a site.
_MOST_SESSIONS = 12
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = (
    rf"{_YEAR}[-._]?{_MONTH}[-._]?{_DAY}(?:[-._T]?\d{{4,6}})?|{_DAY}[-._]{_MONTH}[-._]{_YEAR}|"
    rf"{_DAY}[-._]?(?:{_MONTHS})[a-z]*[-._]?(?:{_YEAR}|\d\d)"
)
# Parts of a name between separators that say when a person was scanned. These also count where they begin the name ...
_SURELY_SESSION = (
    rf"{_DATE}|(?:ses|session|sess|visit|visite|tp|timepoint|time[-_ ]?point|follow[-_ ]?up|fup|fu|year|month|week|wave)"
    r"[-_ ]?\d+[a-z]?(?:[-.]\d+)?|ses-[^_\W]+|"
    r"baseline|follow[-_ ]?up|followup|pre[-_ ]?op|post[-_ ]?op|preoperative|postoperative|pretreatment|posttreatment"
)
# ... and these behind something only: S01 may be a subject, scan_2 a case. The last lines are states of one scan.
_SESSION = (
    rf"{_SURELY_SESSION}|(?:vis|time|exam|examination|study|scan|run|rep|repeat|acq|yr|mon|wk|day|round)[-_ ]?\d+[a-z]?|"
    r"(?:t|v|y|m|w|d|mr|mri)\d{1,3}|mr_d\d+|d\d{3,5}|\d{1,3}(?:d|w|m|y|mo|mos|yr|yrs|days?|weeks?|months?|years?)|"
    r"base|bl|fup|fu|initial|first|second|third|last|final|early|late|pre|post|intraop|before|after|test|retest|rescan|"
    r"pre[-_ ]?rt|post[-_ ]?rt|screening|recurrence|relapse|remission|"
    r"orig|original|raw|native|preprocessed|preproc|pp|processed|proc|bias|unstripped|stripped|skullstripped|bet|brain|n4|reg|"
    r"registered|coreg|warped|norm|normalized|normalised|resampled|denoised|defaced|cropped|mni|copy"
)
_BEHIND = re.compile(rf"[-_. ](?:{_SESSION})(?=$|[-_. ])", re.IGNORECASE)
_BEGINNING = re.compile(rf"^(?:{_SURELY_SESSION})(?:$|[-_. ])", re.IGNORECASE)
_BIDS = re.compile(r"(?:^|_)(sub-[^_\s]+)", re.IGNORECASE)
# Whose an image of ADNI is stands in the middle of its name.
_ADNI = re.compile(r"(?<!\d)(\d{3}_S_\d{4})(?!\d)")
_NUMBERED = re.compile(r"(?P<person>.*\d)[-_. ](?P<session>s?\d{1,3}|[a-f])", re.IGNORECASE)
_YEARED = re.compile(rf"(?P<person>.*\d)[-_. ](?P<session>{_YEAR})")


def folded(name: str) -> str:
    """Give a name as those file systems see it that distinguish neither capitals nor forms of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def person_by_name(case: str) -> str:
    """Find the person from the name of one case: the name without what says session, time point, date or state of the scan.

    A name that holds nothing else is of :data:`NOBODY`.

    Examples
    --------
    >>> [person_by_name(case) for case in ("sub-01_ses-2", "P1_T2", "anna_2019-03-01")]
    ['sub-01', 'P1', 'anna']
    """
    known = _BIDS.search(case) or _ADNI.search(case)
    if known:
        return known[1]
    person, before = case, None
    while person != before:
        before = person
        person = _BEGINNING.sub("", _BEHIND.sub("", person)).strip("-_. ")
    return person or NOBODY


def says_only_a_session(name: str) -> bool:
    """Say whether a name holds nothing but what says session, time point, date or state of the scan ("time01", "pre")."""
    return person_by_name(f"x_{name}") == "x"


def people_by_names(cases: Iterable[str], folders: Iterable[str] = ()) -> dict[str, str]:
    """Find the person of each case from the cases' names.

    Beside what a single name gives (:func:`person_by_name`), numbers and letters behind a number count as sessions
    (``training01_02``, ``BraTS-GLI-00005-001``), unless one name has more of them than a person has sessions.

    Parameters
    ----------
    cases : names
    folders : names of the folders that the cases lie in: one that ends in a number and begins a case's name is a person

    Returns
    -------
    person of each case; names that differ by capitals or the form of Unicode only are of one person
    """
    people = {case: person_by_name(case) for case in cases}
    persons = {folded(folder) for folder in folders if folder[-1:].isdigit()}
    for pattern in (_NUMBERED, _YEARED):
        sessions: dict[str, set[str]] = defaultdict(set)
        for person in people.values():
            match = None if _BIDS.search(person) else pattern.fullmatch(person)
            if match:
                sessions[folded(match["person"])].add(match["session"].lower())
        longitudinal = len(sessions) > 1 and max(map(len, sessions.values())) > 1
        usual = {
            person
            for person, found in sessions.items()
            if (longitudinal or person in persons) and len(found) <= _MOST_SESSIONS
        }
        for case, person in people.items():
            match = pattern.fullmatch(person)
            if match and folded(match["person"]) in usual:
                people[case] = match["person"]
    first: dict[str, str] = {}
    return {case: first.setdefault(folded(person), person) for case, person in people.items()}


def complete_subjects(cases: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Give the person of each case: the given one, else that of a case that is of the same person by its name, else by name.

    Parameters
    ----------
    cases : names of all cases
    given : case -> person, for the cases where somebody has given it
    """
    by_name = people_by_names(cases)
    told: dict[str, set[str]] = defaultdict(set)
    for case, person in by_name.items():
        if case in given:
            told[person].add(given[case])
    return {
        case: given.get(case) or (next(iter(told[person])) if len(told[person]) == 1 else person)
        for case, person in by_name.items()
    }


def split_people(subjects: Mapping[str, str]) -> dict[str, list[str]]:
    """Find people who count as several: by name -> their cases, where ``subjects`` gives these different subjects."""
    cases: dict[str, list[str]] = defaultdict(list)
    for case, person in people_by_names(subjects).items():
        cases[person].append(case)
    return {
        person: sorted(several) for person, several in sorted(cases.items()) if len({subjects[case] for case in several}) > 1
    }


def describe_people(subjects: Mapping[str, str], most: int = 8) -> str:
    """Say whose the cases are, for a person to confirm: "6 cases of 3 people: sub-01 (sub-01_ses-1, sub-01_ses-2), ..."."""
    cases: dict[str, list[str]] = defaultdict(list)
    for case, person in sorted(subjects.items()):
        cases[person].append(case)
    shown = [f"{person} ({', '.join(names)})" for person, names in cases.items() if names != [person]]
    shown += [person for person, names in cases.items() if names == [person]]
    rest = f", and {len(shown) - most} more" if len(shown) > most else ""
    numbers = f"{_counted(len(subjects), 'case', 'cases')} of {_counted(len(cases), 'person', 'people')}"
    return f"{numbers}: {', '.join(shown[:most])}{rest}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
