"""What the words of a series' name say: contrasts, roles (localiser, diffusion, ...), and a contrast agent.

Words count as whole tokens: "diffuse" is no diffusion, "sub-acute" no subtraction, "post op" no contrast agent.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_PREFIX = r"(?:wip|e|s|es|se|ax|axi|axial|tra|trans|sag|cor|[23]d|iso|fs|fast|r|q)*"
_CONTRASTS = (
    ("SWI", r"swi\w{0,2}|swan|vbp|venobold|susceptib\w+|suszeptib\w+|h(a?)emo\w*|t2star\w?|t2s"),
    ("T1", rf"{_PREFIX}t1w?flair\w*"),
    ("FLAIR", r"\w*flair\w*|darkfl\w*|t2f"),
    ("T2", rf"{_PREFIX}t2(?![0-9])(?!star|map|rho|s$|f$)\w*"),
    ("T1", rf"{_PREFIX}t1(?![0-9])(?!map|rho)\w*"),
    ("T1", r"\w*mp2?rage\w*|bravo|f?spgr\w*|vibe|turboflash|tfl\w*|\dd?tfe"),
    ("PD", r"pd|pdw\w?|pdt2\w*|proton\w*|dens|densit\w+|dp"),
)
_GRADIENT_ECHO = re.compile(r"gre|ffe|mge|fl[23]d|medic|gradient\w*")
OPERATION = "operation"
PREPARATION = "preparation"
DIFFUSION = "diffusion"
GRADIENT_ECHO = "gradient echo"
FEW_SLICES = "few slices"
OTHER = "other"
_ROLES = (
    ("derived", OPERATION, r"m(ax|in)?ips?\d*|sub|subs|subtra\w+|subtrak\w+|sustrac\w+|soustra\w+|mpr\d*ips?"),
    ("other", OPERATION, r"psir|t[12]map|t[12]rho|relaxometr\w+"),
    ("other", PREPARATION, r"dir|stir|ciss\w*|drive"),
    ("localiser", FEW_SLICES, r"lo[ck]ali[sz]\w+|scout\w*|aahead|survey\w*|smartbrain|loc|locs|topo\w*|reperage"),
    ("localiser", FEW_SLICES, r"threeplane|planung|planning|uber[sb]icht\w*"),
    ("derived", DIFFUSION, r"fa|colfa|fractional\w*|tensor\w*|exponential|eadc"),
    ("derived", GRADIENT_ECHO, r"r?cb[fv]|mtt|ttp|tmax"),
    ("ADC", DIFFUSION, r"d?adc\w{0,3}|apparent"),
    ("DWI", DIFFUSION, r"dwi\w*|diff|diffusion\w*|difusion|dti\w*|trace|tracew|resolve|b(800|900|1000|1500|2000)"),
    ("other", GRADIENT_ECHO, r"(\dd)?tof\w*|angio|angiogra\w+|(ce)?mra|mrv|venc|pca|inhance\w*|fiesta\w*|trufi|b?ssfp"),
    ("other", GRADIENT_ECHO, r"perf|perfusion\w*|dsc|dce|p?c?asl|bold|fmri|resting|fieldmap"),
    ("other", OTHER, r"spectro\w*|mrs|csi|elasto\w*"),
)
# Two words that mean one thing; read before the words alone.
_PAIRS = (
    (r"t2[\s_.-]*\*\w?", " t2star "),
    (r"\bt2\w?[\s_.-]+star\w?\b", " t2star "),
    (r"\bdark[\s_.-]*fl\w*", " darkfluid "),
    (r"\bt([12])[\s_.-]+map\w*", r" t\1map "),
    (r"\b(field|b0|b1)[\s_.-]*map\w*", r" fieldmap "),
    (r"\bsmart[\s_.-]+brain", " smartbrain "),
    (r"\b(three|3)[\s_.-]*(plane|pl)\b", " threeplane "),
    (r"\btru?e?[\s_.-]+fi(sp)?\b", " trufi "),
    (r"\bmp[\s_.-]+rage", " mprage "),
    (r"\bturbo[\s_.-]+flash", " turboflash "),
    (r"\bb[\s_.=-]*(800|900|1000|1500|2000)\b", r" b\1 "),
    (r"\bw\s*/\s*o?\b", lambda match: " without " if "o" in match[0] else " with "),
    (r"\+\s*(c|k|ce|gd|km|gad\w*)\b|\b[ck]m?\s*\+(?!\w)", " agentplus "),
    (r"\bsub[\s_.-]*(acute?\w*|akut\w*|ag[uu]d\w*|aig\w*|dural\w*|arach\w*|cort\w*|cutan\w*|total\w*|epend\w*)", " "),
    (r"\bfa[\s_.=-]*\d+", " "),
)
_PROTOCOL = re.compile(r"protoco\w*|protokoll?\w*")
_AGENT = re.compile(
    r"agentplus|gd|gad|gado\w*|gdt1\w*|km|kontrast\w*|contrast[eo]?|contrasted|ce|kmg?|mdc|enhanced|inject\w*|iny\w*|inj|injekt\w*"
    r"|dotarem|magnevist|prohance|omniscan|multihance|clariscan|\w*t1w?i?(c|ce|gd|km)|postgd|postgad\w*|postkm|postcontrast\w*"
)
_NO_CONTRAST_OF_AN_AGENT = frozenset({"phase", "tissue", "image", "dual", "multi", "high", "low", "transfer"})
_WITHOUT = re.compile(r"ohne|kein\w*|without|wo|no|non|sans|sin|senza|vor|avant|antes|before|pre|prae")
_WITH = re.compile(r"post|after|nach|apres|despues|mit|with|avec|con|dopo|plus|iv|i|v")
_NATIVE = re.compile(r"nativ\w*|unenhanced|noncontrast|precontrast\w*|prekm|pregd|unkontrast\w*")
_SURGERY = re.compile(r"op|ops|opera\w*|surg\w*|chir\w*|crani\w*|rx|rt|radio\w*|treat\w*|therap\w*|fossa\w*")
_REACH = 2


@dataclass(frozen=True)
class SeriesWords:
    """What the words of one text say.

    Attributes
    ----------
    contrasts : of FLAIR, T1, T2, PD, SWI, in the order of the text; "T2 FLAIR" is FLAIR alone, "T1 FLAIR" T1 alone
    role : kind that the words name beside a contrast ("localiser", "DWI", "ADC", "derived", "other"); None for none
    shown_by : what of a measurement could show that role: :data:`DIFFUSION`, :data:`GRADIENT_ECHO`, :data:`FEW_SLICES` or
        :data:`OTHER`; nothing for an :data:`OPERATION` on images (projection) or a :data:`PREPARATION` (double inversion)
    agent : whether a contrast agent is named, and not as absent
    post : whether "post" stands without an agent: after an agent, or after surgery
    """

    contrasts: tuple[str, ...] = ()
    role: str | None = None
    shown_by: str = OTHER
    agent: bool = False
    post: bool = False

    @property
    def kind(self) -> str | None:
        """The kind by the words alone: the role, else the last contrast."""
        return self.role or (self.contrasts[-1] if self.contrasts else None)


def read_words(text: str) -> SeriesWords:
    """Read what the words of a description or of a protocol's name say."""
    tokens = _tokens(text)
    contrasts = _contrasts(tokens)
    role, shown_by = _role(_without_exam(tokens))
    agent = _names_agent(tokens)
    return SeriesWords(contrasts, role, shown_by, agent, post=not agent and _says_post(tokens))


