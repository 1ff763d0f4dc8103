"""The one door for JSON: files and texts are read against a schema, which is a dataclass with constraints on its entries.

A schema is a frozen dataclass, or a list, tuple or dict of such. Its annotations carry the constraints
(``Annotated[int, Interval(ge=1)]``), pydantic checks them, and every fault becomes one sentence.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MaxLen, MinLen

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import LARGEST_BYTES, parse_json, read_json_bytes, shown

# pydantic takes 0.1 s to be imported, which --help needn't wait for.
if TYPE_CHECKING:
    from pydantic import ConfigDict
    from pydantic_core import ErrorDetails
    from typing_extensions import TypeForm

Kind = TypeVar("Kind")
STRICT: ConfigDict = {"strict": True, "extra": "forbid", "allow_inf_nan": False}
OTHERS_ALLOWED: ConfigDict = {**STRICT, "extra": "ignore"}
"""As ``__pydantic_config__`` of a dataclass: entries that it doesn't name are passed over."""
JsonObject = dict[str, Any]
_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Any: "a value"}


@dataclasses.dataclass(frozen=True)
class Expected:
    """Beside the constraints of an annotation: what belongs there, in the words that an error gives ("give ...")."""

    words: str


def read_record(kind: TypeForm[Kind], path: str | Path, remedy: str = "", largest: int = LARGEST_BYTES) -> Kind:
    """Read a JSON file.

    Parameters
    ----------
    kind : schema
    path : of the file
    remedy : what to do where the file isn't as it should be ("run mmccd_calibrate again"), for files that nobody edits; else
        the error says what the entry may be
    largest : bytes

    Raises
    ------
    MMCCDError
        If it is missing, isn't JSON, or doesn't fit the schema; the message names the file and the entry.
    """
    return record_from_text(kind, read_json_bytes(path, largest), str(path), remedy)


def read_content(kind: Any, path: str | Path, remedy: str = "", largest: int = LARGEST_BYTES) -> Any:
    """Read a JSON file as :func:`read_record` does, and give its content as JSON holds it."""
    content = parse_json(read_json_bytes(path, largest), str(path))
    dataclass_from_json(kind, content, str(path), remedy)
    return content


def record_from_text(kind: TypeForm[Kind], text: str | bytes, source: str, remedy: str = "") -> Kind:
    """Build a schema's object from a JSON text; parameters and errors as for :func:`read_record`."""
    return dataclass_from_json(kind, parse_json(text, source), source, remedy)


def dataclass_from_json(kind: TypeForm[Kind], content: Any, source: str, remedy: str = "") -> Kind:
    """Build a schema's object from JSON content.

    Parameters
    ----------
    kind, remedy : as for :func:`read_record`
    content : what JSON held
    source : file name for errors

    Raises
    ------
    MMCCDError
        If an entry is missing, unknown, of another type or out of range, or the object itself refuses its entries.
    """
    from pydantic import ValidationError

    # A TypeForm can be hashed, though mypy doesn't know it.
    schema: Any = kind
    try:
        # As JSON, because strictness there still takes a list for a tuple and 1 for 1.0.
        return _adapter(schema).validate_json(json.dumps([content]))[0]
    except ValidationError as error:
        raise MMCCDError(f"{source}: {_sentence(kind, error.errors(include_url=False), remedy)}.") from error
    except MMCCDError as error:
        told = f"{str(error).rstrip('.')}: {remedy}." if remedy else str(error)
        raise MMCCDError(f"{source}: {told}") from error
    except RecursionError as error:
        raise MMCCDError(f"{source} is nested too deeply: restore the file, or make it again.") from error


@lru_cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    # In a tuple, because a configuration can't be given beside a dataclass.
    return TypeAdapter(tuple[kind], config=STRICT)


