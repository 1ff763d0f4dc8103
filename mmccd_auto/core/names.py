"""Names that become files and folders: what they may be, whether they come from a file or from an option."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Predicate

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import Expected
from mmccd_auto.core.strict_json import shown

ALL_FOLDS = "all"
SEPARATOR = "__"
"""Between trainer, plans and configuration in the name of a model folder."""
_FOLD = re.compile(r"0|[1-9][0-9]{0,2}")
_DEVICE_NAME = re.compile(r"(?i)(con|conin\$|conout\$|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\..*)?")
_FORBIDDEN = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class _Rule:
    """Of one kind of name.

    Attributes
    ----------
    most_bytes : so that the longest file or folder name that holds it fits into a file system (255 bytes)
    part_of_model : it stands in the name of a model folder, where a double underscore separates
    """

    most_bytes: int
    part_of_model: bool = False


_RULES = {
    "plans": _Rule(80, part_of_model=True),
    "trainer": _Rule(80, part_of_model=True),
    "configuration": _Rule(80, part_of_model=True),
    "modality": _Rule(39, part_of_model=True),
    "planner": _Rule(80),
    "dataset": _Rule(160),
    "case": _Rule(180),
    "model": _Rule(244),
    "portable model": _Rule(80, part_of_model=True),
}


def check_path_name(kind: str, value: str, where: str) -> str:
    """Return a name that becomes a file or folder, if it can be one on every system and leads nowhere else.

    Parameters
    ----------
    kind : "plans", "trainer", "configuration", "modality", "planner", "dataset", "case", "model" (a model
        folder's) or "portable model" (what an export is called)
    value : the name
    where : the file and entry, or the option, that it comes from; the error begins with it

    Raises
    ------
    MMCCDError
        If it holds a separator or a control character, begins or ends with a full stop or a space, is longer than its kind
        may be, is the name of a device on Windows, or holds the separator of model folders where it stands in one.
    """
    problem = name_problem(kind, value)
    if problem is not None:
        raise MMCCDError(f"{where}: the name {shown(value)} {problem}; give a plain name of letters, digits, - and _.")
    return value


def name_problem(kind: str, value: str) -> str | None:
    """Describe what is wrong with a name, as the end of a sentence; None where it can be used.

    See :func:`check_path_name`.
    """
    rule = _RULES[kind]
    if not value.strip():
        return "is empty"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        return "holds control characters"
    wrong = sorted(_FORBIDDEN & set(value))
    if wrong:
        return f"holds {' '.join(wrong)}, so that it is no name of one folder"
    if value.startswith((".", " ")) or value.endswith((".", " ")):
        return "begins or ends with a full stop or a space"
    size = len(value.encode("utf-8"))
    if size > rule.most_bytes:
        return f"has {size} bytes, and a {kind} name may have {rule.most_bytes}"
    if _DEVICE_NAME.fullmatch(value):
        return "means a device on Windows"
    if rule.part_of_model and SEPARATOR in value:
        return f"holds {SEPARATOR}, which separates trainer, plans and configuration in the names of model folders"
    if kind in ("plans", "trainer") and value.endswith("_"):
        return "ends with _, which runs into the separator of model folders"
    return None


def check_fold(value: int | str, where: str) -> str:
    """Return a fold as text: "all", or a number in plain digits without a leading zero.

    Parameters
    ----------
    value : the fold
    where : the file and entry, or the option, that it comes from; the error begins with it

    Raises
    ------
    MMCCDError
        If it is neither.
    """
    fold = str(value)
    if not is_fold(fold):
        raise MMCCDError(f"{where}: {shown(fold)} is no fold: give 0, 1, 2, ... or {ALL_FOLDS}.")
    return fold


def is_fold(value: str) -> bool:
    """Check whether a text names a fold, see :func:`check_fold`."""
    return value == ALL_FOLDS or _FOLD.fullmatch(value) is not None


def _usable(kind: str):
    words = f"a {kind} name that can be a file's (no / or \\, no full stop first, at most {_RULES[kind].most_bytes} bytes"
    words += f", no {SEPARATOR})" if _RULES[kind].part_of_model else ")"
    return Annotated[str, Predicate(lambda value: name_problem(kind, value) is None), Expected(words)]


PlansName = _usable("plans")
TrainerName = _usable("trainer")
ConfigurationName = _usable("configuration")
ModalityName = _usable("modality")
DatasetName = _usable("dataset")
CaseName = _usable("case")
ModelName = _usable("model")
PortableName = _usable("portable model")
FoldName = Annotated[str, Predicate(is_fold), Expected(f'a fold: "0", "1", ... or "{ALL_FOLDS}"')]
