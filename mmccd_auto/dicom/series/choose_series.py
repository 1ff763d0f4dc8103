"""Which series stands for which modality."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.records import Series, sentence
from mmccd_auto.dicom.series.classify import Classification, classify
from mmccd_auto.imaging.contrasts import contrast

SMALLEST_CONFIDENCE = 0.4
_COVERAGE_STEP = 20.0
_PLANES = ("axial", "oblique", "coronal", "sagittal")
_RULES = (
    "original, not computed",
    "its name doesn't say post",
    "nearer to the axial plane",
    "covers more of the head",
    "finer voxels",
)


@dataclass(frozen=True)
class SeriesChoice:
    """A row of the table of series.

    Attributes
    ----------
    description : without the words that name the patient
    kind, confidence, reason : see :class:`~mmccd_auto.dicom.series.classify.Classification`
    spacing : mm along a row, along a column, between slices; None where there is no regular grid
    used_as : the wanted modality that the series stands for, as the caller spells it; None for none
    why : a phrase on why it is used or not
    """

    series: Series
    number: int | None
    description: str
    kind: str
    confidence: float
    reason: str
    images: int
    orientation: str | None
    spacing: tuple[float, float, float] | None
    used_as: str | None
    why: str


@dataclass(frozen=True)
class _Candidate:
    series: Series
    found: Classification


def choose_series(
    series: Sequence[Series], wanted: Sequence[str], overrides: Mapping[str, str] | None = None
) -> list[SeriesChoice]:
    """Choose for each wanted modality the best series of that contrast.

    Of several series, the usable ones (no problem, confidence of at least 0.4) are ranked: original before computed, those
    called "post" last (they may be after a contrast agent), axial before oblique, coronal and sagittal, the larger covered
    height (in steps of 20 mm), the smaller voxel, and at last the lower series number.

    Parameters
    ----------
    series : of one study
    wanted : modalities as the model names them; "T1W" and "T1" are one
    overrides : pattern by modality: a series number, a part of the description or protocol, or a regular expression;
        of several series that fit, one of the modality's contrast is taken, and of those the best

    Returns
    -------
    a row per series, in the order given

    Raises
    ------
    MMCCDError
        If an override names a modality that isn't wanted, fits no series, or fits only series that can't be used.
    """
    candidates = [_Candidate(item, classify(item.facts)) for item in series]
    used: dict[int, tuple[str, str]] = {}
    given = _given(wanted, overrides or {})
    for modality, pattern in given.items():
        place = _overridden(modality, pattern, candidates, used)
        used[place] = (modality, f"chosen by --series {modality}")
    for modality in wanted:
        if modality not in given:
            _choose(modality, candidates, used)
    return [_row(place, candidate, candidates, wanted, used) for place, candidate in enumerate(candidates)]


def parse_series_option(text: str) -> tuple[str, str]:
    """Take ``FLAIR=pattern`` apart into the modality and the pattern.

    Raises
    ------
    MMCCDError
        If either is missing.
    """
    modality, _, pattern = (part.strip() for part in text.partition("="))
    if not modality or not pattern:
        raise MMCCDError("--series must look like FLAIR=PATTERN, where PATTERN is a series number or a part of its name.")
    return modality, pattern


def _given(wanted: Sequence[str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides by the caller's spelling of the modality."""
    given = {}
    for name, pattern in overrides.items():
        modality = next((item for item in wanted if contrast(item) == contrast(name)), None)
        if modality is None:
            raise MMCCDError(f"--series {name}: {name} is not needed here, only {', '.join(wanted)}: leave the option out.")
        given[modality] = pattern
    return given


def _overridden(modality: str, pattern: str, candidates: Sequence[_Candidate], used: Mapping[int, tuple[str, str]]) -> int:
    """Compute the place of the best usable series that fits a pattern."""
    fitting = _fitting(pattern, candidates, modality)
    if not fitting:
        known = ", ".join(item.series.label for item in candidates) or "none"
        raise MMCCDError(f"--series {modality}: no series fits the pattern, the study has {known}: choose one of them.")
    usable = [place for place in fitting if candidates[place].series.problem is None and place not in used]
    if usable:
        return min(usable, key=lambda place: (not _shows(candidates[place], modality), *_rank(candidates[place])))
    taken = [used[place][0] for place in fitting if place in used]
    if taken:
        raise MMCCDError(f"--series {modality}: the series that fits is already used as {taken[0]}: choose another one.")
    raise MMCCDError(f"--series {modality}: {candidates[fitting[0]].series.problem}")


