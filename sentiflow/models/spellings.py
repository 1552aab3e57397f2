"""Text -> the same text with one spelling for each word, by rules of the Unicode Standard."""

import re
from unicodedata import category, normalize

from sentiflow.models.character_runs import squeeze_unicode_runs

_BEFORE_FOLDING = {"\u2019": "'", "\xb4": "'", "¼": " 1/4", "½": " 1/2", "¾": " 3/4"}
"""NFKC would make two characters of an acute accent, and 11/2 of 1½."""
_JOINED = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
"""Characters of emoji: a joiner between two of them stays."""
_LONELY_JOINER = re.compile(f"\u200d(?:(?<![{_JOINED}]\u200d)|(?![{_JOINED}]))")
"""A zero width joiner that is not between two such characters."""
_LONELY_STYLE = re.compile(r"(?<!\S)\ufe0f+")
"""Emoji styles without their emoji, at the beginning of a chunk."""
_FOLDS = {"\u200b": " ", "\u0131": "i", "i\u0307": "i", "ی": "ي", "ى": "ي", "ک": "ك"}
_FOLDS |= dict.fromkeys("آأإٱ", "\u0627")
"""Spellings of a letter, and the letter that stands for all of them; also the zero width space."""
_SCRIPT_MARKS = "".join(chr(n) for n in range(0x591, 0x6EE) if category(chr(n)) == "Mn")
"""Marks of Hebrew and Arabic letters, such as vowels."""
_IGNORED = "\xad\u0640\u200c\u200e\u200f\u2060-\u2064\ufeff"
"""Invisible characters (soft hyphen, joiners, marks of direction), and the tatweel."""
_STYLES = "\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
"""Styles of emoji, skin tones, and the tags of flags."""
_FOLDED = re.compile(f"{'|'.join(_FOLDS)}|[{_SCRIPT_MARKS}{_IGNORED}{_STYLES}]")
"""Characters that ``_FOLDS`` replaces, and characters that are left out."""


def unify(text: str) -> str:
    """Give different spellings of a word the same characters, in lower case.

    | rule | source in the Unicode Standard |
    |---|---|
    | case and compatibility forms; no joiners and styles | 3.13, ``NFKC_Casefold`` |
    | no marks of vowels in Arabic and Hebrew, no tatweel | 9.1, 9.2 |
    | one alef, one yeh, one kaf for Arabic, Persian and Urdu | 9.2 |
    | i with a dot and without one are i | 5.18, ``SpecialCasing.txt`` |
    | no skin tones; emoji stay joined | Technical Standard 51 |
    | ``<emoji>`` for a style without its emoji, which was cut off | the same |
    | a zero width space is a blank | Annex 14, class ZW |

    Runs of a character outside of ASCII are shortened (:func:`squeeze_unicode_runs`).

    Example:
        >>> unify("Straße, NAÏVE, ﬁne, جمييييل")
        'strasse, naïve, fine, جميل'
    """
    for character, plain in _BEFORE_FOLDING.items():
        text = text.replace(character, plain)
    text = _LONELY_JOINER.sub("", text)
    text = _LONELY_STYLE.sub("<emoji> ", text)
    text = normalize("NFKC", text).casefold()
    text = _FOLDED.sub(lambda found: _FOLDS.get(found[0], ""), text)
    return squeeze_unicode_runs(normalize("NFKC", text))  # folding may undo a normal form
