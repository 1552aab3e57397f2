"""CSV files as people have them, each with what a reader should find in it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

_OPENINGS = (
    "the flight", "this phone", "my new laptop", "their support", "the hotel room",
    "the last update", "that concert", "the delivery", "our teacher", "the coffee here",
)  # fmt: skip
_VERDICTS = {
    "negative": ("is a mess, again", "broke after two days", "was late; nobody said sorry"),
    "positive": ("made my day!", "is simply wonderful", "was great, thank you so much"),
    "neutral": ("arrives on Monday", "costs 20 euros", "is the one from last year, right?"),
}
_ENDINGS = ("", " #fail", " :-)", " @support please look", " (see http://example.org/a?b=1,2)")


@dataclass(frozen=True)
class OddFile:
    """A file, and what is true of it."""

    name: str
    content: bytes
    delimiter: str = ","
    header: bool = True
    num_columns: int = 2
    encoding: str = "utf-8"
    """One that decodes the file; others may give the same text."""
    text: int | None = 0
    label: int | None = 1
    """Positions of the columns; None: there is none."""
    columns: dict[str, int] = field(default_factory=dict)
    """Positions of further meanings: id, user, time."""


def make_rows(num_rows: int, *, seed: float = 0, accents: bool = False) -> list[tuple[str, str]]:
    """Make pairs of text and label."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = rng.choice(list(_VERDICTS))
        words = [rng.choice(_OPENINGS), rng.choice(_VERDICTS[label])]
        text = f"{' '.join(words)}{rng.choice(_ENDINGS)}"
        if accents and rng.random() < 0.3:
            text += " à côté, déjà vu"
        rows.append((text, label))
    return rows


def write(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    delimiter: str = ",",
    quote_all: bool = False,
    line_end: str = "\n",
    encoding: str = "utf-8",
) -> bytes:
    """Write rows as a CSV; fields are quoted where they must be."""

    def field_of(value: str) -> str:
        if quote_all or any(mark in value for mark in (delimiter, '"', "\n", "\r")):
            doubled = value.replace('"', '""')
            return f'"{doubled}"'
        return value

    lines = list(rows)
    if header:
        lines.insert(0, header)
    text = "".join(delimiter.join(map(field_of, line)) + line_end for line in lines)
    return text.encode(encoding)


def make_all() -> list[OddFile]:
    """Make all files."""
    rows = make_rows(300)
    french = make_rows(300, accents=True)
    return [*_punctuated(rows), *_encoded(rows, french), *_of_any_columns(rows), *_wide(rows)]


_NAMES = ("text", "sentiment")


def _punctuated(rows: Sequence[tuple[str, str]]) -> list[OddFile]:
    """Make files with all delimiters, quotes and line ends, with and without a header."""
    quoted = [(f'she said "{text}" and "left"', label) for text, label in rows]
    spread = [(text.replace(" ", "\n", 1), label) for text, label in rows]
    commas = [(f"{text}, and, well, it is, what it is", label) for text, label in rows]
    semicolons = [(f"{text}; yes; no; {i}", label) for i, (text, label) in enumerate(rows)]
    turned = [row[::-1] for row in rows]
    odd, names = OddFile, _NAMES
    return [
        odd("plain comma", write(rows, header=names)),
        odd("semicolon", write(rows, header=names, delimiter=";"), ";"),
        odd("tab", write(rows, header=names, delimiter="\t"), "\t"),
        odd("bar", write(rows, header=names, delimiter="|"), "|"),
        odd("all quoted", write(rows, header=names, quote_all=True)),
        odd("doubled quotes", write(quoted, header=names)),
        odd("newlines in quotes", write(spread, header=names)),
        odd("commas in text, semicolon", write(commas, header=names, delimiter=";"), ";"),
        odd("semicolons in text, comma", write(semicolons, header=names)),
        odd("commas in text, tab", write(commas, header=names, delimiter="\t"), "\t"),
        odd("label first", write(turned, header=names[::-1]), text=1, label=0),
        odd("no header", write(rows), header=False),
        odd("no header, semicolon", write(rows, delimiter=";"), ";", header=False),
        odd("no header, label first", write(turned), header=False, text=1, label=0),
        odd("CRLF", write(rows, header=names, line_end="\r\n")),
        odd("CR", write(rows, header=names, line_end="\r")),
        odd("ten rows", write(rows[:10], header=names)),
        odd("three rows, semicolon", write(rows[:3], header=names, delimiter=";"), ";"),
        odd("comment first", b"# exported on Monday\n" + write(rows, header=names)),
        odd("blank line first", b"\n\n" + write(rows, header=names)),
        odd("ragged", write(rows, header=names) + b"a,b,c,d\nonly one\n" * 2),
    ]  # fmt: skip


