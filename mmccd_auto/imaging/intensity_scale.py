"""The scale of normalised intensities: its ends, which every stage knows."""

from __future__ import annotations

BACKGROUND = -3.0
UPPER_LIMIT = 15.0
