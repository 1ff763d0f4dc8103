"""Which contrast a series shows: by how it was measured first, by its name second."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmccd_auto.dicom.records import SequenceFacts
from mmccd_auto.dicom.series.series_words import (
    DIFFUSION,
    FEW_SLICES,
    GRADIENT_ECHO,
    OPERATION,
    PREPARATION,
    SeriesWords,
    read_words,
)

KINDS = ("FLAIR", "T1", "T1C", "T2", "PD", "DWI", "ADC", "SWI", "localiser", "derived", "other")
LONG_ECHO = 60.0
SHORT_ECHO = 35.0
LONG_REPETITION = 1800.0
SHORT_REPETITION = 1200.0
# A localiser holds a few images; one whose name also gives its contrast holds fewer than a scan of the whole head.
FEW_IMAGES = 40
VERY_FEW_IMAGES = 15
QUICK_REPETITION = 20.0
# A name that contradicts the measurement leaves the measured kind this much of its confidence.
CONTRADICTED = 0.6
NAME_ONLY = 0.5
# "T1 post" may be after a contrast agent or after surgery.
POST_ALONE = 0.9
SURE = 0.8

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


@dataclass(frozen=True)
class Classification:
    """What a series shows.

    Attributes
    ----------
    kind : one of :data:`KINDS`
    confidence : 0 to 1
    reason : a phrase with the numbers that decided
    original : False for images computed from others, such as reformatted planes, which keep their contrast
    perhaps_after_agent : whether the name says "post" and nothing says after what
    """

    kind: str
    confidence: float
    reason: str
    original: bool = True
    perhaps_after_agent: bool = False


@dataclass(frozen=True)
class _Reading:
    """What the measurement says; ``alternatives`` are the kinds that it does not rule out."""

    kind: str
    confidence: float
    reason: str
    alternatives: tuple[str, ...] = ()


def classify(facts: SequenceFacts) -> Classification:
    """Find the contrast of a series.

    The measurement decides (echo, repetition and inversion time, scanning sequence, image type, contrast agent). Where it
    leaves several kinds open, or is missing, the name of the series does; a name that contradicts lowers the confidence.
    What the words of a name say: :func:`~mmccd_auto.dicom.series.series_words.read_words`.
    """
    original = not set(facts.image_type) & {"DERIVED", "MPR", "REFORMATTED", "SECONDARY"}
    description, protocol = read_words(facts.description), read_words(facts.protocol_name)
    named = description if description.kind else protocol
    found = _by_image_type(facts) or _with_name(_by_measurement(facts), named, facts)
    perhaps = found.kind == "T1" and (description.post or protocol.post)
    if found.kind == "T1":
        found = _with_agent(found, facts, (description, protocol))
    reason = found.reason if original else f"{found.reason}; computed from other images"
    return Classification(
        found.kind, round(min(found.confidence, 0.99), 2), reason, original, perhaps and found.kind == "T1"
    )


def _by_image_type(facts: SequenceFacts) -> _Reading | None:
    """Return what the scanner itself calls the images, where that settles it."""
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
    """Return what the timing says; None where echo or repetition time is missing."""
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


def _with_name(measured: _Reading | None, words: SeriesWords, facts: SequenceFacts) -> _Reading:
    """Bring what was measured and what the name says together."""
    if measured is None:
        if words.kind is None:
            return _Reading("other", 0.3, "neither its timing nor its name gives the contrast")
        return _Reading(words.kind, NAME_ONLY, f"only its name says {words.kind}: echo or repetition time is missing")
    if words.kind is None:
        return measured
    if words.role is not None and _role_holds(measured, words, facts):
        return _Reading(words.role, 0.7, f"{measured.reason}; its name says {_described(words.role)}")
    if measured.kind in words.contrasts:
        return replace(measured, confidence=measured.confidence + 0.04, reason=f"{measured.reason}; its name agrees")
    if not words.contrasts:
        return _contradicted(measured, words.kind)
    named = words.contrasts[-1]
    if named in measured.alternatives:
        return _Reading(named, 0.7, f"{measured.reason}; its name says {_described(named)}")
    return _contradicted(measured, named)


def _role_holds(measured: _Reading, words: SeriesWords, facts: SequenceFacts) -> bool:
    """Check whether the measurement leaves room for the role that the words name.

    For instance localiser, diffusion or angiography.
    """
    sequence = set(facts.scanning_sequence)
    is_named, echo_planar = measured.kind in words.contrasts, "EP" in sequence
    if words.shown_by == OPERATION:
        return True
    if words.shown_by == PREPARATION:
        return not is_named
    if measured.kind == "FLAIR" and measured.confidence >= SURE and not echo_planar:
        # Nothing but a FLAIR is measured with such an inversion.
        return False
    if words.shown_by == DIFFUSION:
        return echo_planar or not is_named
    if words.shown_by == GRADIENT_ECHO:
        return not is_named and (not sequence or bool(sequence & {"GR", "EP", "RM"}))
    if words.shown_by == FEW_SLICES:
        return _may_be_localiser(facts, is_named)
    return not is_named


def _may_be_localiser(facts: SequenceFacts, is_named: bool) -> bool:
    """Check whether the images may be those of a localiser.

    Number, directions, or a quick gradient echo (as of automatic head scouts) leave room for one.
    """
    repetition = facts.repetition_time
    is_short = repetition is not None and repetition <= QUICK_REPETITION
    is_quick = "GR" in facts.scanning_sequence and not facts.inversion_time and is_short
    few = facts.images <= (VERY_FEW_IMAGES if is_named else FEW_IMAGES)
    return facts.orientation == "several" or few or (is_quick and not is_named)


def _contradicted(measured: _Reading, named: str) -> _Reading:
    reason = f"{measured.reason}, although its name says {_described(named)}"
    return replace(measured, confidence=measured.confidence * CONTRADICTED, reason=reason)


def _with_agent(found: _Reading, facts: SequenceFacts, names: tuple[SeriesWords, ...]) -> _Reading:
    """Name a T1 after contrast agent: it is another kind of scan, since lesions may be bright in it."""
    if facts.contrast_agent:
        return replace(found, kind="T1C", reason=f"{found.reason}; a contrast agent is noted")
    if any(words.agent for words in names):
        reason = f"{found.reason}; its name speaks of a contrast agent, which its header doesn't note"
        return replace(found, kind="T1C", confidence=found.confidence * 0.85, reason=reason)
    if any(words.post for words in names):
        reason = f"{found.reason}; its name says post, but neither name nor header notes a contrast agent"
        return replace(found, confidence=found.confidence * POST_ALONE, reason=reason)
    return found


def _described(kind: str) -> str:
    return "that it is something else" if kind == "other" else kind
