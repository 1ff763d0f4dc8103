"""Which modality the words of a name say.

Words are whole tokens between separators, with the glued forms that people use ("3DT1", "t1ce", "T2FLAIR"). The last word
that gives a modality wins, because visits are called T1, T2 and T3 before it; a name that can be read in two ways is
ambiguous, and says so. Only words of a contrast agent make a T1C: "post" alone may be a visit after an operation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLANE = r"(?:[23]d|ax|axial|tra|sag|cor|hr|[rwms]{1,3})?"
_SEQUENCE = (
    r"(?:(?:w|wi|we|weighted)?"
    r"(?:[23]d|tra|ax|sag|cor|iso|t?se|fse|tir|mprage|mpr|spgr|fspgr|ffe|tfe|vibe|propeller|space|cube)*)"
)
_AGENT = r"(?:gd|gad|gado|gadolinium|gadovist|gadobutrol|dotarem|magnevist|ce|km|contrast|kontrast|enhanced)"
# Words are parted by ASCII marks and spaces only: accents written apart and the signs of other scripts belong to words.
SEPARATORS = r"[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f\s]+"
# Whole tokens, the first that fits. "Other" kinds are named so that nobody takes them for a scan of the head.
_WORDS: tuple[tuple[str, str], ...] = (
    ("FLAIR", rf"{_PLANE}(?:t2w?)?(?:flair|flr)(?:w|wi)?(?:[23]d|tra|ax|sag|cor|iso|post)*|t2f|darkfluid"),
    ("T1C", rf"{_PLANE}(?:ce|gd|km|c)t1w?|{_PLANE}t1w?i?-?(?:c|cw|post|pc|post{_AGENT}|{_AGENT})"),
    ("T2STAR", r"t2(?:star|s)w?|t2starmap|t2gre|t2ffe|gret2"),
    ("T1", rf"{_PLANE}t1(?:n|pre|nativ|native|pregd|nogd)?{_SEQUENCE}"),
    (
        "T1",
        r"(?:3d|me|t1)?(?:mp2?rage|mpr)(?:iso|[23]d)?|(?:3d|ir)?f?spgr|(?:ir)?fspgr|(?:3d)?bravo|tfl(?:3d)?|(?:3d)?tfe|unit1",
    ),
    ("T2", rf"{_PLANE}t2{_SEQUENCE}"),
    ("PD", r"pdw?|dp|proton|protondensity"),
    ("PD and T2", r"pdt2|t2pd|pdw?t2w?"),
    ("ADC", r"d?adc"),
    (
        "DWI",
        r"dwi\d*|dti\d*|trace|tracew|b(?:0|[5-9]00|1[05]00|2000|1000)|diff|diffusion|sbref|eddy|fa|md|rd|ad|colfa|tensor|hardi",
    ),
    ("SWI", r"swi|swan|swip|suscept|venobold|qsm"),
    ("bold", r"bold|fmri|rest|rsfmri|epi|func|task"),
    ("perfusion", r"asl|pcasl|pasl|perf|perfusion|dsc|dce|r?cb[fv]|mtt|ttp|m0scan|cbfmap|ktrans"),
    ("field map", r"fieldmap|phasediff|phase[12]?|magnitude[12]?|fmap|tb1\w+|b[01]map|famp"),
    (
        "map",
        r"(?:t1|t2|r1|r2|pd|mt|mtr|mtv|s0|m0|ir?t1|r2star|t1rho)maps?|mtsat|mtr|chimap|dividedby\w*|t1wdividedbyt2w\w*|myelin\w*",
    ),
    ("angiography", r"tof|mra|mrv|angio|angiography|venography|pca"),
    (
        "other",
        r"ciss|fiesta|stir|dir|psir|trufi|bssfp|ct|pet|fdg|localizer|localiser|scout|mip|minip|inv[12]|defacemask|warp|xfm",
    ),
)
_KINDS = tuple((kind, re.compile(pattern)) for kind, pattern in _WORDS)
# Tissue classes of SPM and CAT12: grey matter of a T1 is no T1.
_TISSUE = re.compile(r"[smwr]{0,4}[cp][1-6](?:sub|t1|t2|flair|anat).*")
_ONTO = re.compile(r"(?P<moved>flair|t[12]w?|t1ce|t1gd|t1c)(?:2|to|in)(?P<target>flair|t[12]w?|mni|std|atlas)(?:space)?")
_AGENTS = frozenset(
    [
        "gd",
        "gad",
        "gado",
        "gadolinium",
        "gadovist",
        "gadobutrol",
        "dotarem",
        "magnevist",
        "ce",
        "km",
        "contrast",
        "kontrast",
        "enhanced",
        "postgd",
        "postgad",
        "postgado",
        "postkm",
        "postce",
        "postcontrast",
        "postgadolinium",
        "contrastenhanced",
        "gdpost",
        "kmpost",
    ]
)
_NO_AGENTS = frozenset(
    ["precontrast", "noncontrast", "nocontrast", "unenhanced", "nogd", "pregd", "prekm", "nativ", "native", "noncontrasted"]
)
_NEGATIONS = frozenset(["pre", "no", "non", "not", "without", "wo", "ohne", "sans", "vor", "before", "w/o"])
_BESIDE_AGENTS = frozenset(["post", "with", "after", "nach", "mit", "iv", "i", "v"])
# Words of protocols: they say how a scan was made, neither who it is of nor when. After the modality more of them count:
# before it, P2 is a patient and CS are initials.
_PROTOCOL_BEFORE = re.compile(
    r"ax|axial|tra|trans|transversal|transverse|sag|sagittal|cor|coronal|obl|oblique|[123]d|iso|isotropic|t?se|fse|frfse"
)
_PROTOCOL = re.compile(
    rf"{_PROTOCOL_BEFORE.pattern}|isovoxel|ssfse|haste|gre|ge|ir|tir|tirm|fs|fatsat|fat|sat|acc\d*|caipi\w*|grappa\w*|sense|"
    r"ipat\d*|space|cube|vista|brainview|view|propeller|prop|blade|w|wi|weighted|hr|highres|hires|seq|fl[23]d|flash|ffe|"
    r"vibe|dark|fluid|dixon|\d+mm|\d+x\d+(?:x\d+)?|t[rei]\d+|shc|cs|hemo|star|uni|den|promo"
)
_PROTOCOL_AFTER_PROTOCOL = re.compile(r"[ps][2-4]|ns|nd|norm")
_T1_SEQUENCES = re.compile(
    r"(?:3d|me)?(?:mp2?rage|mpr)(?:iso|[23]d)?|(?:3d|ir)?f?spgr|(?:3d)?bravo|tfl(?:3d)?|(?:3d)?tfe|unit1"
)
_STAR_WORDS = frozenset(["star", "hemo", "gre", "ffe", "fl2d", "fl3d", "flash", "medic", "merge", "swan", "gradient"])
_TARGETS = frozenset(["to", "onto", "into", "in", "on", "2", "coregto", "regto", "registeredto", "space"])
_MAPS = frozenset(["map", "maps", "mapping", "ratio"])
ANATOMY = frozenset(("FLAIR", "T1", "T1C", "T2", "T2STAR", "PD", "PD and T2"))
# Short words that are as often initials or conditions: they give a kind only where no other word does.
_WEAK = re.compile(r"fa|md|rd|ad|rest|task|func|diff|b0|epi|eddy|ct|dp")
VISIT = re.compile(r"t\d{1,2}")
MASK_WORDS = re.compile(
    r"seg|segm|segs|segmentations?|[dp]seg|probseg|aseg\w*|aparc\w*|mask\d*|masks|brainmask\d*|lesionmask\d*|headmask|"
    r"labels?|labelst[rs]|labelmap|wmhs?|rois?|lesions?\d*|manual\d*|consensus\d*|gt|truth|groundtruth|annotations?|parc|"
    r"tumou?rmask|maskst[rs]|goldstandard|voi|contours?"
)


@dataclass(frozen=True)
class Told:
    """What the words of a name say.

    Attributes
    ----------
    modality : "FLAIR", "T1", "T1C", "T2", or another kind ("bold"); None where no word says one
    rest : the name without the words that give it
    protocol : words of the protocol beside it, which went with it
    doubt : why the name can be read in two ways, as the second half of a sentence; None if it can't
    mask : the word that makes it a label or mask; None where it is none
    told : the words that gave it, in small letters
    """

    modality: str | None
    rest: str
    protocol: tuple[str, ...] = ()
    doubt: str | None = None
    mask: str | None = None
    told: tuple[str, ...] = ()


def tell_modality(text: str, known: Sequence[str] = (), visits: frozenset[str] = frozenset()) -> Told:
    """Read the modality from the words of a name.

    Parameters
    ----------
    text : a file's name without its ending, or a folder's name
    known : further names of modalities, each one word in small letters
    visits : words ("t1") that are visits here, because folders or other files are called so
    """
    return _Reader(text, known, visits).read()


def has_agent_words(text: str) -> bool:
    """Say whether a text names a contrast agent ("postgd", "ceMPRAGE"); "pre", "no" and "without" before it deny it."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())
    return _Reader(" ".join(["t1", *words]), (), frozenset()).read().modality == "T1C"


