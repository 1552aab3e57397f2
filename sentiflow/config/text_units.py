"""What a network reads of a text, as the settings have it: which units, and how many."""

from collections.abc import Mapping
from typing import Any, Literal, cast

WORDS = "words"
CHARACTERS = "characters"
Cut = Literal["end", "middle"]
"""Values of ``prepare.cut``."""
END: Cut = "end"
MIDDLE: Cut = "middle"


def find_unit(settings: Mapping[str, Any]) -> str:
    """Find the unit in the settings of prepared data or of a package, which leave out ``WORDS``."""
    return str(settings.get("unit", WORDS))


def find_cut(settings: Mapping[str, Any]) -> Cut:
    """Find how long texts are cut, in the same settings, which leave out ``END``."""
    return cast(Cut, settings.get("cut", END))
