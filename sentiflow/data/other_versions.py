"""Manifest -> the version of sentiflow that made it; errors for formats that are not read.

Model packages of all formats up to this version's are read, other results only of its own format.
A result of another format is never changed, except that ``--overwrite`` replaces a result of an
earlier format.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Required

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sentiflow import __version__
from sentiflow.data.manifest_types import FORMAT_VERSION, Name
from sentiflow.errors import UserError

THIS = f"sentiflow {__version__}"
"""The name of this version in messages."""
_MODEL = "model"
"""The stage of a model package."""
_VERSION = re.compile(r"\d[\w.+!-]{0,30}", re.ASCII)
"""A version of a Python package."""
_COMMANDS = {
    _MODEL: "train",
    "prepare": "prepare",
    "train": "train",
    "score": "score",
    "evaluate": "evaluate",
    "trends": "trends",
    "sweep": "sweep",
}
"""The command that makes the output of a stage."""


class _ListedFile(TypedDict):
    """A file in the manifest of any format."""

    path: str


class _AnyFormat(TypedDict, total=False):
    """The keys that manifests of all formats have. Other keys are not looked at."""

    stage: Required[Name]
    format_version: Required[Annotated[int, Field(ge=1, le=1000)]]
    files: list[_ListedFile]
    versions: dict[str, Any]


@dataclass(frozen=True)
class OtherFormat:
    """A result in a format that this version does not read."""

    stage: str
    format_version: int
    maker: str
    """The version that made it, see :func:`name_maker`."""
    paths: frozenset[str]
    """Its files, as its manifest lists them. They are not checked."""

    @property
    def is_earlier(self) -> bool:
        """Say whether an earlier version made it. If not, a later one did."""
        return self.format_version < FORMAT_VERSION

    @property
    def problem(self) -> str:
        """Say why it is not read, after its location."""
        return (
            f"was made by {self.maker} in manifest format {self.format_version}, which {THIS} "
            "cannot read"
        )


class OtherFormatError(UserError):
    """A result is in the format of another version."""

    def __init__(self, path: str, found: OtherFormat) -> None:
        """Say which version made the result, and what to do.

        Args:
            path: Its manifest.
            found: The result.
        """
        super().__init__(f"{path} {found.problem}", hint=_advise(found))
        self.path = path
        self.found = found

    def __reduce__(self) -> tuple[type["OtherFormatError"], tuple[str, OtherFormat]]:
        return OtherFormatError, (self.path, self.found)  # it may come from a worker of Ray


def _advise(found: OtherFormat) -> str:
    """Say what to do about a result in the format of another version."""
    if not found.is_earlier:
        return "upgrade sentiflow, or choose another directory"
    command = "the command that made it"
    if found.stage in _COMMANDS:
        command = f"sentiflow {_COMMANDS[found.stage]} CONFIG"
    return f"{command} makes it again, with another output_uri or with --overwrite"


def find(content: bytes) -> OtherFormat | None:
    """Find out whether a manifest is in a format that is not read; if not, return None.

    Args:
        content: The content of a manifest, or of any file.
    """
    try:
        record = _validator().validate_json(content, strict=True)
    except ValidationError:
        return None
    format_version = record["format_version"]
    is_earlier_package = record["stage"] == _MODEL and format_version < FORMAT_VERSION
    if is_earlier_package or format_version == FORMAT_VERSION:
        return None
    return OtherFormat(
        stage=record["stage"],
        format_version=format_version,
        maker=name_maker(record),
        paths=frozenset(item["path"] for item in record.get("files", [])),
    )


@functools.cache
def _validator() -> TypeAdapter[_AnyFormat]:
    """Make the validator when the first manifest of another format is read."""
    return TypeAdapter(_AnyFormat)


def name_maker(record: Mapping[str, Any]) -> str:
    """Name the version that made a result.

    Example:
        >>> name_maker({"versions": {"sentiflow": "0.1.0"}}), name_maker({})
        ('sentiflow 0.1.0', 'an earlier version of sentiflow')
    """
    version = record.get("versions", {}).get("sentiflow")
    if isinstance(version, str) and _VERSION.fullmatch(version):
        return f"sentiflow {version}"
    return "an earlier version of sentiflow"


def compare(record: Mapping[str, Any]) -> str:
    """Say which version made a result, if it is not this one; otherwise return an empty text."""
    maker = name_maker(record)
    return "" if maker == THIS else f"made by {maker}, this is {THIS}"


def explain(record: Mapping[str, Any]) -> str:
    """Say why a result may lack something: another version made it, or it is damaged."""
    difference = compare(record)
    return f"it was {difference}" if difference else "it is damaged"
