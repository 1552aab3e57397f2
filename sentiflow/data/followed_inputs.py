"""Input that a manifest names -> the manifest of the input, if it can be read.

How a result came about is good to know, but no job needs it: an input that cannot be read counts as
gone, and a line says why.
"""

import functools
import logging
from collections.abc import Mapping
from typing import Any

from sentiflow.data import manifest, other_versions
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.storage import errors

log = logging.getLogger(__name__)


def read_checked_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of an input as :func:`manifest.read_input` does, and check what it names.

    Raises:
        OSError: The storage refuses or fails.
        UserError: It is in another store than the manifest that names it, or it is damaged.
    """
    record = manifest.read_input(inputs, name)
    if record is not None and not _names_its_inputs(record):
        raise UserError(
            f"the manifest in {inputs[name]['uri']} does not name its inputs",
            hint=f"{other_versions.explain(record)}; run its stages again",
        )
    return record


def _names_its_inputs(record: Manifest) -> bool:
    """Say whether a training names its data, and prepared data their files."""
    inputs = record["inputs"]
    if record["stage"] == "train":
        return "uri" in inputs.get("prepared", {})
    if record["stage"] == "prepare":
        splits_of_files = record["settings"].get("fixed_files", [])
        return "files" in inputs.get("csv", {}) and isinstance(splits_of_files, list)
    return True


def follow(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of an input as :func:`read_checked_input` does; None if that fails.

    A line says why, once in a process.
    """
    try:
        return read_checked_input(inputs, name)
    except (OSError, UserError) as error:
        _tell(errors.describe(error))
        return None


def follow_directory(uri: str, *, stage: str = "") -> Manifest | None:
    """Read the manifest of a directory that another manifest names, as :func:`follow` does."""
    try:
        return manifest.read(uri, stage=stage)
    except (OSError, UserError) as error:
        _tell(errors.describe(error))
        return None


@functools.lru_cache(maxsize=1000)
def _tell(reason: str) -> None:
    """Say that an input is not read, but not again: many figures of a page may need it."""
    log.warning("an input counts as gone: %s", reason)
