"""Normal noise that depends on a key and a draw number only: not on the batch, the order of work or the device.

Each number is computed from a counter by the SplitMix64 mixing function (Steele, Lea and Flood, 2014) and the Box-Muller
transform, in torch operations that every device has. Integers wrap around at 64 bits.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_BITS_64 = (1 << 64) - 1
_BITS_32 = (1 << 32) - 1


def combine_keys(*parts: int | str) -> int:
    """Compute one key (signed, 64 bits) of several numbers or names, such as seed, case, slice and strip.

    The order matters, and the same parts give the same key on every machine and in every run.
    """
    key = len(parts)
    for part in parts:
        value = _text_key(part) if isinstance(part, str) else int(part)
        key = _mix_int((key + _GOLDEN) ^ _mix_int(value + _GOLDEN))
    return _signed(key)


def standard_normal(keys: Tensor, draw: int, shape: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """Compute independent N(0, 1) numbers per key: float32 [N, 1, H, W].

    The same key, draw and shape give the same numbers whatever else is in the batch; on another device they agree up to the
    rounding of float32 functions.

    Parameters
    ----------
    keys : int64 [N], see :func:`combine_keys`
    draw : number of the draw; different draws of one key are independent
    shape : (rows, columns)
    device : of the result; None takes that of ``keys``
    """
    device = keys.device if device is None else torch.device(device)
    height, width = shape
    pairs = (height * width + 1) // 2
    streams = _mix(_mix(keys.to(device, torch.int64) + _signed(_GOLDEN)) ^ combine_keys(draw))
    counters = torch.arange(1, pairs + 1, device=device) * _signed(_GOLDEN)
    bits = _mix(streams[:, None] + counters[None, :])
    radius = (_unit_interval(_shift_right(bits, 32)).log() * -2).sqrt()
    angle = _unit_interval(bits & _BITS_32) * (2 * math.pi)
    normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return normal[:, : height * width].reshape(-1, 1, height, width)


def _mix(bits: Tensor) -> Tensor:
    """Compute SplitMix64's mixing of int64 values, element by element."""
    bits = (bits ^ _shift_right(bits, _SHIFTS[0])) * _signed(_MULTIPLIERS[0])
    bits = (bits ^ _shift_right(bits, _SHIFTS[1])) * _signed(_MULTIPLIERS[1])
    return bits ^ _shift_right(bits, _SHIFTS[2])


def _mix_int(value: int) -> int:
    """Compute the same mixing of one Python integer, to an unsigned 64-bit number."""
    value &= _BITS_64
    value = ((value ^ (value >> _SHIFTS[0])) * _MULTIPLIERS[0]) & _BITS_64
    value = ((value ^ (value >> _SHIFTS[1])) * _MULTIPLIERS[1]) & _BITS_64
    return value ^ (value >> _SHIFTS[2])


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Compute the logical shift: torch's own shift of int64 carries the sign along, so its bits are masked out."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _unit_interval(bits: Tensor) -> Tensor:
    """Compute 32-bit integers as float32 in (0, 1]."""
    return (bits.to(torch.float32) + 0.5) * 2.0**-32


def _signed(value: int) -> int:
    """Compute the signed 64-bit integer with the bits of an unsigned one."""
    value &= _BITS_64
    return value - (1 << 64) if value >> 63 else value


def _text_key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")
