"""How much may arrive: whoever sends is not trusted with this machine's disk, memory and time."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE, GIBIBYTE = 2**20, 2**30


@dataclass(frozen=True)
class Limits:
    """Bounds of what is taken from others.

    Attributes
    ----------
    instances : of one study
    instance_bytes : of one object
    study_bytes : of one study
    studies : that one pass looks at
    answer_bytes : of an answer to a search
    inbox_bytes : of all studies that were received and are not finished
    associations : at one time
    transfer_seconds : of one request or one association
    """

    instances: int = 5000
    instance_bytes: int = 512 * MEBIBYTE
    study_bytes: int = 4 * GIBIBYTE
    studies: int = 500
    answer_bytes: int = 64 * MEBIBYTE
    inbox_bytes: int = 64 * GIBIBYTE
    associations: int = 4
    transfer_seconds: float = 1800.0
