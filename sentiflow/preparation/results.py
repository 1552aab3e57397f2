"""Results of the tasks of preparation, kept as JSON in completion markers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from sentiflow.data.manifest_types import DuplicateCounts, FileEntry

LabelCounts = dict[str, dict[str, int]]
"""Rows by split and label name; ``unlabelled`` counts rows without a label."""
TokenCounts = dict[str, dict[str, int]]
"""By split: ``tokens``, and those ``unknown`` to the vocabulary."""


@dataclass(frozen=True)
class WrittenTable:
    """A table that a task has written to ``_work``."""

    rows: int


@dataclass(frozen=True)
class IngestedPart:
    """A part that was read, checked, split and tokenized."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    left_out: int
    """Rows that ``prepare.every_nth`` left out."""
    reasons: dict[str, int]
    """Rejected rows by reason."""
    examples: list[str]
    """A few rejected rows as text, for error messages."""
    labels: LabelCounts
    """Accepted rows."""
    files: list[FileEntry]
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that ``prepare.duplicates`` left out, by reason."""


@dataclass(frozen=True)
class FoundDuplicates:
    """Repeated texts of one partition."""

    counts: DuplicateCounts
    dropped: int
    """Rows to leave out."""


@dataclass(frozen=True)
class FilteredPart:
    """A part without the rows that ``prepare.duplicates`` leaves out."""

    dropped: dict[str, int]
    """Rows left out, by reason."""
    labels: LabelCounts
    """Remaining rows."""
    files: list[FileEntry]
    """The tweets, written again."""


@dataclass(frozen=True)
class EncodedPart:
    """A part whose tokens were replaced by ids."""

    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    encoded: int
    """Rows with a binary label."""
    without_token: int
    """Rows among them in which the vocabulary knows no token."""
    tokens: TokenCounts
    files: list[FileEntry]


Result = TypeVar("Result", WrittenTable, IngestedPart, FoundDuplicates, FilteredPart, EncodedPart)


def run_as_json(number: int, *, work: Callable[..., Any], **job: Any) -> dict[str, Any]:
    """Run the work of a task; its result becomes JSON for the completion marker."""
    return dict(vars(work(number, **job)))


def from_json(kind: type[Result], results: Iterable[dict[str, Any]]) -> list[Result]:
    """Turn the results of :func:`run_as_json` back into ``kind``."""
    names = [item.name for item in fields(kind)]
    return [kind(**{name: result[name] for name in names if name in result}) for result in results]
