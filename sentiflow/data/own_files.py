"""Path below an output -> whether its stage has written it, by its name alone.

A job deletes only files that it or an earlier run wrote. Manifests list the files of results, and
of runs that were killed while they published. Other files are written to their places before there
is a manifest: parts, checkpoints, the files of folds. Their names have keys and tokens that nobody
chooses, so the patterns here tell them from a user's files.
"""

import functools
import re
from collections.abc import Sequence

PART = r"part-[0-9]{5,}-[0-9a-f]*-[0-9a-f]{8}\.parquet"
"""Name of a part, see ``PartId.name_file``."""
KEY = "[0-9a-f]{16}"
"""Name of a folder that is a fingerprint."""
_TEMPORARY = r"(?:\.[0-9a-f]{8}\.tmp)?"
"""End of the name of a file that a killed process has not finished, see ``filesystem.publish``."""


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Say whether a path below an output fits one of its patterns, which are regular expressions.

    Example:
        >>> matches("tables/part-00000-0a1b-12345678.parquet", [f"tables/{PART}"])
        True
        >>> matches("tables/mine.parquet", [f"tables/{PART}"])
        False
    """
    return bool(patterns) and bool(_compile(tuple(patterns)).fullmatch(path))


@functools.cache
def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Compile patterns to one, which also fits unfinished files."""
    return re.compile(f"(?:{'|'.join(patterns)}){_TEMPORARY}")
