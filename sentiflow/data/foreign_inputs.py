"""Inputs in a manifest -> the ones in other stores are marked, so that no reader opens them.

A manifest may come from a stranger. Whoever opens the locations in it sends requests, signed with
the user's keys, wherever the stranger wants.
"""

from collections.abc import Collection
from typing import Any, cast

from sentiflow.data.manifest_types import Manifest
from sentiflow.storage.stores import ForeignUri
from sentiflow.storage.uris import names_model, shares_store

_KEYS = ("inputs", "models", "refit", "taught")
"""Keys of a manifest that name directories. Files of inputs are named, too, but never opened."""


def mark(record: Manifest, directories: Collection[str]) -> None:
    """Replace locations by :class:`ForeignUri`, unless they are in the store of a directory.

    A model in MLflow is not replaced: the user's own server is asked for it.

    Args:
        record: A manifest. It is changed.
        directories: The directory of the manifest; further ones that the user has named.
    """
    for key in _KEYS:
        _mark(cast(Any, record).get(key), directories)


def _mark(value: Any, directories: Collection[str]) -> None:
    """Replace the locations in a value of a manifest."""
    if isinstance(value, list):
        for item in value:
            _mark(item, directories)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name == "uri" and isinstance(item, str):
            if not names_model(item) and not _is_near(item, directories):
                value[name] = ForeignUri(item)
        elif name not in ("files", "settings"):
            _mark(item, directories)


def _is_near(uri: str, directories: Collection[str]) -> bool:
    """Say whether a location is in the store of one of the directories."""
    return any(shares_store(uri, directory) for directory in directories)
