"""Scripts whose texts have no blanks between words."""

UNSPACED = "".join(
    rf"\p{{{script}}}"
    for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
"""Their letters in a class of RE2 (Unicode Annex 14, classes ID, CJ and SA)."""
