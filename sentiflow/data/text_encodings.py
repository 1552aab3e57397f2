"""Bytes of a text -> their encoding."""

import codecs
import re

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
"""Adjacent bytes beyond ASCII."""
_NO_LETTERS = re.compile(rb"[\x80-\x9f]")
"""Bytes without a character in latin-1; in cp1252 they are quotes, dashes and the euro."""
_MAX_RUN = 1.7
"""Maximum mean number of adjacent bytes beyond ASCII in a Latin text; other alphabets have more."""


def judge(content: bytes, encoding: str) -> tuple[bool, str]:
    """Judge whether bytes are text of an encoding.

    Returns:
        Whether some bytes are invalid in the encoding; and an encoding that fits the bytes better,
        or an empty text. If ``encoding`` is UTF-8, a better one is named only if some bytes are
        invalid. Otherwise only UTF-8 can be a better one.

    Example:
        >>> judge("caf\u00e9".encode("latin-1"), "utf-8")
        (True, 'latin-1')
        >>> judge("caf\u00e9".encode(), "latin-1")
        (False, 'utf-8')
    """
    if content.isascii():
        return False, ""
    is_damaged = not _is_valid(content, encoding)
    fitting = find(content)
    is_better = fitting == "utf-8"
    if encoding == "utf-8":
        is_better = is_damaged
    if fitting == encoding or not is_better:
        fitting = ""
    return is_damaged, fitting


def find(content: bytes, *, is_cut: bool = False) -> str:
    """Find the encoding: ``utf-8``, ``cp1252``, ``latin-1``, or an empty text for another one.

    A text with invalid bytes still counts as UTF-8 if it has at least as many valid characters
    beyond ASCII. Latin texts have few adjacent accents; in other alphabets nearly all letters are
    beyond ASCII.

    Args:
        content: The text.
        is_cut: Whether the text may end within a character.

    Example:
        >>> find("caf\u00e9".encode("latin-1")), find("\u20ac 5".encode("cp1252"))
        ('latin-1', 'cp1252')
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoded = decoder.decode(content, final=not is_cut)
    num_invalid = decoded.count("\ufffd")
    if not num_invalid:
        return "utf-8"
    num_valid = sum(character > "\x7f" for character in decoded) - num_invalid
    if num_invalid <= num_valid:
        return "utf-8"
    runs = _BEYOND_ASCII.findall(content)
    if len(b"".join(runs)) > _MAX_RUN * len(runs):
        return ""
    if _NO_LETTERS.search(content) and _is_valid(content, "cp1252"):
        return "cp1252"
    return "latin-1"


def _is_valid(content: bytes, encoding: str) -> bool:
    """Say whether all bytes are valid in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
