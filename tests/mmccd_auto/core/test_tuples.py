"""Tuples of known length, and what is no such tuple."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.core.tuples import pair, triple


def test_values_come_in_their_order() -> None:
    assert pair(edge for edge in (3, 4)) == (3, 4)
    assert triple(np.array([0.5, 1.0, 2.0])) == (0.5, 1.0, 2.0)


@pytest.mark.parametrize("values", [[], [1], [1, 2, 3, 4]])
def test_another_number_of_values_is_refused(values: list[int]) -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        pair(values)
    with pytest.raises(ValueError, match="values to unpack"):
        triple(values)