def _fitting(pattern: str, candidates: Sequence[_Candidate], modality: str) -> list[int]:
    """Return the places of the series that fit.

    By number, else by a part of the text, else by the pattern as a regular expression.
    """
    series = [item.series for item in candidates]
    if pattern.isdecimal():
        by_number = [place for place, item in enumerate(series) if item.number == int(pattern)]
        if by_number:
            return by_number
    texts = ["\n".join((item.facts.description, item.facts.protocol_name, item.part)) for item in series]
    found = [place for place, text in enumerate(texts) if pattern.casefold() in text.casefold()]
    if found:
        return found
    try:
        expression = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise MMCCDError(
            f"--series {modality}: the pattern fits no series and is no valid regular expression: fix it."
        ) from error
    return [place for place, text in enumerate(texts) if any(expression.search(line) for line in text.split("\n"))]


def _choose(modality: str, candidates: Sequence[_Candidate], used: dict[int, tuple[str, str]]) -> None:
    """Mark the best series of a modality as used, if there is one."""
    places = [
        place for place, item in enumerate(candidates) if _shows(item, modality) and _usable(item) and place not in used
    ]
    if not places:
        return
    places.sort(key=lambda place: _rank(candidates[place]))
    if len(places) == 1:
        why = f"the only usable {contrast(modality)}"
    else:
        why = f"the best of {len(places)}: {_advantage(candidates[places[0]], candidates[places[1]])}"
    used[places[0]] = (modality, why)


def _shows(candidate: _Candidate, modality: str) -> bool:
    return contrast(candidate.found.kind) == contrast(modality)


def _usable(candidate: _Candidate) -> bool:
    return candidate.series.problem is None and candidate.found.confidence >= SMALLEST_CONFIDENCE


def _rank(candidate: _Candidate) -> tuple:
    """Rank a series: smaller is better; the first entries are those of :data:`_RULES`."""
    series, grid = candidate.series, candidate.series.grid
    plane = series.facts.orientation
    covered = (grid.size[2] * grid.spacing[2]) // _COVERAGE_STEP if grid else 0.0
    voxel = grid.spacing[0] * grid.spacing[1] * grid.spacing[2] if grid else 0.0
    number = series.number if series.number is not None else 10**9
    return (
        not candidate.found.original,
        candidate.found.perhaps_after_agent,
        _PLANES.index(plane) if plane in _PLANES else len(_PLANES),
        -covered,
        round(voxel, 4),
        number,
        series.uid,
        series.part,
    )


def _advantage(better: _Candidate, worse: _Candidate) -> str:
    """Return the first rule by which one series is better than another."""
    pairs = zip(_RULES, _rank(better), _rank(worse), strict=False)
    return next((rule for rule, one, other in pairs if one != other), "lower series number")


def _row(
    place: int,
    candidate: _Candidate,
    candidates: Sequence[_Candidate],
    wanted: Sequence[str],
    used: Mapping[int, tuple[str, str]],
) -> SeriesChoice:
    series, found = candidate.series, candidate.found
    used_as, why = used.get(place, (None, ""))
    row = SeriesChoice(
        series=series,
        number=series.number,
        description=series.facts.description,
        kind=found.kind,
        confidence=found.confidence,
        reason=found.reason,
        images=series.facts.images,
        orientation=series.facts.orientation,
        spacing=series.grid.spacing if series.grid else None,
        used_as=used_as,
        why=why,
    )
    return row if used_as else replace(row, why=_why_not(candidate, candidates, wanted, used))


def _why_not(
    candidate: _Candidate, candidates: Sequence[_Candidate], wanted: Sequence[str], used: Mapping[int, tuple[str, str]]
) -> str:
    modality = next((name for name in wanted if _shows(candidate, name)), None)
    if modality is None:
        return f"{candidate.found.kind} is not needed"
    if candidate.series.problem:
        return candidate.series.problem
    chosen = next((place for place, (name, _) in used.items() if name == modality), None)
    if chosen is None or not _usable(candidate):
        return f"too uncertain to be used unasked: --series {modality}=... chooses it"
    best = candidates[chosen]
    if not _shows(best, modality) or _rank(best) > _rank(candidate):
        return f"{best.series.label} was chosen instead by --series {modality}"
    return f"{sentence(best.series.label)} is better: {_advantage(best, candidate)}"
