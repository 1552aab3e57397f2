"""A check -> its result, and results as text."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials

Level = Literal["ok", "unchecked", "warning", "error"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    """Name of the check, such as ``input``."""
    level: Level
    """``error``: a job would fail. ``unchecked``: it could not be checked."""
    what: str
    """What was found, and how to fix it."""
    is_mistake: bool = True
    """Whether the user must correct it; if not, a later try may succeed."""


def find_problem(
    check: str,
    work: Callable[..., object],
    *arguments: Any,
    setting: str = "",
    level: Level = "error",
) -> list[CheckResult]:
    """Do some work; if that fails for a known reason, the reason is what is found.

    Args:
        check: Name of the check.
        work: The work.
        arguments: Its arguments.
        setting: What the line begins with.
        level: Level of a failure.
    """
    try:
        work(*arguments)
    except (UserError, JobError, OSError) as error:
        explained = errors.explain(error) or error
        if isinstance(explained, OSError):
            raise
        line = without_credentials(str(explained))
        if setting and not line.startswith(setting):
            line = f"{setting}: {line}"
        return [CheckResult(check, level, line, is_mistake=isinstance(explained, UserError))]
    return []


def report(
    check: str, work: Callable[..., str], *arguments: Any, level: Level = "error"
) -> list[CheckResult]:
    """Do some work, which says what is well; the result is that, or why it failed."""
    texts: list[str] = []
    problems = find_problem(check, lambda: texts.append(work(*arguments)), level=level)
    return problems or [CheckResult(check, "ok", texts[0])]


def to_text(results: Sequence[CheckResult]) -> str:
    """Write each result, and a line that sums them up."""
    wrap = textwrap.TextWrapper(
        100, subsequent_indent=" " * 20, break_long_words=False, break_on_hyphens=False
    )
    lines = [wrap.fill(f"{each.level:<9} {each.check:<9} {each.what}") for each in results]
    levels = Counter(each.level for each in results)
    bad = [
        f"{levels[level]} {level}" for level in ("error", "warning", "unchecked") if levels[level]
    ]
    return "\n".join([*lines, "", ", ".join(bad) or f"all is well: {len(results)} checks"])
