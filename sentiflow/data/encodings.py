"""Bytes of a text -> the encoding that they are written in."""

import codecs
import re

_HIGH = re.compile(rb"[\x80-\xff]+")
_NO_LETTERS = re.compile(rb"[\x80-\x9f]")
"""Bytes that latin-1 has no character for, and cp1252 quotes, dashes and the euro."""


def find(content: bytes, *, is_cut: bool = False) -> str:
    """Find the encoding: ``utf-8``, ``cp1252``, ``latin-1``, or an empty text for any other one.

    A text with some invalid bytes is UTF-8 if it has as many valid characters of several bytes.
    Accents stand alone in Latin texts; in other alphabets nearly all letters are beyond ASCII.

    Args:
        content: The text.
        is_cut: Whether it may end within a character.

    Example:
        >>> find("caf\u00e9".encode("latin-1")), find("\u20ac 5".encode("cp1252"))
        ('latin-1', 'cp1252')
    """
    decoded = codecs.getincrementaldecoder("utf-8")("replace").decode(content, not is_cut)
    invalid = decoded.count("\ufffd")
    if not invalid or 2 * invalid <= sum(character > "\x7f" for character in decoded):
        return "utf-8"
    runs = _HIGH.findall(content)
    if sum(map(len, runs)) > 1.7 * len(runs):
        return ""
    is_cp1252 = bool(_NO_LETTERS.search(content)) and decodes(content, "cp1252")
    return "cp1252" if is_cp1252 else "latin-1"


def decodes(content: bytes, encoding: str) -> bool:
    """Say whether all bytes are valid in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
