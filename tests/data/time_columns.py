"""Generated columns of written times, whose right reading is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

NOW = datetime(2026, 12, 1, tzinfo=UTC)
"""The time at which the columns are read."""

SEPARATORS = (".", "/", "-", " ", ". ", "_", " / ", ", ", "'")
SIGNS = (
    "{y}년 {m}월 {d}일", "{y}년{m}월{d}일", "{y}年{m}月{d}日", "{y}年 {m}月 {d}日",
    "{d}日{m}月{y}年", "{m}月{d}日{y}年", "{y}年{m}月{d}号",
)  # fmt: skip
NAMED = (
    "{d} {b} {y}", "{d}-{b}-{y}", "{b} {d}, {y}", "{y}-{b}-{d}", "{d} {B} {y}", "{B} {d}, {y}",
    "{d}{b}{y}", "{a} {d} {b} {y}", "{A}, {B} {d}, {y}",
)  # fmt: skip
DIGITS = ("{y}{m}{d}", "{d}{m}{y}", "{m}{d}{y}")
CLOCKS = (
    "", "", "", "", " {H}:{M}", " {H}:{M}:{S}", "T{H}:{M}:{S}", ", {H}:{M}", " {I}:{M} {p}",
    " {I}:{M}:{S} {p}", " {I}:{M}{p}", " {H}:{M}:{S}.{f}", " {H}:{M}:{S} +0900", " {H}:{M}Z",
    " {ko} {I}:{M}", " {zh}{I}:{M}:{S}", " {ja}{I}時{M}分", " {H}시 {M}분", " {H}時{M}分{S}秒",
    " {H}.{M}", " {H}h{M}", " - {H}:{M}", "({wd}) {H}:{M}", "({wd})",
)  # fmt: skip
"""How a time of day is written; the last ones with a day of the week before it."""
_SIGNED = "年년月월日일"
RANGES = (
    ("2003-11-01", 4600), ("2001-01-01", 4380), ("2009-01-01", 1400), ("2015-02-01", 28),
    ("2026-09-01", 90), ("2024-03-01", 12), ("1975-01-01", 16000), ("2022-01-01", 4500),
    ("2020-01-01", 366),
)  # fmt: skip
"""First day, and number of days."""
SIZES = (1, 2, 3, 5, 8, 13, 20, 40, 100, 400, 1500)
ORDERS = ("dmy", "mdy", "ymd", "ymd", "ydm", "dym", "myd")


@dataclass(frozen=True)
class TimeColumn:
    """A column of written times."""

    pattern: str
    """How most of its times are written."""
    other: str
    """How the others are written; empty: all alike."""
    written: list[str]
    moments: list[datetime]
    """The truth, in UTC and whole seconds."""


def generate(seed: int, num_columns: int) -> Iterator[TimeColumn]:
    """Generate columns: of all forms, orders of rows, lengths and ranges; one in six is mixed."""
    random = np.random.default_rng(seed)
    for _ in range(num_columns):
        pattern = _draw_pattern(random)
        other = _draw_pattern(random) if random.random() < 1 / 6 else ""
        if (
            other and pattern[3] not in _SIGNED and "{m}" in pattern and random.random() < 0.5
        ):  # the same separators and another order
            other = _permute(pattern, random)
        moments = _draw_moments(random)
        share = random.choice([0.5, 0.2, 0.05])
        style = {"pads": random.random() < 0.7, "is_short": random.random() < 0.5}
        written = []
        truth = []
        for moment in moments:
            chosen = other if other and random.random() < share else pattern
            written.append(write(chosen, moment, **style))
            truth.append(_cut(chosen, moment))
        yield TimeColumn(pattern, other, written, truth)


def _draw_pattern(random: np.random.Generator) -> str:
    """Draw how times are written."""
    kind = random.choice(["numbers", "signs", "names", "digits"], p=[0.6, 0.15, 0.15, 0.1])
    clock = str(random.choice(CLOCKS))
    if kind == "signs":
        return str(random.choice(SIGNS)) + clock
    if kind == "names":
        return str(random.choice(NAMED)) + clock
    if kind == "digits":
        return str(random.choice(DIGITS)) + ("" if "wd" in clock else clock)
    order = random.choice(ORDERS)
    separator = str(random.choice(SEPARATORS))
    date = separator.join(f"{{{letter}}}" for letter in order)
    if separator in (".", ". ") and random.random() < 0.5:
        date += "."
    if random.random() < 0.05:
        date = f"[{date}]"
    return date + clock


def _permute(pattern: str, random: np.random.Generator) -> str:
    """Exchange day, month and year of a pattern."""
    letters = dict(zip("dmy", random.permutation(list("dmy")), strict=True))
    return "".join(
        letters.get(c, c) if pattern[i - 1 : i] == "{" and pattern[i + 1 : i + 2] == "}" else c
        for i, c in enumerate(pattern)
    )


def _draw_moments(random: np.random.Generator) -> list[datetime]:
    """Draw the times of a column, in any order."""
    first, num_days = RANGES[random.integers(len(RANGES))]
    size = SIZES[random.integers(len(SIZES))]
    seconds = random.integers(0, num_days * 86_400, size)
    order = random.choice(["random", "ascending", "descending"])
    if order != "random":
        seconds = np.sort(seconds)
    if order == "descending":
        seconds = seconds[::-1]
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    return [start + timedelta(seconds=int(second)) for second in seconds]


def write(pattern: str, moment: datetime, *, pads: bool, is_short: bool) -> str:
    """Write a time.

    Args:
        pattern: How it is written.
        moment: The time.
        pads: Whether days, months and hours have two digits.
        is_short: Whether the year has two digits.
    """
    pads = pads or pattern.startswith(DIGITS)
    width = "02" if pads else ""
    hour = moment.hour % 12 or 12
    half = int(moment.hour >= 12)
    return pattern.format(
        d=f"{moment.day:{width}}",
        m=f"{moment.month:{width}}",
        y=f"{moment.year % 100:02}" if is_short else moment.year,
        H=f"{moment.hour:{width}}",
        I=f"{hour:{width}}",
        M=f"{moment.minute:02}",
        S=f"{moment.second:02}",
        f="250",
        p=("AM", "PM")[half],
        ko=("오전", "오후")[half],
        zh=("上午", "下午")[half],
        ja=("午前", "午後")[half],
        wd="월화수목금토일"[moment.weekday()],
        **{letter: moment.strftime(f"%{letter}") for letter in "aAbB"},
    )


def _cut(pattern: str, moment: datetime) -> datetime:
    """Cut a time to what is written of it, and convert it to UTC."""
    if "{M}" not in pattern:
        return moment.replace(hour=0, minute=0, second=0)
    if "{S}" not in pattern:
        moment = moment.replace(second=0)
    if "+0900" in pattern:
        moment -= timedelta(hours=9)
    return moment
