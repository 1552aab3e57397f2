"""A check of a config or a machine -> its result; results -> text."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials

Level = Literal["ok", "unchecked", "warning", "error"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    """Name of the check, such as ``input``."""
    level: Level
    """``error``: a job would fail. ``unchecked``: the check was not possible."""
    what: str
    """The finding, and how to fix it."""
    is_mistake: bool = True
    """Whether the user must correct it; if not, a later try may succeed."""


def attempt(
    check: str,
    work: Callable[..., Result],
    *arguments: Any,
    setting: str = "",
    level: Level = "error",
) -> tuple[Result | None, list[CheckResult]]:
    """Call a function, and turn an error of a known kind into a finding: a ``CheckResult``.

    Args:
        check: Name of the check.
        work: The function.
        arguments: Its arguments.
        setting: The setting that the finding begins with.
        level: Level of the finding.

    Returns:
        The result, or None after an error; and the findings: one after an error, else none.

    Raises:
        OSError: The error is of no known kind.
    """
    try:
        return work(*arguments), []
    except (UserError, JobError, OSError) as error:
        explained = errors.explain(error) or error
        if isinstance(explained, OSError):
            raise
        line = without_credentials(str(explained))
        if setting and not line.startswith(setting):
            line = f"{setting}: {line}"
        is_mistake = isinstance(explained, UserError)
        return None, [CheckResult(check, level, line, is_mistake=is_mistake)]


def find_problem(
    check: str, work: Callable[..., object], *arguments: Any, setting: str = ""
) -> list[CheckResult]:
    """Call a function as :func:`attempt` does; return only the findings."""
    _, problems = attempt(check, work, *arguments, setting=setting)
    return problems


def run_check(
    check: str, work: Callable[..., str], *arguments: Any, level: Level = "error"
) -> list[CheckResult]:
    """Call a function that returns a line for the user; report the line, or why it failed."""
    text, problems = attempt(check, work, *arguments, level=level)
    return problems or [CheckResult(check, "ok", text or "")]


def to_text(results: Sequence[CheckResult]) -> str:
    """Write a paragraph for each result, and a line with the number of results of each level."""
    wrap = textwrap.TextWrapper(
        100, subsequent_indent=" " * 20, break_long_words=False, break_on_hyphens=False
    )
    lines = [wrap.fill(f"{each.level:<9} {each.check:<9} {each.what}") for each in results]
    counts = Counter(each.level for each in results)
    levels: tuple[Level, ...] = ("error", "warning", "unchecked")
    bad = [f"{counts[level]} {level}" for level in levels if counts[level]]
    total = ", ".join(bad) if bad else f"all is well: {len(results)} checks"
    return "\n".join([*lines, "", total])
