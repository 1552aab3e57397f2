"""What a network reads of a text, as the settings have it: which units, and how many.

A unit is one entry of the sequence that the network reads: a token, or a character of a word.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

Unit = Literal["words", "characters"]
"""Values of ``prepare.unit``. They also name the entries of a vocabulary: ``2,261 words``."""
WORDS: Unit = "words"
CHARACTERS: Unit = "characters"
Cut = Literal["end", "middle"]
"""Values of ``prepare.cut``."""
END: Cut = "end"
MIDDLE: Cut = "middle"


def find_unit(settings: Mapping[str, Any]) -> Unit:
    """Find the unit in the settings of prepared data or of a package, which leave out ``WORDS``."""
    return cast(Unit, settings.get("unit", WORDS))


def name_unit(unit: Unit) -> str:
    """Name a unit of a text, as lines and pages do; an "s" makes it plural.

    The entries of a vocabulary are called words, the units of a text tokens: some are marks.

    Example:
        >>> name_unit(WORDS), name_unit(CHARACTERS)
        ('token', 'character')
    """
    return "token" if unit == WORDS else "character"


def find_cut(settings: Mapping[str, Any]) -> Cut:
    """Find how long texts are cut, in the same settings, which leave out ``END``."""
    return cast(Cut, settings.get("cut", END))
