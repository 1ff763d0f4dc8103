"""Weights as safetensors: a header in JSON, then plain numbers; nothing in such a file can run as code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Len
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.records import dataclass_from_json
from mmccd_auto.core.strict_json import parse_json, shown

LENGTH_BYTES = 8
LARGEST_HEADER = 16 * 2**20
METADATA = "__metadata__"
OUR_METADATA = {"format": "pt"}
REMEDY = "ask for the file again"
_KINDS = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class TensorEntry:
    """What the header says of one tensor.

    Attributes
    ----------
    dtype : "F32", as safetensors names kinds of numbers
    shape : edges
    data_offsets : first byte and the one after the last, behind the header
    """

    dtype: str
    shape: Annotated[tuple[Annotated[int, Ge(0)], ...], Len(0, 8)]
    data_offsets: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)]]


def save_weights(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Write tensors by name, atomically; equal weights give equal files.

    Raises
    ------
    MMCCDError
        If a tensor holds no floating-point numbers, or the file can't be written.
    """
    from safetensors.torch import save

    others = [name for name, value in weights.items() if value.dtype not in _KINDS]
    if others:
        raise MMCCDError(f"{path}: {others[0]} holds {weights[others[0]].dtype} numbers, not floating-point ones.")
    content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()}, OUR_METADATA)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a network into the CPU's memory.

    Parameters
    ----------
    path : of the file
    expected : the network's own tensors, of which names, shapes and kinds of numbers count (they may be on "meta")

    Raises
    ------
    MMCCDError
        If the file is missing, isn't safetensors, holds other tensors than ``expected``, or NaN or infinity.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    check_header(path, expected)
    try:
        weights = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise MMCCDError(f"{path} is damaged ({error}): {REMEDY}.") from error
    bad = next((name for name, value in weights.items() if not bool(torch.isfinite(value).all())), None)
    if bad is not None:
        raise MMCCDError(f"{path}: {bad} holds NaN or infinite numbers: {REMEDY}.")
    return weights


def check_header(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Compare a file's header with a network, before any memory is taken for the numbers.

    Parameters and errors as for :func:`load_weights`.
    """
    entries, begin = read_header(path)
    missing, unknown = sorted(set(expected) - set(entries)), sorted(set(entries) - set(expected))
    if missing or unknown:
        told = f"lacks {shown(missing[0])}" if missing else f"holds {shown(unknown[0])}"
        raise MMCCDError(f"{path} {told}, unlike the networks of its plan: {REMEDY}.")
    for name, entry in entries.items():
        shape, kind = tuple(expected[name].shape), _KINDS[expected[name].dtype]
        if entry.dtype != kind:
            raise MMCCDError(f"{path}: {name} holds numbers of the kind {shown(entry.dtype)}, and must be {kind}: {REMEDY}.")
        if entry.shape != shape:
            raise MMCCDError(f"{path}: {name} has the shape {entry.shape}, and by its plan {shape}: {REMEDY}.")
    place = 0
    for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
        size = math.prod(entry.shape) * expected[name].element_size()
        if entry.data_offsets != (place, place + size):
            raise MMCCDError(f"{path}: its header leaves gaps or counts bytes twice: {REMEDY}.")
        place += size
    if path.stat().st_size != begin + place:
        raise MMCCDError(f"{path} has {path.stat().st_size} bytes, and by its header {begin + place}: {REMEDY}.")


def read_header(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """Read the header of a safetensors file.

    Returns
    -------
    the tensors by name; where the numbers begin, bytes

    Raises
    ------
    MMCCDError
        If the file is missing or its header isn't one.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if not 2 <= length <= LARGEST_HEADER:
                raise MMCCDError(f"{path} is no safetensors file (a header of {length} bytes): {REMEDY}.")
            text = file.read(length)
    except OSError as error:
        raise MMCCDError(f"{path} can't be read ({error.strerror or error}): {REMEDY}.") from error
    if len(text) < length:
        raise MMCCDError(f"{path} ends within its header: {REMEDY}.")
    source = f"{path}, header"
    content = parse_json(text, source)
    if not isinstance(content, dict):
        raise MMCCDError(f"{source} is no object: {REMEDY}.")
    if content.pop(METADATA, OUR_METADATA) != OUR_METADATA:
        raise MMCCDError(f"{source}: {METADATA} holds more than the format: {REMEDY}.")
    return dataclass_from_json(dict[str, TensorEntry], content, source, REMEDY), LENGTH_BYTES + length