def _encoded(rows: Sequence[tuple[str, str]], french: Sequence[tuple[str, str]]) -> list[OddFile]:
    """Make files in several encodings."""
    quotes = [(f"{text} “well”… 5 €", label) for text, label in french]
    russian = [(f"{text} Всё очень плохо, спасибо", label) for text, label in rows]
    odd, names = OddFile, _NAMES
    damaged = write(french, header=names).replace("é".encode(), b"\xe9", 3)
    return [
        odd("latin-1, semicolon",
            write(french, header=names, delimiter=";", encoding="latin-1"), ";",
            encoding="latin-1"),
        odd("cp1252", write(quotes, header=names, encoding="cp1252"), encoding="cp1252"),
        odd("cp1252, semicolon, CRLF",
            write(quotes, header=names, delimiter=";", line_end="\r\n", encoding="cp1252"), ";",
            encoding="cp1252"),
        odd("UTF-16",
            write(french, header=names, delimiter="\t", line_end="\r\n", encoding="utf-16"), "\t",
            encoding="utf-16"),
        odd("UTF-16 without a mark", write(rows, header=names, encoding="utf-16-le"),
            encoding="utf-16-le"),
        odd("UTF-32", write(rows, header=names, encoding="utf-32"), encoding="utf-32"),
        odd("UTF-8 mark", write(french, header=names, encoding="utf-8-sig"), encoding="utf-8-sig"),
        odd("UTF-8 mark, semicolon, CRLF",
            write(french, header=names, delimiter=";", line_end="\r\n", encoding="utf-8-sig"), ";",
            encoding="utf-8-sig"),
        odd("UTF-8 with damage", damaged),
        odd("Cyrillic cp1251", write(russian, header=names, encoding="cp1251"), encoding="cp1251"),
    ]  # fmt: skip


def _of_any_columns(rows: Sequence[tuple[str, str]]) -> list[OddFile]:
    """Make files with one to five columns."""
    signs = {"negative": "-1", "neutral": "0", "positive": "1"}
    numbered = [(str(10**9 + 7 * i), *row) for i, row in enumerate(rows)]
    stars = [(text, str(1 + i % 5)) for i, (text, _) in enumerate(rows)]
    days = [
        (text, label, f"{1 + i % 28:02d}/03/2024 10:{i % 60:02d}")
        for i, (text, label) in enumerate(rows)
    ]
    titled = [("Review", text, label) for text, label in rows]
    alone = [(text,) for text, _ in rows]
    padded = [(*row, "", "", "") for row in rows]
    shares = [(f"0,{i % 90 + 10}", *row) for i, row in enumerate(rows)]
    counted = [(str(i), *row) for i, row in enumerate(rows)]
    odd, names = OddFile, _NAMES
    return [
        odd("one column", write(alone, header=("text",)), num_columns=1, label=None),
        odd("one column, no header", write(alone, quote_all=True), header=False, num_columns=1,
            label=None),
        odd("empty columns", write(padded, header=("v2", "v1", "", "", "")), num_columns=5),
        odd("stars", write(stars, header=("review", "stars"))),
        odd("numbers, no header", write([(signs[n], t) for t, n in rows]), header=False, text=1,
            label=0),
        odd("ids, tab", write(numbered, header=("id", *names), delimiter="\t"), "\t",
            num_columns=3, text=1, label=2, columns={"id": 0}),
        odd("ids, no header", write(numbered), header=False, num_columns=3, text=1, label=2,
            columns={"id": 0}),
        odd("day first", write(days, header=("text", "label", "created")), num_columns=3,
            columns={"time": 2}),
        odd("title and text", write(titled, header=("title", "body", "polarity")), num_columns=3,
            text=1, label=2),
        odd("decimal commas, semicolon",
            write(shares, header=("share", *names), delimiter=";"), ";", num_columns=3, text=1,
            label=2),
        odd("index of pandas", write(counted, header=("", *names)), num_columns=3, text=1, label=2),
    ]  # fmt: skip


