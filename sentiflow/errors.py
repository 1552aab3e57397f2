"""Errors of input, settings, storage and jobs; functions that write their messages."""

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
    """A location that does not exist, or that this machine cannot use.

    Another node may reach it, so finished parts stay for the next run, and a sweep restarts the
    trial.
    """


class PermissionDeniedError(UserError):
    """MLflow's user lacks a permission. The message names it."""


class JobError(Exception):
    """A job that failed for another reason than the user's input: exit code 1, no traceback."""


class WorkerError(JobError):
    """A training worker is lost or has failed, after all restarts. A sweep restarts the trial."""


class ReplacedError(JobError):
    """A result that another job has replaced while it was read: it can be read again at once."""


class UnavailableError(JobError):
    """A server that does not answer, or not properly.

    The next run of the command does the missing steps. A sweep restarts the trial.
    """


def explain_absent(error: BaseException) -> UserError | None:
    """Explain in one line that a package is not installed; None for any other error.

    An installation that only predicts lacks most packages.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.partition(".")[0]
    return UserError(
        f"this needs the package {package}, which is not installed",
        hint="install sentiflow without --no-deps, see docs/install.md",
    )


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
    """Return the first ``MOST_LISTED`` items; if there are more, add a text with their number.

    Example:
        >>> few(["a", "b"]), few("abcdefghijklm", "in the report")[9:]
        (['a', 'b'], ['j', '… 3 more in the report'])
    """
    listed = list(items[:MOST_LISTED])
    rest = len(items) - MOST_LISTED
    if rest > 0:
        listed.append(f"… {rest:,} more {where}".rstrip())
    return listed


def list_lowest(values: Mapping[str, float], form: str, where: str = "") -> str:
    """Write values with their names; of many values only the lowest, and the number of the rest.

    Values that are all listed keep their order, such as that of ordered classes. Of many values the
    lowest come first, whatever their order: the first classes in order may all be good.

    Args:
        values: The values, by name.
        form: How to write one of them: a format string for the value and its name.
        where: Where all values are listed.

    Example:
        >>> list_lowest({"joy": 0.5, "fear": 0.25}, "{:.0%} {}")
        '50% joy, 25% fear'
        >>> list_lowest({f"star{n}": n for n in range(12, 0, -1)}, "{} {}", "in the report")[:40]
        'the lowest of 12: 1 star1, 2 star2, 3 st'
    """
    names = list(values)
    beginning = ""
    if len(names) > MOST_LISTED:
        beginning = f"the lowest of {len(names)}: "
        names.sort(key=lambda name: values[name])
    listed = few([form.format(values[name], name) for name in names], where)
    return beginning + ", ".join(listed)


def rows_are(count: int, kind: str = "") -> str:
    """Write a number of rows with its verb, to begin a message.

    Example:
        >>> rows_are(1), rows_are(1200, "test ")
        ('1 row is', '1,200 test rows are')
    """
    return f"{count:,} {kind}{'row is' if count == 1 else 'rows are'}"


JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner, which Persian, Hindi and emoji need."""


def is_printable(text: str) -> bool:
    """Say whether a text has only printable characters and joiners of letters and emoji."""
    return all(character.isprintable() or character in JOINERS for character in text)


def printable(text: str) -> str:
    r"""Escape all characters that are not printable, as they may control a terminal.

    Joiners of letters and emoji stay.

    Example:
        >>> printable("a\x1b[2J\u202eb")
        'a\\x1b[2J\\u202eb'
    """
    characters = []
    for character in text:
        if is_printable(character):
            characters.append(character)
        else:
            characters.append(character.encode("unicode_escape").decode())
    return "".join(characters)
