"""Damaged and hostile files, made from good ones by seeded chance."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

# NIfTI-1: place and format of the entries that decide what a reader does.
NIFTI_ENTRIES = {
    "sizeof_hdr": (0, "<i"),
    "dim[0]": (40, "<h"),
    "dim[1]": (42, "<h"),
    "dim[2]": (44, "<h"),
    "dim[3]": (46, "<h"),
    "dim[4]": (48, "<h"),
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    "pixdim[0]": (76, "<f"),
    "pixdim[1]": (80, "<f"),
    "pixdim[3]": (88, "<f"),
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    "srow_x[0]": (280, "<f"),
    "srow_y[3]": (300, "<f"),
    "srow_z[2]": (320, "<f"),
}
INTEGERS = (0, 1, -1, 7, 8, 32767, -32768)
REALS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), 1000.0)
OTHER_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**9, 10**400, 1e308, float("nan"), float("inf"), "", "x", "../../elsewhere", "x" * 5000),
    *([], {}, [[]], [None], {"": None}, "\u0000", "\ud800", -0.5),
)


def damaged_nifti(good: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damage a NIfTI file (unpacked); what was done, and the bytes of a .nii.gz file."""
    kind = chance.choice(("entry", "entry", "entry", "bytes", "cut", "cut packed", "packed bytes", "other"))
    content = bytearray(good)
    if kind == "entry":
        name, (place, form) = chance.choice(list(NIFTI_ENTRIES.items()))
        value = chance.choice(REALS if form == "<f" else INTEGERS)
        struct.pack_into(form, content, place, value)
        return f"{name} = {value}", gzip.compress(bytes(content), 1)
    if kind == "bytes":
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(348)] = chance.randrange(256)
        return "bytes of the header", gzip.compress(bytes(content), 1)
    if kind == "cut":
        return "cut off", gzip.compress(bytes(content[: chance.randrange(len(content))]), 1)
    packed = bytearray(gzip.compress(bytes(content), 1))
    if kind == "cut packed":
        return "packed file cut off", bytes(packed[: chance.randrange(len(packed))])
    if kind == "packed bytes":
        for _ in range(chance.randint(1, 5)):
            packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
        return "bytes of the packed file", bytes(packed)
    other = chance.choice((b"", b"\x1f\x8b", b"not a scan", bytes(1000), gzip.compress(b""), json.dumps({}).encode()))
    return "something else", other


def damaged_bytes(good: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damage any file: flip, cut, insert or repeat bytes."""
    content = bytearray(good)
    kind = chance.choice(("flip", "cut", "insert", "zeros"))
    place = chance.randrange(len(content))
    if kind == "flip":
        for _ in range(chance.randint(1, 50)):
            content[chance.randrange(min(len(content), 4000))] = chance.randrange(256)
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = chance.randbytes(chance.randint(1, 300))
    else:
        content[place : place + 500] = bytes(len(content[place : place + 500]))
    return kind, bytes(content)


def damaged_json(text: str, chance: random.Random) -> tuple[str, str]:
    """Damage a JSON text: another value, a missing or added entry at any depth, or another text."""
    kind = chance.choice(("value", "value", "value", "missing", "added", "text"))
    if kind == "text":
        place = chance.randrange(max(1, len(text)))
        return chance.choice(
            (
                ("cut off", text[:place]),
                ("nothing", ""),
                ("deep", "[" * 100_000),
                ("a list", "[1, 2]"),
                ("a number", "5"),
                ("null", "null"),
                ("many digits", "1" * 10_000),
                ("twice", text + text),
            )
        )
    content = json.loads(text)
    places = list(_places(content))
    path = chance.choice(places)
    holder = content
    for name in path[:-1]:
        holder = holder[name]
    if kind == "missing":
        del holder[path[-1]]
    elif kind == "added" and isinstance(holder, dict):
        holder["another"] = chance.choice(OTHER_VALUES)
    else:
        holder[path[-1]] = chance.choice(OTHER_VALUES)
    return f"{kind} at {'/'.join(map(str, path))}", json.dumps(content)


def _places(content: Any, path: tuple = ()) -> list[tuple]:
    """Paths of entries; of a long list the first few."""
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, list):
        items = list(enumerate(content))[:3]
    else:
        return []
    return [place for name, value in items for place in ((*path, name), *_places(value, (*path, name)))]


def odd_things(folder: Path) -> list[str]:
    """Put what is no file, or none that can be read, into a folder of scans."""
    names = ["pipe_0000.nii.gz", "loop_0000.nii.gz", "broken_0000.nii.gz", "folder_0000.nii.gz", "device_0000.nii.gz"]
    os.mkfifo(folder / names[0])
    (folder / names[1]).symlink_to(names[1])
    (folder / names[2]).symlink_to("nowhere.nii.gz")
    (folder / names[3]).mkdir()
    (folder / names[4]).symlink_to("/dev/zero")
    return names


Damage = Callable[[bytes, random.Random], tuple[str, bytes]]
