"""The content of a manifest -> the manifest, checked: it may come from a stranger."""

import functools
import re
from collections.abc import Collection

from pydantic import TypeAdapter, ValidationError

from sentiflow.data import foreign_inputs, json_faults, other_versions
from sentiflow.data.manifest_types import FORMAT_VERSION, Manifest
from sentiflow.data.other_versions import OtherFormatError
from sentiflow.data.prediction_keys import Predictions
from sentiflow.errors import UserError, shorten
from sentiflow.storage.uris import is_inside

MAX_BYTES = 1 << 27
"""Maximum size of a manifest: it has about 200 bytes for each file."""
_HIDDEN = re.compile(r"(?:^|/)[._]")
"""The beginning of a name that no file of a result has; folders of unfinished work have one."""


def parse(content: bytes, path: str, *, directories: Collection[str]) -> Manifest:
    """Read the content of the manifest ``path``, and check it.

    Args:
        content: The content.
        path: The manifest, for messages.
        directories: Its inputs may be in the stores of these, see :func:`foreign_inputs.mark`.

    Raises:
        OtherFormatError: Another version made it in another format.
        UserError: It is of another program, damaged or too large, or it lists a file twice or
            outside of its directory.
    """
    if len(content) > MAX_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="it is no manifest of a result"
        )
    try:
        record = _validator().validate_json(content, strict=True)
    except ValidationError as error:
        other = other_versions.find(content)
        if other:
            raise OtherFormatError(path, other) from error
        raise UserError(
            f"{path} is not a manifest of sentiflow: {json_faults.find_first(error)}",
            hint="it is damaged, or of another program: choose another directory",
        ) from error
    if record["format_version"] != FORMAT_VERSION:
        other = other_versions.find(content)
        if other:
            raise OtherFormatError(path, other)
    _check_paths(record, path)
    foreign_inputs.mark(record, directories)
    return record


def _check_paths(record: Manifest, path: str) -> None:
    """Check that the files of a manifest are below its directory, not hidden, and listed once.

    Raises:
        UserError: A file is not.
    """
    listed = set()
    for item in record["files"]:
        fault = ""
        if not is_inside(item["path"]):
            fault = "which is no path below its directory"
        elif _HIDDEN.search(item["path"]):
            fault = "and no file of a result has a name that begins with . or _"
        elif item["path"] in listed:
            fault = "and lists it again"
        if fault:
            raise UserError(
                f"{path} lists {shorten(ascii(item['path']), 80)}, {fault}",
                hint="do not use this directory: its manifest was changed by hand",
            )
        listed.add(item["path"])


@functools.cache
def _validator() -> TypeAdapter[Manifest]:
    """Make the validator when the first manifest is read: it takes a while."""
    return TypeAdapter(Manifest)


def check_predictions(record: Manifest, place: str, way_out: str) -> None:
    """Check the keys that only manifests of predictions have.

    Args:
        record: The manifest.
        place: The setting and the manifest, for messages.
        way_out: What to do, for hints.

    Raises:
        UserError: One is missing, or has a wrong value.
    """
    try:
        _predictions_validator().validate_python(record, strict=True)
    except ValidationError as error:
        fault = json_faults.find_first(error)
        problem = f"has no {fault.key}" if fault.is_missing else f"has {fault}"
        raise UserError(
            f"{place} {problem}", hint=f"{other_versions.explain(record)}; {way_out}"
        ) from error


@functools.cache
def _predictions_validator() -> TypeAdapter[Predictions]:
    """Make the validator when the first predictions are read."""
    return TypeAdapter(Predictions)
