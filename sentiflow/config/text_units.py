"""Names of the units that a network reads, as the settings have them."""

from collections.abc import Mapping
from typing import Any

WORDS = "words"
CHARACTERS = "characters"


def find_unit(settings: Mapping[str, Any]) -> str:
    """Find the unit in the settings of prepared data or of a package, which leave out ``WORDS``."""
    return str(settings.get("unit", WORDS))
