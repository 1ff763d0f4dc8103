"""What the names of modalities stand for."""

from __future__ import annotations

import re

_T1_WITH_CONTRAST_AGENT = re.compile(r"T1W?(I)?(C|CE|GD|CONTRAST|POST|KM)")
_T1_BY_SEQUENCE = re.compile(r"(3D)?(T1)?(MPRAGE|MPR|SPGR|BRAVO|TFE)")


def contrast(modality: str) -> str:
    """What a channel name stands for: "FLAIR", "T2", "T1C" (with contrast agent), "T1", or the name itself in capitals."""
    name = re.sub(r"[^A-Z0-9]", "", modality.upper())
    if "FLAIR" in name:
        return "FLAIR"
    if _T1_WITH_CONTRAST_AGENT.fullmatch(name):
        return "T1C"
    if _T1_BY_SEQUENCE.fullmatch(name):
        return "T1"
    found = re.match(r"T[12]", name)
    return found.group() if found else name


def lesions_expected_dark(modality: str) -> bool:
    """True for T1 without contrast agent, False for FLAIR, T2, PD, contrast-enhanced T1 and whatever isn't known."""
    return contrast(modality) == "T1"
