"""Settings classes -> each setting with its default and meaning, described for people."""

from typing import Any, NamedTuple

import yaml

from sentiflow.config import faults

_LIKE_FORMAT = ("score.format", "prepare.unlabelled.format")
"""Sections that have the settings of ``format``, which are described only for ``format``."""


class Description(NamedTuple):
    """A setting, described for people."""

    key: str
    """The dotted key."""
    default: str
    """The default in YAML, or ``required``."""
    meaning: str
    """What the setting does, in one line."""


def describe() -> list[Description]:
    """Describe every setting.

    A setting that several kinds of a section have is listed once, with the default of the first
    kind and the meanings of all kinds. A section like ``format`` is listed as one setting.
    """
    defaults: dict[str, str] = {}
    meanings: dict[str, str] = {}
    in_like_format = tuple(f"{section}." for section in _LIKE_FORMAT)
    for path, field in faults.walk():
        key = ".".join(path)
        is_section = bool(faults.sections_in(field)) and key not in _LIKE_FORMAT
        if is_section or key.startswith(in_like_format):
            continue
        meaning = " ".join((field.description or "").split())
        if key not in defaults:
            defaults[key] = "required" if field.is_required() else _to_yaml(field.default)
            meanings[key] = meaning
        elif meaning not in meanings[key]:
            meanings[key] += f" {meaning}"
    return [Description(key, default, meanings[key]) for key, default in defaults.items()]


def _to_yaml(value: Any) -> str:
    """Write a value as YAML in one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True)
    return text.removesuffix("...\n").strip()  # YAML ends a single value with "..."
