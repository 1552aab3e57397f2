"""Written times -> the formats that their shape allows, in every order of day, month and year."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import times

_MAX_SHAPES = 20
"""Maximum number of different shapes from which formats are made, the most frequent ones."""
_NAMES = (
    ("%B", "january|february|march|april|june|july|august|september|october|november|december"),
    ("%b", "jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec"),
    ("%A", "monday|tuesday|wednesday|thursday|friday|saturday|sunday"),
    ("%a", "mon|tue|wed|thu|fri|sat|sun"),
)
"""Directives, and the names that they read. May stands only with the short names."""
_FIELD = r"(9{1,4}(?!9)|%[bB])"
"""A day, a month or a year."""
_BETWEEN = r"([^9%:A-Z]{0,5}?)"
"""What is written between two such fields."""
_CLOCK = (
    r"(?:%p\s?)?9{1,2}\s?[:.hH시時时点點]\s?99?(?:\s?[:.분分]\s?99?)?(?:[.,]9{1,9})?"
    r"\s?[분分초秒]?(?:\s?%p)?(?:\s?%z)?|(?:%p\s?)?9{1,2}\s?[시時时点點]|9{1,2}\s?%p"
)
"""A time of day, perhaps an hour alone."""
_SHAPE = re.compile(
    rf"(?P<before>(?:%[aA])?[^9%\w]{{0,3}}?)"
    rf"(?:(?P<digits>(?:9{{6}}|9{{8}}|9{{10}}|9{{12}}|9{{14}})(?!9))|{_FIELD}{_BETWEEN}{_FIELD}{_BETWEEN}{_FIELD})"
    rf"(?P<after>[^9%]{{0,5}}?)(?P<clock>{_CLOCK})?(?P<end>[^9%]{{0,4}})"
)
_MONTH = re.compile(
    r"(?:(?P<month>9{1,2}|%[bB])(?P<between>[^9%:\w]{1,2})9999"
    r"|9999(?P<between_too>[^9%:A-Z]{1,2})(?P<month_too>9{1,2}|%[bB]))(?P<end>[월月]?)"
)
"""A month of a year."""
_OTHERS = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S UTC %Y",
    "%a %b %d %H:%M:%S %Y",
    "%G-W%V-%u",
)
"""Formats with the year behind the time of day, as on Twitter; and a day of a week in ISO 8601."""
_SIGNS = {"y": "年년", "m": "月월", "d": "日号號일"}
"""Signs that follow the year, the month or the day."""
_DIGITS_OF_DAY_AND_MONTH = 4
_DIGITS_OF_YEAR = {"y": 2, "Y": 4}


class Candidate(NamedTuple):
    """A format that may read the times of a column."""

    form: str | None
    """Format for strptime; None: ISO 8601, or else seconds since 1970."""
    is_usual: bool
    """False if the day follows the year where ISO 8601 has the month: after four digits and a
    hyphen, or in digits without marks."""


def list_candidates(values: pa.Array) -> list[Candidate]:
    """List the formats that the shapes of written times allow, ISO 8601 first.

    Args:
        values: Different times, as strings.

    Example:
        >>> [form for form, is_usual in list_candidates(pa.array(["25 Aug 2015"]))][:2]
        [None, '%d %b %Y']
    """
    candidates: dict[str | None, Candidate] = {None: Candidate(None, is_usual=True)}
    for shape in _find_shapes(values):
        for candidate in _make_formats(shape):
            candidates.setdefault(candidate.form, candidate)
    for form in _OTHERS:
        candidates[form] = Candidate(form, is_usual=True)
    return list(candidates.values())


def _find_shapes(values: pa.Array) -> list[str]:
    """Find the shapes of times, the most frequent first.

    A shape has a 9 for each digit, a directive for each name, and all else as it is written. Shapes
    that differ only in what :func:`times.simplify` leaves out, or in days or months of one or two
    digits, count as one.
    """
    shaped = pc.replace_substring_regex(values, times.WEEKDAY, "")
    shaped = pc.replace_substring_regex(shaped, times.ORDINAL, r"\1")
    shaped = pc.replace_substring_regex(shaped, r"\d", "9")
    for _, spellings in times.HALVES_OF_DAY:
        shaped = pc.replace_substring_regex(shaped, spellings, r"\1%p")
    for directive, names in _NAMES:
        pattern = rf"(?i)(^|[^a-z%])(?:{names})($|[^a-z])"
        shaped = pc.replace_substring_regex(shaped, pattern, rf"\1{directive}\2")
    counts: Counter[str] = Counter()
    longest: dict[str, str] = {}
    for item in pc.value_counts(shaped).to_pylist():
        key = re.sub("9{1,2}(?!9)(?<!999)", "9", times.simplify_format(item["values"]))
        counts[key] += item["counts"]
        longest[key] = max(longest.get(key, ""), item["values"], key=len)
    return [longest[key] for key, _ in counts.most_common(_MAX_SHAPES)]


def _make_formats(shape: str) -> Iterator[Candidate]:
    """Make a format of a shape for each order of day, month and year that it allows."""
    zoned = re.sub(r"(9:99(?:[.,]9+)?\s?)(?:Z|[+-]99:?99)(?=[)\]]?$)", r"\1%z", shape.strip())
    month = _MONTH.fullmatch(zoned)
    if month:
        yield Candidate(_make_month(month), is_usual=True)
    match = _SHAPE.fullmatch(zoned)
    if match is None:
        return
    before = match["before"]
    rest = match["after"] + _make_clock(match["clock"] or "") + match["end"]
    if match["digits"]:
        for date, is_usual in _split_digits(len(match["digits"])):
            has_hour_twice = "%H" in date and match["clock"]
            if not has_hour_twice:
                yield Candidate(before + date + rest, is_usual)
        return
    # the groups without a name, which follow the groups before and digits
    first, between, second, between_too, third = match.groups()[2:7]
    marks = (between, between_too, match["after"] + match["end"])
    for order, is_usual in _list_orders((first, second, third), marks):
        letters = [f"%{letter}" if len(letter) == 1 else letter for letter in order]
        written = f"{letters[0]}{between}{letters[1]}{between_too}{letters[2]}"
        yield Candidate(before + written + rest, is_usual)


def _make_month(shape: re.Match[str]) -> str:
    """Make the format of a month of a year."""
    if shape["month"]:
        return f"{shape['month'].replace('99', '9').replace('9', '%m')}{shape['between']}%Y"
    month = shape["month_too"].replace("99", "9").replace("9", "%m")
    return f"%Y{shape['between_too']}{month}{shape['end']}"


def _split_digits(num_digits: int) -> Iterator[tuple[str, bool]]:
    """List the formats without marks that have so many digits.

    They are formats of a date, perhaps with a time of day, or of a month.

    Yields:
        The format; whether it is usual, as for ``Candidate``.
    """
    if num_digits == 6:
        yield "%Y%m", True
        yield "%m%Y", True
    for clock, digits_of_clock in (("", 0), ("%H", 2), ("%H%M", 4), ("%H%M%S", 6)):
        for year, digits_of_year in _DIGITS_OF_YEAR.items():
            if digits_of_year + _DIGITS_OF_DAY_AND_MONTH + digits_of_clock != num_digits:
                continue
            if clock == "%H" and year == "y":  # as many digits as a date with a year of four
                continue
            for order in ("dmy", "mdy", "ymd", "ydm"):
                letters = order.replace("y", year)
                is_usual = letters not in ("Ydm", "ydm")
                yield "".join(f"%{letter}" for letter in letters) + clock, is_usual


def _list_orders(
    fields: Sequence[str], marks: Sequence[str]
) -> Iterator[tuple[tuple[str, str, str], bool]]:
    """List the orders of day, month and year that three fields allow.

    Args:
        fields: The digits of each field as nines, or the directive of a month's name.
        marks: What is written after each field.

    Yields:
        The directive of each field, a letter for strptime or a name's directive; and whether it is
        usual, as for ``Candidate``.
    """
    has_long = any(len(field) == 4 for field in fields)
    is_iso = len(fields[0]) == 4 and marks[0] == "-"
    for order in itertools.permutations("dmy"):
        letters = []
        for letter, field, mark in zip(order, fields, marks, strict=True):
            letters.append(_choose_letter(letter, field, mark, has_long=has_long))
        if all(letters) and _names_fit(order, fields):
            is_usual = not is_iso or order[1] == "m"
            yield (letters[0], letters[1], letters[2]), is_usual


def _names_fit(order: Sequence[str], fields: Sequence[str]) -> bool:
    """Say whether the month is the field with a name, if there is one."""
    named = [letter for letter, field in zip(order, fields, strict=True) if field.startswith("%")]
    return named in ([], ["m"])


def _choose_letter(letter: str, field: str, mark: str, *, has_long: bool) -> str:
    """Choose the directive of a field as day, month or year; empty if it cannot be one."""
    sign = mark.strip()[:1]
    for meaning, signs in _SIGNS.items():
        if sign and sign in signs and meaning != letter:
            return ""
    if field.startswith("%"):
        return field if letter == "m" else ""
    if letter == "y":
        if has_long:
            return "Y" if len(field) == 4 else ""
        return "y" if len(field) <= 2 else ""
    return letter if len(field) <= 2 else ""


def _make_clock(clock: str) -> str:
    """Make the format of a time of day from its shape."""
    hour = "%I" if "%p" in clock else "%H"
    form = re.sub("([.,])9+(?=[^9]*$)", _make_fraction(clock), clock)
    for directive in (hour, "%M", "%S"):
        form = re.sub("9+", directive, form, count=1)
    return form


def _make_fraction(clock: str) -> str:
    """Return the replacement of the last number, with the mark before it.

    Only after hour, minute and second it is a fraction of a second.
    """
    num_fields = len(re.findall("9+", clock))
    return r"\1%f" if num_fields == 4 else r"\g<0>"
