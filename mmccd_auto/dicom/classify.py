"""Which contrast a series shows: by how it was measured first, by its name second."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mmccd_auto.dicom.records import SequenceFacts

KINDS = ("FLAIR", "T1", "T1C", "T2", "PD", "DWI", "ADC", "SWI", "localiser", "derived", "other")
LONG_ECHO = 60.0
SHORT_ECHO = 35.0
LONG_REPETITION = 1800.0
SHORT_REPETITION = 1200.0
FEW_IMAGES = 40
# A name that contradicts the measurement leaves the measured kind this much of its confidence.
CONTRADICTED = 0.6
NAME_ONLY = 0.5

_DERIVED_TYPES = {
    "MIP": "a maximum intensity projection",
    "MAX_IP": "a maximum intensity projection",
    "MIN_IP": "a minimum intensity projection",
    "MNIP": "a minimum intensity projection",
    "MINIP": "a minimum intensity projection",
    "PROJECTION IMAGE": "a projection",
    "SUBTRACTION": "a subtraction",
    "SUB": "a subtraction",
    "SCREEN SAVE": "a screenshot",
    "FA": "a map of fractional anisotropy",
    "EADC": "an exponential diffusion map",
    "TENSOR": "a diffusion tensor",
    "CBF": "a perfusion map",
    "CBV": "a perfusion map",
    "RCBV": "a perfusion map",
    "MTT": "a perfusion map",
    "TTP": "a perfusion map",
    "T1 MAP": "a map of T1",
    "T2 MAP": "a map of T2",
    "PHASE": "a phase image",
    "P": "a phase image",
    "REAL": "a real image",
    "IMAGINARY": "an imaginary image",
}
_NAMES = (
    ("localiser", r"localis|localiz|scout|survey|smart.?brain|(three|3).?plane|\bloc\b|\btopo"),
    ("derived", r"\bm(ax|in)?ip\b|\bsub(traction)?\b|\bfa\b|colfa|tensor|exponential|\beadc\b|\b(r?cb[fv]|mtt|ttp)\b"),
    ("ADC", r"\bd?adc\b|apparent.?diff"),
    ("DWI", r"\bdwi|diff|\bdti\b|trace|\bb.?(800|900|1000|1500|2000)\b"),
    (
        "other",
        r"\btof\b|angio|\bmra\b|\bmrv\b|venc|\bpca\b|perf|\bdsc\b|\bdce\b|asl\b|bold|fmri|resting|spectro",
    ),
    ("other", r"field.?map|\bb[01].?map|\bciss|fiesta|\bdrive\b|tru.?fi|b.?ssfp|\bstir\b|\bdir\b|\bpsir\b|\bt[12].?map"),
    ("SWI", r"\bswi|swan|suscept|t2 ?\*|t2.?star|hemo|\bgre.?t2|t2.?(gre|ffe)\b|vbp|venobold"),
    ("FLAIR", r"flair|dark.?fl"),
    ("T2", r"t2"),
    ("T1", r"t1|mp.?rage|bravo|f?spgr|vibe|\bturbo.?flash|\btfl"),
    ("PD", r"\bpd(w|\b)|proton|\bdens"),
)
# Kinds that the timing alone can't tell from others: here the name is believed.
_BY_NAME = frozenset({"localiser", "derived", "ADC", "DWI", "other"})
_AGENT = re.compile(
    r"\+ ?c\b|\bc\+|\bkm\b|\bgd\b|\bgado|\bpost\b|\bpost.?(gd|gad|km|contrast)|\bce\b"
    r"|t1w?(c|ce)\b|contrast|kontrast|enhanced"
)
_NO_AGENT = re.compile(r"\bpre\b|nativ|\bohne\b|\bw/?o\b|without|\bnon?\b|\bsans\b")


@dataclass(frozen=True)
class Classification:
    """What a series shows.

    Attributes
    ----------
    kind : one of :data:`KINDS`
    confidence : 0 to 1
    reason : a phrase with the numbers that decided
    original : False for images computed from others, such as reformatted planes, which keep their contrast
    """

    kind: str
    confidence: float
    reason: str
    original: bool = True


@dataclass(frozen=True)
class _Reading:
    """What the measurement tells; ``alternatives`` are the kinds that it does not rule out."""

    kind: str
    confidence: float
    reason: str
    alternatives: tuple[str, ...] = ()


def classify(facts: SequenceFacts) -> Classification:
    """Tell the contrast of a series.

    The measurement decides (echo, repetition and inversion time, scanning sequence, image type, contrast agent). Where it
    leaves several kinds open, or is missing, the name of the series does; a name that contradicts lowers the confidence.
    """
    original = not set(facts.image_type) & {"DERIVED", "MPR", "REFORMATTED", "SECONDARY"}
    named = _named(facts)
    found = _by_image_type(facts) or _with_name(_by_measurement(facts), named, facts)
    if found.kind == "T1":
        found = _with_agent(found, facts)
    reason = found.reason if original else f"{found.reason}; computed from other images"
    return Classification(found.kind, round(min(found.confidence, 0.99), 2), reason, original)


def _by_image_type(facts: SequenceFacts) -> _Reading | None:
    """What the scanner itself calls the images, where that settles it."""
    types = set(facts.image_type)
    if "ADC" in types or "ADC_UNSPECIFIED" in types:
        return _Reading("ADC", 0.97, "the image type says ADC")
    if types & {"LOCALIZER", "LOCALISER"}:
        return _Reading("localiser", 0.98, "the image type says localiser")
    for name, meaning in _DERIVED_TYPES.items():
        if name in types:
            return _Reading("derived", 0.95, f"the image type says that it is {meaning}")
    if types & {"DIFFUSION", "TRACEW"} or facts.b_value:
        b_value = f", b = {facts.b_value:g} s/mm2" if facts.b_value else ""
        return _Reading("DWI", 0.96, f"diffusion-weighted{b_value}")
    return None


def _by_measurement(facts: SequenceFacts) -> _Reading | None:
    """What the timing tells; None where echo or repetition time is missing."""
    echo, repetition = facts.echo_time, facts.repetition_time
    if not echo or not repetition:
        return None
    sequence = set(facts.scanning_sequence)
    times = f"TR {repetition:.0f} ms and TE {echo:.3g} ms"
    if "IR" in sequence or (facts.inversion_time or 0) >= 50:
        return _inversion_recovery(facts.inversion_time, echo, repetition, "GR" in sequence, times)
    if "EP" in sequence:
        return _Reading("other", 0.5, f"echo planar imaging of {times}", ("DWI", "SWI", "T2"))
    if "GR" in sequence and "SE" not in sequence:
        return _gradient_echo(echo, repetition, times)
    return _spin_echo(echo, repetition, times)


def _inversion_recovery(inversion: float | None, echo: float, repetition: float, gradient: bool, times: str) -> _Reading:
    told = f"inversion recovery with TI {inversion:.0f} ms, {times}" if inversion else f"inversion recovery, {times}"
    if inversion is None:
        if echo >= LONG_ECHO and repetition >= 4000:
            return _Reading("FLAIR", 0.8, f"{told}: long enough to darken fluid", ("T2", "other"))
        if echo < SHORT_ECHO:
            return _Reading("T1", 0.85 if gradient else 0.7, f"{told}: a short echo", ("PD", "other"))
    elif inversion < 300:
        return _Reading("other", 0.85, f"{told}: short, as in STIR, which darkens fat", ("T1",) if gradient else ())
    elif inversion >= 1400 and echo >= LONG_ECHO:
        return _Reading("FLAIR", 0.95, f"{told}: fluid is dark and the echo long")
    elif inversion < 1400 and echo < LONG_ECHO:
        return _Reading("T1", 0.95 if echo < SHORT_ECHO else 0.7, f"{told}: T1-weighted by the inversion")
    return _Reading("other", 0.5, f"{told}: unusual", ("FLAIR", "T1", "T2", "PD"))


def _gradient_echo(echo: float, repetition: float, times: str) -> _Reading:
    told = f"gradient echo of {times}"
    if echo >= 12:
        return _Reading("SWI", 0.85 if echo >= 15 else 0.6, f"{told}: T2*-weighted", ("T1",) if echo < 15 else ())
    if repetition <= SHORT_REPETITION:
        return _Reading("T1", 0.85, f"{told}: both short", ("PD", "SWI"))
    # Magnetisation-prepared scans give the time between two preparations as their TR.
    return _Reading("T1", 0.7, f"{told}: a short echo", ("PD",))


def _spin_echo(echo: float, repetition: float, times: str) -> _Reading:
    told = f"spin echo of {times}"
    if echo >= LONG_ECHO:
        if repetition >= LONG_REPETITION:
            return _Reading("T2", 0.92, f"{told}: both long")
        return _Reading("T2", 0.7 if repetition > SHORT_REPETITION else 0.4, f"{told}: a long echo", ("other",))
    if repetition <= SHORT_REPETITION:
        return _Reading(
            "T1", 0.92 if echo <= SHORT_ECHO else 0.6, f"{told}: both short", ("T2",) if echo > SHORT_ECHO else ()
        )
    if repetition < 2600 and echo < SHORT_ECHO:
        return _Reading("PD", 0.55, f"{told}: a short echo and a middling repetition", ("T1",))
    if echo <= 40:
        return _Reading("PD", 0.9, f"{told}: a long repetition and a short echo")
    return _Reading("T2", 0.55, f"{told}: a long repetition and a middling echo", ("PD",))


def _with_name(measured: _Reading | None, named: str | None, facts: SequenceFacts) -> _Reading:
    """Bring what was measured and what the name says together."""
    if measured is None:
        if named is None:
            return _Reading("other", 0.3, "neither its timing nor its name tells the contrast")
        return _Reading(named, NAME_ONLY, f"only its name says {named}: echo or repetition time is missing")
    if named is None:
        return measured
    if named == measured.kind:
        return replace(measured, confidence=measured.confidence + 0.04, reason=f"{measured.reason}; its name agrees")
    if named == "localiser" and facts.images > FEW_IMAGES:
        return _contradicted(measured, named)
    if named in measured.alternatives or named in _BY_NAME:
        return _Reading(named, 0.7, f"{measured.reason}; its name says {_described(named)}")
    return _contradicted(measured, named)


def _contradicted(measured: _Reading, named: str) -> _Reading:
    reason = f"{measured.reason}, although its name says {_described(named)}"
    return replace(measured, confidence=measured.confidence * CONTRADICTED, reason=reason)


def _with_agent(found: _Reading, facts: SequenceFacts) -> _Reading:
    """A T1 after contrast agent is another kind of scan: lesions may be bright in it."""
    if facts.contrast_agent:
        return replace(found, kind="T1C", reason=f"{found.reason}; a contrast agent is noted")
    name = _name(facts)
    if _AGENT.search(name) and not _NO_AGENT.search(name):
        reason = f"{found.reason}; its name tells of a contrast agent, which its header doesn't note"
        return replace(found, kind="T1C", confidence=found.confidence * 0.85, reason=reason)
    return found


def _described(kind: str) -> str:
    return "that it is something else" if kind == "other" else kind


def _name(facts: SequenceFacts) -> str:
    # Underscores count as letters for \b, but separate words in the names of series.
    return f"{facts.description} | {facts.protocol_name}".lower().replace("_", " ")


def _named(facts: SequenceFacts) -> str | None:
    """The kind that the description tells, else the protocol's name; None if neither does."""
    for text in (facts.description, facts.protocol_name):
        name = text.lower().replace("_", " ")
        found = next((kind for kind, pattern in _NAMES if re.search(pattern, name)), None)
        # "T1 FLAIR" is an inversion recovery scan with T1 contrast.
        if found == "FLAIR" and re.search(r"t1", name) and not re.search(r"t2", name):
            return "T1"
        if found:
            return found
    return None
