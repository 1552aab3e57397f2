"""What the settings of prepared data say of texts: what a network reads, which texts are equal."""

from collections.abc import Mapping
from typing import Any, Literal, cast

WORDS = "words"
CHARACTERS = "characters"
Cut = Literal["end", "middle"]
"""Values of ``prepare.cut``."""
END: Cut = "end"
MIDDLE: Cut = "middle"
DuplicateKey = Literal["exact", "template"]
"""Values of ``prepare.duplicate_key``."""
EXACT: DuplicateKey = "exact"
TEMPLATE: DuplicateKey = "template"


def find_unit(settings: Mapping[str, Any]) -> str:
    """Find the unit in the settings of prepared data or of a package, which leave out ``WORDS``."""
    return str(settings.get("unit", WORDS))


def find_cut(settings: Mapping[str, Any]) -> Cut:
    """Find how long texts are cut, in the same settings, which leave out ``END``."""
    return cast(Cut, settings.get("cut", END))


def find_duplicate_key(settings: Mapping[str, Any]) -> DuplicateKey:
    """Find by which key texts count as equal, in the settings of prepared data."""
    return cast(DuplicateKey, settings.get("duplicate_key", EXACT))
