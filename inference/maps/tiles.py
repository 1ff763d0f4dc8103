"""Tiles that cover slices larger than the network's patch."""

from __future__ import annotations


def tile_corners(shape: tuple[int, int], patch_size: tuple[int, int]) -> list[tuple[int, int]]:
    """List the upper left corners (row, column) of patch-sized tiles that cover a slice.

    Neighbouring tiles overlap by at least one half, and are spread evenly so that the last one ends at the slice's edge.
    A slice as large as the patch is one tile.

    Raises
    ------
    ValueError
        If the slice is smaller than the patch (preprocessing pads to at least the patch).
    """
    if any(edge < patch for edge, patch in zip(shape, patch_size, strict=True)):
        raise ValueError(f"a slice of {shape} px is smaller than the patch of {patch_size} px")
    rows, columns = (_starts(edge, patch) for edge, patch in zip(shape, patch_size, strict=True))
    return [(row, column) for row in rows for column in columns]


def _starts(edge: int, patch: int) -> list[int]:
    free = edge - patch
    count = -(-free // max(1, patch // 2))
    return [round(free * index / count) for index in range(count + 1)] if count else [0]
