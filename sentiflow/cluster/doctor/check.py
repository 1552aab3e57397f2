"""A check and its result -> a few lines for a terminal, or an object for a program."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sentiflow.config.sections import Config
from sentiflow.errors import JobError, UserError
from sentiflow.storage import errors
from sentiflow.storage.uris import without_credentials

Level = Literal["ok", "unchecked", "warning", "error"]

_WIDTH = 100


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    """Name of the check, such as ``input``."""
    level: Level
    """``error``: a job would fail. ``unchecked``: it could not be checked."""
    what: str
    """What was found."""
    why: str = ""
    """Why it matters; empty where nothing is wrong."""
    do: str = ""
    """How to fix it; empty where nothing is wrong."""
    nodes: Sequence[str] = ()
    """Names of the nodes that have the problem; empty if it is about no single node."""

    is_mistake: bool = True
    """Whether the user must correct it; if not, a later try may succeed."""

    def to_json(self) -> dict[str, str | Sequence[str]]:
        """Return all fields for the user, without passwords and keys."""
        return {
            name: without_credentials(value) if isinstance(value, str) else value
            for name, value in asdict(self).items()
            if name != "is_mistake"
        }


@dataclass(frozen=True)
class Check:
    """Something that a job needs of a machine."""

    name: str
    run: Callable[[Config | None], str]
    """Says in one line what is well. It raises ``UserError`` or ``OSError`` for what is not."""
    why: str
    """Why a failure matters."""
    do: str
    """How to fix it."""
    level: Level = "error"
    """Level of a failure."""

    def attempt(self, config: Config | None) -> list[CheckResult]:
        """Run the check on this machine; return its only result."""
        try:
            return [CheckResult(self.name, "ok", self.run(config))]
        except (UserError, OSError) as error:
            return [self.fail(str(errors.explain(error) or error).splitlines()[0])]

    def fail(self, what: str, nodes: Sequence[str] = ()) -> CheckResult:
        """Make the result for a problem."""
        return CheckResult(self.name, self.level, what, self.why, self.do, nodes)


def find_problem(
    check: str, work: Callable[..., object], *arguments: Any, setting: str = ""
) -> list[CheckResult]:
    """Do some work; if that fails for a known reason, the reason is what is found.

    Args:
        check: Name of the check.
        work: The work.
        arguments: Its arguments.
        setting: What the line begins with.
    """
    try:
        work(*arguments)
    except (UserError, JobError, OSError) as error:
        known = errors.explain(error) or error
        if isinstance(known, OSError):
            raise
        line = str(known)
        if setting and not line.startswith(setting):
            line = f"{setting}: {line}"
        return [CheckResult(check, "error", line, is_mistake=isinstance(known, UserError))]
    return []


def has_errors(results: Iterable[CheckResult]) -> bool:
    """Say whether a job would fail."""
    return any(result.level == "error" for result in results)


def to_text(results: Sequence[CheckResult]) -> str:
    """Write each result, with reason and remedy below a bad one, and a line that sums them up."""
    lines = []
    for result in results:
        lines += _wrap(f"{result.level:<9} {result.check:<9} ", result.what)
        lines += _wrap(f"{'':<19} why: ", result.why) if result.why else []
        lines += _wrap(f"{'':<19} do:  ", result.do) if result.do else []
    levels = Counter(result.level for result in results)
    bad = [count(levels[level], level) for level in ("error", "warning") if levels[level]]
    bad += [f"{levels['unchecked']} unchecked"] if levels["unchecked"] else []
    summary = ", ".join(bad) or f"all is well: {len(results)} checks"
    return "\n".join([*lines, "", summary])


def count(number: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> count(1, "node"), count(3, "node")
        ('1 node', '3 nodes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _wrap(label: str, text: str) -> list[str]:
    """Break a text into lines beside its label; no word is broken."""
    return textwrap.wrap(
        without_credentials(text),
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