class _Reader:
    """A name as words and the separators before them; words that give the modality are crossed out on the way."""

    def __init__(self, text: str, known: Sequence[str], visits: frozenset[str]) -> None:
        parts = re.split(f"({SEPARATORS})", text)
        self.words = parts[0::2]
        self.separators = ["", *parts[1::2]]
        self.small = [word.lower() for word in self.words]
        self.kinds = [_kind(word, known) for word in self.small]
        self.gone: set[int] = set()
        self.doubt: str | None = None
        self._drop_targets()
        self.found = self._last()
        for place, word in enumerate(self.small):
            if word in visits and self.found is not None and place < self.found:
                self.kinds[place] = None

    @property
    def last(self) -> int:
        """The place of the last word that tells the modality; ValueError where :attr:`found` is None."""
        if self.found is None:
            raise ValueError("no word tells the modality")
        return self.found

    def read(self) -> Told:
        """Read the name: the last modality, what belongs to it, and what makes it doubtful or a mask."""
        modality = None if self.found is None else self.kinds[self.found]
        if self.found is not None:
            self.gone.add(self.last)
            if self.small[self.last].endswith("space") and any(kind in ANATOMY for kind in self.kinds[: self.last]):
                self.doubt = f"may be a {modality}, or a scan in the space of one"
            if modality in ("T1", "T1C"):
                modality = self._read_t1(modality)
            elif modality in ("T2", "FLAIR"):
                modality = self._read_t2(modality)
            elif modality == "PD and T2" or (modality == "PD" and self._beside("T2")):
                self.doubt = "may be the proton-density or the T2-weighted echo"
            self._widen()
            if any(word in _MAPS for word in self.small[self.last + 1 :]):
                modality, self.doubt = "map", None
            if _TISSUE.fullmatch(self.small[0]):
                modality, self.doubt = "tissue map", None
        protocol = tuple(self.small[place] for place in sorted(self.gone) if self.kinds[place] is None)
        told = tuple(self.small[place] for place in sorted(self.gone) if self.kinds[place] is not None)
        return Told(modality, self._rest(), protocol, self.doubt, self._mask(), told)

    def _last(self) -> int | None:
        told = [place for place, kind in enumerate(self.kinds) if kind is not None]
        strong = [place for place in told if not _WEAK.fullmatch(self.small[place])]
        return max(strong or told, default=None)

    def _drop_targets(self) -> None:
        """Drop what a scan was laid on, which is not what it shows: FLAIR_to_T1, T1_in_FLAIR_space."""
        for place in range(1, len(self.small) - 1):
            before = any(kind in ANATOMY for kind in self.kinds[:place])
            if self.small[place] in _TARGETS - {"space"} and before:
                self.kinds[place + 1] = None
                self.gone |= {place, place + 1}

    def _between_is_protocol(self, first: int, second: int) -> bool:
        return all(_is_protocol(word) for word in self.small[first + 1 : second])

    def _previous(self) -> int | None:
        """Compute the place of the modality word before the last one, where only words of the protocol lie between."""
        places = [place for place in range(self.last) if self.kinds[place] in ANATOMY]
        return places[-1] if places and self._between_is_protocol(places[-1], self.last) else None

    def _beside(self, kind: str) -> bool:
        previous = self._previous()
        return previous is not None and self.kinds[previous] == kind

    def _read_t1(self, modality: str) -> str:
        """Read T1 or T1C: sequences join the T1 before them, words of an agent make it a T1C."""
        previous = self._previous()
        before = None if previous is None else self.kinds[previous]
        sequence = _T1_SEQUENCES.fullmatch(self.small[self.last])
        if before == "FLAIR":
            self.doubt = "may be a T1, or a FLAIR of a visit or in a space called T1"
        elif previous is not None and before is not None and before in ("T1", "T1C") and sequence:
            modality = before
            self._take(previous, self.last)
        if {"dark", "fluid"} <= set(self.small[self.last :]):
            self.doubt = "may be a T1-weighted FLAIR, or a FLAIR of a visit called T1"
        return "T1C" if self._has_agent() else modality

    def _has_agent(self) -> bool:
        """Look for words of a contrast agent on both sides of the T1, with nothing but the protocol between."""
        found = False
        for step in (1, -1):
            run, place = [], self.last + step if step > 0 else min(self.gone) - 1
            while 0 <= place < len(self.small):
                word = self.small[place]
                plus = word == "c" and "+" in self.separators[place]
                if word in _AGENTS or plus or word in _NO_AGENTS:
                    run.append(place)
                    agent = word not in _NO_AGENTS and not self._negated(place, run)
                    found = found or agent
                    self.gone.update(run)
                elif word in _BESIDE_AGENTS | _NEGATIONS or self._goes(place) or (word == "o" and "w" in self.small):
                    run.append(place)
                elif word == "c" and step > 0 and place == self.last + 1:
                    self.doubt = "may be a T1 with contrast agent (T1c) or a scan called C"
                    return found
                else:
                    break
                place += step
        return found

    def _negated(self, place: int, run: list[int]) -> bool:
        before = [self.small[place - 1]] if place else []
        if before and before[0] in ("w", "o") and place > 1 and self.small[place - 2 : place] == ["w", "o"]:
            run += [place - 1, place - 2]
            return True
        if before and before[0] in _NEGATIONS:
            run.append(place - 1)
            return True
        return False

    def _read_t2(self, modality: str) -> str:
        """Read T2, FLAIR ("T2 FLAIR", "FLAIR T2", "t2 ... dark-fluid") or T2STAR."""
        after = set(self.small[self.last + 1 :])
        previous = self._previous()
        before = None if previous is None else self.kinds[previous]
        if modality == "FLAIR":
            if previous is not None and before == "T2":
                self._take(previous, self.last)
            elif previous is not None and before in ("T1", "T1C") and self._is_bare(previous):
                self.doubt = "may be a T1-weighted FLAIR, or a FLAIR of a visit called T1"
            return modality
        if previous is not None and before == "FLAIR":
            self._take(previous, self.last)
            return "FLAIR"
        if {"dark", "fluid"} <= after:
            return "FLAIR"
        if after & {"tirm", "tir"} or before == "PD":
            self.doubt = (
                "may be a FLAIR or a STIR" if before != "PD" else "may be the proton-density or the T2-weighted echo"
            )
        mark = self.separators[self.last + 1] if self.last + 1 < len(self.separators) else ""
        if "*" in mark or (_STAR_WORDS & after and self._star_follows()):
            return "T2STAR"
        return modality

    def _star_follows(self) -> bool:
        place = self.last + 1
        while place < len(self.small) and (_is_protocol(self.small[place]) or self.small[place] in _STAR_WORDS):
            if self.small[place] in _STAR_WORDS:
                return True
            place += 1
        return False

    def _is_bare(self, place: int) -> bool:
        """Check whether nothing but words of the protocol stands before a T1: then it is rather a sequence than a visit."""
        return place == 0 or _is_protocol(self.small[place - 1]) or place + 1 != self.last

    def _take(self, first: int, last: int) -> None:
        self.gone.update(range(first, last + 1))

    def _widen(self) -> None:
        """Cross out the words of the protocol around the modality."""
        place = max(self.gone) + 1
        while place < len(self.small) and self._goes(place):
            self.gone.add(place)
            place += 1
        place = min(self.gone) - 1
        while place >= 0 and _PROTOCOL_BEFORE.fullmatch(self.small[place]):
            self.gone.add(place)
            place -= 1

    def _goes(self, place: int) -> bool:
        word, before = self.small[place], self.small[max(0, place - 1)]
        if _is_protocol(word):
            return True
        if before == "mpr" and self.separators[place] == "-" and word.isdecimal():
            # The repeats of OASIS: mpr-1, mpr-2, ...
            return True
        return bool(_PROTOCOL_AFTER_PROTOCOL.fullmatch(word)) and _is_protocol(before)

    def _mask(self) -> str | None:
        """Return the word that makes the file a label or mask: behind the modality, directly before it, or without one."""
        for place, word in enumerate(self.small):
            if not MASK_WORDS.fullmatch(word):
                continue
            between = range(place + 1, self.found or 0)
            near = all(one in self.gone or MASK_WORDS.fullmatch(self.small[one]) for one in between)
            if self.found is None or place > self.found or near:
                return self.words[place]
        return None

    def _rest(self) -> str:
        pairs = enumerate(zip(self.separators, self.words, strict=True))
        rest = "".join(before + word for place, (before, word) in pairs if place not in self.gone)
        rest = rest.strip("_-. +*").removeprefix(")").removesuffix("(").strip("_-. ")
        # The bracket went with the separator before the modality: "Smith (2)_FLAIR".
        return rest + ")" * (rest.count("(") - rest.count(")"))


def _kind(word: str, known: Sequence[str]) -> str | None:
    if word in known:
        return word
    moved = _ONTO.fullmatch(word)
    if moved:
        return _kind(moved["moved"], ())
    if _TISSUE.fullmatch(word):
        return "tissue map"
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(word)), None)


def _is_protocol(word: str) -> bool:
    return bool(_PROTOCOL.fullmatch(word) or _T1_SEQUENCES.fullmatch(word))