def _tokens(text: str) -> list[str]:
    """Return lower-case words without accents; pairs that mean one thing are one word."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("_", " ")
    for pattern, word in _PAIRS:
        folded = re.sub(pattern, word, folded)
    return re.findall(r"[a-z0-9]+", folded)


def _contrasts(tokens: list[str]) -> tuple[str, ...]:
    found = [kind for token in tokens if (kind := _contrast(token))]
    if "T2" in found and any(_GRADIENT_ECHO.fullmatch(token) for token in tokens):
        found = ["SWI" if kind == "T2" else kind for kind in found]
    if "FLAIR" in found:
        # "T1 FLAIR" is an inversion recovery scan with T1 contrast.
        joined = "T1" if "T1" in found and "T2" not in found else "FLAIR"
        found = [joined if kind == "FLAIR" else kind for kind in found if kind != "T2"]
    return tuple(dict.fromkeys(reversed(found)))[::-1]


def _contrast(token: str) -> str | None:
    return next((kind for kind, pattern in _CONTRASTS if re.fullmatch(pattern, token)), None)


def _without_exam(tokens: list[str]) -> list[str]:
    """Return the words that don't name the exam that the series is a part of ("angio protocol", "protocole diffusion")."""
    places = {place + step for place, token in enumerate(tokens) if _PROTOCOL.fullmatch(token) for step in (-1, 1)}
    return [token for place, token in enumerate(tokens) if place not in places]


def _role(tokens: list[str]) -> tuple[str | None, str]:
    for kind, shown_by, pattern in _ROLES:
        if any(re.fullmatch(pattern, token) for token in tokens):
            return kind, shown_by
    return None, OTHER


def _says_post(tokens: list[str]) -> bool:
    """Check whether "post" stands for itself: neither "post op" nor "posterior"."""
    pairs = zip(tokens, tokens[1:] + [""], strict=False)
    return any(token == "post" and not _SURGERY.fullmatch(after) for token, after in pairs)


def _names_agent(tokens: list[str]) -> bool:
    """Check whether any word names an agent that the words before it don't deny."""
    return any(_AGENT.fullmatch(token) and not _denied(tokens, place) for place, token in enumerate(tokens))


def _denied(tokens: list[str], place: int) -> bool:
    before = tokens[max(place - _REACH, 0) : place][::-1]
    if before and tokens[place].startswith("contrast") and before[0] in _NO_CONTRAST_OF_AN_AGENT:
        return True
    for token in before:
        if _WITH.fullmatch(token):
            return False
        if _WITHOUT.fullmatch(token) or _NATIVE.fullmatch(token):
            return True
    return False
