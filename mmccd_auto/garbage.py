"""Python's garbage collector, for work that leaves large cycles behind (matplotlib's figures)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_what_is_new() -> Iterator[None]:
    """Within this, ``gc.collect()`` looks only at what was made since: hundredths of a second instead of tenths.

    The libraries alone are hundreds of thousands of objects. All that existed before is set aside, in cycles or not, until
    the end.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
