"""Texts from outside on pictures: names of cases in any script, and signs that matplotlib would read as formulas."""

from __future__ import annotations

from functools import cache

from matplotlib import font_manager

STAND_IN = "\N{WHITE SQUARE}"


def drawable(text: str) -> str:
    """Give a text as matplotlib can draw it.

    Letters that the font lacks become a white square (the file's name has them), and a dollar sign is one, not the beginning
    of a formula.

    Parameters
    ----------
    text : a case's name, or a sentence that quotes one
    """
    shown = "".join(letter if letter.isspace() or _is_in_font(letter) else STAND_IN for letter in text)
    return shown.replace("$", r"\$")


@cache
def _is_in_font(letter: str) -> bool:
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return font.get_char_index(ord(letter)) != 0