def _sentence(kind: Any, errors: list[ErrorDetails], remedy: str) -> str:
    """Return the first error; an entry with a wrong name before the one that is missing for that reason."""
    error = next((one for one in errors if one["type"] == "unexpected_keyword_argument"), errors[0])
    place = error["loc"][1:]
    if error["type"] == "json_invalid":
        return f"it can't be used ({error['msg']}): {remedy or 'restore the file, or make it again'}"
    if error["type"] == "unexpected_keyword_argument":
        parent = _without_constraints(_hint_at(kind, place[:-1]))[0]
        known = ", ".join(field.name for field in dataclasses.fields(parent))
        return f"unknown entry {_path(place)}; known are {known}" + (f": {remedy}" if remedy else "")
    if not place and error["type"] != "missing":
        return f"it must be {_words(kind)}, not {shown(error['input'])}" + (f": {remedy}" if remedy else "")
    wrong_key = bool(place) and place[-1] == "[key]"
    expected = _key_words(kind, place[:-1]) if wrong_key else _words(_hint_at(kind, place))
    if error["type"] == "missing":
        return f"the entry {_path(place)} is missing: {remedy or f'give {expected}'}"
    where = f"the name {_path(place[:-1])}" if wrong_key else f"{_path(place)} is {shown(error['input'])}"
    if wrong_key:
        return f"{where} can't be used: {remedy or f'give {expected}'}"
    return f"{where}, but must be {expected}: {remedy}" if remedy else f"{where}: give {expected}"


def _path(place: tuple[str | int, ...]) -> str:
    """Write a path as training.batch_size, subjects[0].slices."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:200]


def _hint_at(kind: Any, place: tuple[str | int, ...]) -> Any:
    """Return the annotation of the entry at ``place``."""
    for part in place:
        kind, _ = _without_constraints(kind)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind, include_extras=True).get(str(part), Any)
        elif origin is dict:
            kind = arguments[1]
        elif origin in (tuple, list) and isinstance(part, int):
            kind = arguments[part] if origin is tuple and Ellipsis not in arguments else arguments[0]
        else:
            return Any
    return kind


def _without_constraints(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a hint without ``| None`` and ``Annotated``, and the constraints of the latter."""
    constraints: tuple[Any, ...] = ()
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            constraints += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
            hint = next(one for one in typing.get_args(hint) if one is not type(None))
        else:
            return hint, constraints


def _key_words(kind: Any, place: tuple[str | int, ...]) -> str:
    hint, _ = _without_constraints(_hint_at(kind, place[:-1]))
    return _words(typing.get_args(hint)[0])


def _words(hint: Any) -> str:
    """Describe what belongs into an entry: "a whole number from 1 to 4096"."""
    inner, constraints = _without_constraints(hint)
    own = [one.words for one in constraints if isinstance(one, Expected)]
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    null = " or null" if _may_be_null(hint) else ""
    if own:
        return own[0] + null
    if origin is Literal:
        return " or ".join(shown(one) for one in arguments) + null
    if dataclasses.is_dataclass(inner):
        return f"an object with {', '.join(field.name for field in dataclasses.fields(inner))}{null}"
    if inner == JsonObject:
        return f"an object{null}"
    if origin is dict:
        return f"an object of names (each with {_words(arguments[1])}){null}"
    if origin in (tuple, list):
        number = _length(constraints) if origin is list or Ellipsis in arguments else f" of {len(arguments)}"
        return f"a list{number} (each {_words(arguments[0])}){null}"
    return f"{_PLAIN.get(inner, 'another value')}{_range(constraints)}{null}"


def _may_be_null(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return _may_be_null(hint.__origin__)
    return type(None) in typing.get_args(hint)


def _range(constraints: tuple[Any, ...]) -> str:
    parts = [part for one in constraints for part in (one if isinstance(one, Interval) else (one,))]
    bounds = {type(part): shown(dataclasses.astuple(part)[0]) for part in parts if isinstance(part, (Ge, Gt, Le, Lt))}
    if Ge in bounds and Le in bounds:
        return f" from {bounds[Ge]} to {bounds[Le]}"
    words = {Ge: "of at least", Gt: "above", Le: "of at most", Lt: "below"}
    told = [f"{text} {bounds[kind]}" for kind, text in words.items() if kind in bounds]
    return f" {' and '.join(told)}" if told else ""


def _length(constraints: tuple[Any, ...]) -> str:
    for one in constraints:
        parts = list(one) if isinstance(one, Len) else [one]
        least = next((part.min_length for part in parts if isinstance(part, MinLen)), None)
        most = next((part.max_length for part in parts if isinstance(part, MaxLen)), None)
        if least is not None or most is not None:
            if most is None:
                return f" of at least {least}"
            return f" of {most}" if least == most else f" of {least} to {most}" if least else f" of at most {most}"
    return ""
