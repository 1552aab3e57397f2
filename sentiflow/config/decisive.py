"""Section of the settings -> the settings by which results are compared.

They are in the fingerprint of a result. A setting that a later version adds, with the mark
``ADDED``, is left out at its default: the result is the same as without the setting, so a result
of an earlier version stays complete.
"""

from collections.abc import Collection
from typing import Any, Literal

from sentiflow.config.types import ADDED, Settings


def dump(
    settings: Settings,
    *,
    exclude: Collection[str] = (),
    mode: Literal["python", "json"] = "python",
    only_given: bool = False,
) -> dict[str, Any]:
    """Return the settings of a section that decide a result.

    Args:
        settings: The section.
        exclude: Its settings that do not decide the result, or are compared in another way.
        mode: ``json``: tuples become lists.
        only_given: Only settings that the config names.
    """
    dumped = settings.model_dump(mode=mode, exclude={*exclude}, exclude_unset=only_given)
    _leave_out_added(settings, dumped)
    return dumped


def _leave_out_added(settings: Settings, dumped: dict[str, Any]) -> None:
    """Remove added settings that have their default, in the section and in its sections."""
    for name, field in type(settings).model_fields.items():
        if name not in dumped:
            continue
        value = getattr(settings, name)
        if ADDED in field.metadata and value == field.default:
            del dumped[name]
        elif isinstance(value, Settings):
            _leave_out_added(value, dumped[name])
