"""What a file name of BIDS says: entities, suffix and ending (``sub-01_ses-2_acq-ax_run-1_FLAIR.nii.gz``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import volume_ending
from mmccd_auto.sources.modality_words import has_agent_words
from mmccd_auto.sources.named_files import NO_AGENT_VALUES

ORDER = (
    *("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run", "mod"),
    *("echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "atlas", "seg", "scale"),
    *("res", "den", "label", "desc"),
)
"""Of the entities in a file name, by the specification; others come last."""
OF_PERSON = ("sub", "ses")
DERIVED = ("space", "res", "desc")
"""Entities of images that were computed from others."""
# Values of space- that mean the person's own head; any other is a template's.
_NATIVE_SPACES = frozenset(("orig", "native", "individual", "scanner", "t1w", "t2w", "flair"))
# Otherwise than the same words mean elsewhere: the two inversions of an MP2RAGE are no T1, its UNIT1 is one.
_CONTRASTS = {"unit1": "T1", "mp2rage": "MP2RAGE", "pdt2": "PDT2"}
_PART = re.compile(r"(?P<key>[A-Za-z]+)-(?P<value>[\w.+-]*\w[\w.+-]*)")
_SUFFIX = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_DEFACED = re.compile(r"deface\w*|defac\w*|anon\w*|noface\w*", re.IGNORECASE)


@dataclass(frozen=True)
class BidsName:
    """A file name of BIDS.

    Attributes
    ----------
    entities : value by key, keys in small letters, in the order of the name
    suffix : "T1w", as the name spells it
    ending : ".nii.gz", ".nii", ".json", ".tsv"
    """

    entities: Mapping[str, str]
    suffix: str
    ending: str

    @property
    def person(self) -> str:
        """``sub-01``."""
        return f"sub-{self.entities['sub']}"

    @property
    def session(self) -> str:
        """``ses-2``, or an empty text."""
        return f"ses-{self.entities['ses']}" if "ses" in self.entities else ""

    @property
    def visit(self) -> str:
        """``sub-01_ses-2``, or ``sub-01`` where there are no sessions."""
        return "_".join(part for part in (self.person, self.session) if part)

    @property
    def variant(self) -> str:
        """What distinguishes the scans of one contrast in one visit, but for the run: ``acq-ax_rec-norm``, or nothing."""
        return joined({key: value for key, value in self.entities.items() if key not in (*OF_PERSON, "run")})

    @property
    def run(self) -> tuple[int, str]:
        """By what runs are ordered: the number, where it is one, and the text; without a run before the first."""
        run = self.entities.get("run", "")
        return (int(run), run) if run.isdecimal() else (0 if not run else 10**9, run)

    @property
    def derived(self) -> bool:
        """Whether the image was computed from another one."""
        return any(key in self.entities for key in DERIVED)

    @property
    def in_template_space(self) -> bool:
        """Whether it lies on a template, not on the person's own head."""
        return self.entities.get("space", "orig").lower() not in _NATIVE_SPACES

    @property
    def defaced(self) -> bool:
        """Whether the name says that this is a copy without the face."""
        return any(_DEFACED.fullmatch(self.entities.get(key, "")) for key in ("acq", "rec", "desc", "mod"))

    @property
    def is_magnitude(self) -> bool:
        """Whether it is no phase, real or imaginary part."""
        return self.entities.get("part", "mag").lower() == "mag"

    @property
    def contrast(self) -> str:
        """What it shows: "T1", "T1C" (``ce-``, or an agent in ``acq-`` or ``rec-``), "T2", "FLAIR", else its suffix."""
        shows = _CONTRASTS.get(self.suffix.lower()) or contrast(self.suffix)
        agent = "ce" in self.entities and not NO_AGENT_VALUES.fullmatch(self.entities["ce"])
        agent = agent or any(has_agent_words(self.entities[key]) for key in ("acq", "rec") if key in self.entities)
        return "T1C" if shows == "T1" and agent else shows


def parse_name(name: str) -> BidsName | None:
    """Read a file name; None where it isn't one of BIDS. Capitals of keys count for nothing."""
    ending = volume_ending(name) or "".join(Path(name).suffixes[-1:])
    *parts, suffix = name[: len(name) - len(ending)].split("_")
    entities: dict[str, str] = {}
    for part in parts:
        found = _PART.fullmatch(part)
        if found is None or found["key"].lower() in entities:
            return None
        entities[found["key"].lower()] = found["value"]
    if next(iter(entities), None) != "sub" or not _SUFFIX.fullmatch(suffix):
        return None
    return BidsName(entities, suffix, ending)


def joined(entities: Mapping[str, str], only: Iterable[str] | None = None) -> str:
    """Write entities in the order of the specification: ``sub-01_run-2``.

    Parameters
    ----------
    entities : value by key
    only : keys that are written; None writes all
    """
    kept = [key for key in entities if only is None or key in set(only)]
    kept.sort(key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER))
    return "_".join(f"{key}-{entities[key]}" for key in kept)
