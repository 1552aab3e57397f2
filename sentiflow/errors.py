"""Errors of input, settings, storage and jobs; helpers to write their messages."""

from collections.abc import Mapping, Sequence


class UserError(Exception):
    """Wrong input or settings: exit code 2, no traceback.

    The message has one line for each fault: what is wrong, where (file, row, key), and what to do.

    Example:
        >>> str(UserError("no such file: tweets.csv", hint="set prepare.csv"))
        'no such file: tweets.csv: set prepare.csv'
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        """Join ``problem`` and ``hint`` into one line."""
        super().__init__(f"{problem}: {hint}" if hint else problem)


class StorageError(UserError):
    """A location that does not exist or cannot be used from here; another node may reach it."""


class JobError(Exception):
    """A job that failed for another reason than the user's input: exit code 1, no traceback."""


class WorkerError(JobError):
    """A process of a job that died, or failed in a way that a retry may fix."""


class UnavailableError(JobError):
    """A server that does not answer, or not properly; a later try may succeed."""


_JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner, which Persian, Hindi and emoji need."""


def shorten(text: str, length: int = 40) -> str:
    """Cut a text to a length, for a message.

    Example:
        >>> shorten("a long text", 8)
        'a lon...'
    """
    return text if len(text) <= length else f"{text[: length - 3]}..."


MOST_LISTED = 10
"""Maximum number of classes or other items in a line, or in a table for a terminal."""


def few(items: Sequence[str], where: str = "") -> list[str]:
    """Return at most ``MOST_LISTED`` items; if there are more, the last text says how many.

    Example:
        >>> few(["a", "b"]), few("abcdefghijklm", "in the report")[9:]
        (['a', 'b'], ['j', '… 3 more in the report'])
    """
    listed = list(items[:MOST_LISTED])
    rest = len(items) - MOST_LISTED
    if rest > 0:
        listed.append(f"… {rest:,} more {where}".rstrip())
    return listed


def list_worst(values: Mapping[str, float], form: str, where: str = "") -> str:
    """Write values with their names; of many values only the lowest, and the number of the rest.

    Example:
        >>> list_worst({"joy": 0.5, "fear": 0.25}, "{:.0%} {}")
        '50% joy, 25% fear'
        >>> list_worst({f"star{n}": n for n in range(12, 0, -1)}, "{} {}", "in the report")[:40]
        'the lowest of 12: 1 star1, 2 star2, 3 st'
    """
    names = list(values)
    begin = ""
    if len(names) > MOST_LISTED:
        begin = f"the lowest of {len(names)}: "
        names.sort(key=lambda name: values[name])
    listed = few([form.format(values[name], name) for name in names], where)
    return begin + ", ".join(listed)


def rows_are(count: int, kind: str = "") -> str:
    """Write a number of rows with its verb, to begin a message.

    Example:
        >>> rows_are(1), rows_are(1200, "test ")
        ('1 row is', '1,200 test rows are')
    """
    return f"{count:,} {kind}{'row is' if count == 1 else 'rows are'}"


def printable(text: str) -> str:
    r"""Escape all characters that are not printable, as they may control a terminal.

    Joiners of letters and emoji stay.

    Example:
        >>> printable("a\x1b[2J\u202eb")
        'a\\x1b[2J\\u202eb'
    """
    characters = []
    for character in text:
        if character.isprintable() or character in _JOINERS:
            characters.append(character)
        else:
            characters.append(character.encode("unicode_escape").decode())
    return "".join(characters)
