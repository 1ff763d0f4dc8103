"""What the names of modalities stand for."""

from __future__ import annotations

import re

_AGENT = r"(?:C|CE|GD|GAD|GADO|GADOLINIUM|KM|CONTRAST|ENHANCED)"
_T1_WITH_CONTRAST_AGENT = re.compile(
    rf"(?:3D)?(?:T1W?(?:I)?(?:POST)?(?:{_AGENT}|POST)|(?:CE|GD|KM)T1W?)(?:W|3D|MPRAGE|MPR|SPGR|SE|TSE)*"
)
_T1_BY_SEQUENCE = re.compile(
    r"(?:3D)?(?:T1W?)?(?:ME|MP2?)?(?:MPRAGE|MP2?RAGE|RAGE|MPR|SPGR|FSPGR|BRAVO|TFE|TFL|UNIT1)(?:3D)?"
)
_SUSCEPTIBILITY = re.compile(r"T2(?:STAR|S|GRE|FFE)W?")
_MAPS = re.compile(r"[TR][12](?:RHO|STAR)?(?:MAP|MAPS|RHO)")


def contrast(modality: str) -> str:
    """Give what a channel name stands for: "FLAIR", "T2", "T1C" (with contrast agent), "T1", or the name itself in capitals.

    The spellings of one contrast are one ("T2-FLAIR", "T2w_FLAIR", "FLAIR_3D"; "T1ce", "T1_Gd"); maps of relaxation times
    and T2* are none of them.

    Examples
    --------
    >>> [contrast(name) for name in ("T2-FLAIR", "t2w", "T1_Gd", "MPRAGE", "T2*", "DTI")]
    ['FLAIR', 'T2', 'T1C', 'T1', 'T2STAR', 'DTI']
    """
    name = re.sub(r"[^A-Z0-9]", "", modality.upper())
    if "FLAIR" in name or "DARKFLUID" in name or name == "T2F":
        return "FLAIR"
    if _MAPS.fullmatch(name):
        return name
    if _SUSCEPTIBILITY.fullmatch(name) or "*" in modality:
        return "T2STAR"
    if _T1_WITH_CONTRAST_AGENT.fullmatch(name):
        return "T1C"
    if _T1_BY_SEQUENCE.fullmatch(name):
        return "T1"
    found = re.match(r"(?:3D|2D|AX|SAG|COR|TRA)?(T[12]|PD)(?!\d)", name)
    return found[1] if found else name


def lesions_expected_dark(modality: str) -> bool:
    """Say whether lesions are dark.

    True for T1 without contrast agent, False for FLAIR, T2, PD, contrast-enhanced T1 and whatever isn't known.
    """
    return contrast(modality) == "T1"
