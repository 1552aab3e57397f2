"""Values and rows -> text for a terminal."""

import json
import textwrap
from collections.abc import Sequence

WIDTH = 96
"""Columns of a line of prose."""
MAX_VALUE = 24
"""Characters of a value in a table."""


def wrap(text: str) -> list[str]:
    """Break prose into lines of at most ``WIDTH`` columns; no word is broken."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def align(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Pad cells to columns, each to the left (``<``) or to the right (``>``)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def shorten(value: object) -> str:
    """Write a value as JSON, or a string as it is, cut to ``MAX_VALUE`` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."