def _sentiment140_row(number: int, text: str, label: str) -> tuple[str, ...]:
    """Make a row of Sentiment140: target, id, date, flag, user, text."""
    target = "4" if label == "positive" else "0"
    tweet_id = str(1467810369 + 11 * number)
    date = f"Mon Apr 06 22:{number % 60:02d}:45 PDT 2009"
    return target, tweet_id, date, "NO_QUERY", f"user_{number % 90:02d}", text


def _crowd_row(number: int, text: str, label: str) -> dict[str, str]:
    """Make a row of the tweets to airlines, by name of the column."""
    return {
        "tweet_id": str(570306133677760513 + number),
        "airline_sentiment": label,
        "airline_sentiment_confidence": f"{0.3 + number % 7 / 10:.4f}",
        "negativereason": "Late Flight" if label == "negative" else "",
        "airline": "Virgin" if number % 2 else "Delta",
        "airline_sentiment_gold": "" if number % 60 else label,
        "name": f"jnar{number % 120}",
        "retweet_count": str(number % 3),
        "text": text,
        "tweet_coord": "",
        "tweet_created": f"2015-02-{1 + number % 24:02d} 11:35:52 -0800",
        "tweet_location": "Lets Play",
        "user_timezone": "Eastern Time (US & Canada)",
    }


def _wide(rows: Sequence[tuple[str, str]]) -> list[OddFile]:
    """Make files with six or more columns."""
    short = {"negative": "neg", "neutral": "neu", "positive": "pos"}
    tweets = [_sentiment140_row(i, text, label) for i, (text, label) in enumerate(rows)]
    crowd = [_crowd_row(i, text, label) for i, (text, label) in enumerate(rows)]
    crowd_names = tuple(crowd[0])
    crowd_rows = [tuple(row.values()) for row in crowd]
    wide = []
    for i, (text, label) in enumerate(rows):
        day = f"2024-03-{1 + i % 28:02d}T10:00:00Z"
        wide.append((str(i), day, f"kunde{i % 40}", text, short[label], ""))
    wide_names = ("id", "date", "author", "message", "label", "")
    odd = OddFile
    return [
        odd("Sentiment140", write(tweets, quote_all=True), header=False, num_columns=6, text=5,
            label=0, columns={"id": 1, "time": 2, "user": 4}),
        odd("six columns, semicolon", write(wide, header=wide_names, delimiter=";"), ";",
            num_columns=6, text=3, label=4, columns={"id": 0, "time": 1, "user": 2}),
        odd("crowd", write(crowd_rows, header=crowd_names), num_columns=13, text=8, label=1,
            columns={"id": 0, "user": 6, "time": 10}),
    ]  # fmt: skip


_HEADERS = ("q1", "wert", "Spalte B", "col_3", "résumé", "Wie war es?", "x", "Product Line", "v2")
_EXTRAS = ("north", "EU-7", "12.5", "0,3", "", "2024-05-01", "a b", "71", "yes", "N/A")


def make_random(count: int, *, seed: int = 0) -> list[OddFile]:
    """Make files of random form, with names of columns that say nothing."""
    rng = random.Random(seed)
    files = []
    for number in range(count):
        rows = make_rows(
            rng.choice([5, 20, 100, 400]), seed=rng.random(), accents=rng.random() < 0.4
        )
        glue = rng.choice(["", ", ", "; ", " | ", "\n", ' "so" '])
        width = rng.randint(0, 3)
        order = rng.sample(range(width + 2), width + 2)
        fills = [rng.sample(_EXTRAS, 3) for _ in range(width)]
        lines = []
        for text, label in rows:
            written = text
            if rng.random() < 0.5:
                written = f"{text}{glue}{rng.choice(_OPENINGS)}"
            extras = [rng.choice(values) for values in fills]
            cells = [written, label, *extras]
            lines.append([cells[i] for i in order])
        has_header = rng.random() < 0.6
        delimiter = rng.choice(",,;;\t|")
        encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "cp1252", "latin-1"])
        content = write(
            lines,
            header=rng.sample(_HEADERS, width + 2) if has_header else (),
            delimiter=delimiter,
            quote_all=rng.random() < 0.3,
            line_end=rng.choice(["\n", "\n", "\r\n"]),
            encoding=encoding,
        )
        files.append(
            OddFile(
                name=f"random {number}",
                content=content,
                delimiter=delimiter,
                header=has_header,
                num_columns=width + 2,
                encoding=encoding,
                text=order.index(0),
                label=order.index(1),
            )
        )
    return files
