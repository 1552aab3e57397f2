"""What a check found -> a few lines for a terminal, or an object for a program."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sentiflow.storage.uris import without_credentials

Level = Literal["ok", "unchecked", "warning", "error"]

_NAMED = 3
_WIDTH = 100
_UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    what: str
    why: str = ""
    """It matters because; empty where nothing is wrong."""
    do: str = ""
    nodes: tuple[str, ...] = ()
    """The names of the nodes that it is about, if not of all."""

    def to_json(self) -> dict[str, Any]:
        """Give its fields."""
        return {key: _clean(value) for key, value in asdict(self).items()}


def is_ill(findings: Iterable[Finding]) -> bool:
    """Say whether a job would fail."""
    return any(finding.level == "error" for finding in findings)


def to_text(findings: Sequence[Finding]) -> str:
    """Write a line for each finding, two more for one that is not well, and a last line."""
    lines = []
    for finding in findings:
        lines += _wrap(f"{finding.level:<9} {finding.check:<10} ", finding.what)
        lines += _wrap(f"{'':<20} why: ", finding.why) if finding.why else []
        lines += _wrap(f"{'':<20} do:  ", finding.do) if finding.do else []
    return "\n".join([*lines, "", _summarize(findings)])


def name_all(names: Sequence[str]) -> str:
    """Name some nodes, and say how many others there are.

    Example:
        >>> name_all(["10.0.0.2"]), name_all(["a", "b", "c", "d", "e"])
        ('node 10.0.0.2', 'nodes a, b, c and 2 others')
    """
    names = sorted(set(names))
    noun = "node" if len(names) == 1 else "nodes"
    left = len(names) - _NAMED
    if left > 0:
        others = "1 other" if left == 1 else f"{left} others"
        return f"{noun} {', '.join(names[:_NAMED])} and {others}"
    return f"{noun} {' and '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)}"


def size(num_bytes: float) -> str:
    """Write a number of bytes as people do.

    Example:
        >>> size(24_676_004), size(77e9), size(12)
        ('24.7 MB', '77.0 GB', '12 bytes')
    """
    for unit, factor in _UNITS.items():
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def count(number: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> count(1, "node"), count(3, "node")
        ('1 node', '3 nodes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _summarize(findings: Sequence[Finding]) -> str:
    levels = Counter(finding.level for finding in findings)
    parts = [count(levels[level], level) for level in ("error", "warning") if levels[level]]
    parts += [f"{levels['unchecked']} unchecked"] if levels["unchecked"] else []
    return ", ".join(parts) or f"all is well: {len(findings)} checks"


def _wrap(label: str, text: str) -> list[str]:
    """Break a text into lines that stand beside its label; no word is broken."""
    return textwrap.wrap(
        without_credentials(text),
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _clean(value: Any) -> Any:
    return without_credentials(value) if isinstance(value, str) else value
