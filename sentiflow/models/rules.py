"""Our rules -> a short hash of what each does with fixed texts.

A result depends on rules: of sentiflow, and of libraries that it calls, such as the Unicode tables
of Arrow. Their version numbers say little: most versions change no rule. So a stage records what
the rules do with a probe. If a rule changes, the stage sees that its earlier result is another one.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.format_sections import ColumnsSettings, FormatSettings
from sentiflow.data import csv_format, csv_records, manifest, parts
from sentiflow.data.csv_ranges import CsvRange
from sentiflow.data.parts import Part
from sentiflow.models import vocabulary
from sentiflow.models.tokenizer import Tokens, tokenize

_CHARACTERS = (*range(0x20, 0x600), *range(0x600, 0x3100, 3), *range(0x1F000, 0x1FB00, 5))
"""Code points of many scripts, of symbols and of emoji."""
_CHARACTERS_PER_TEXT = 24
_PROBE = (
    "@Ann Sooo can't wait, 10:30! :-) http://t.co/x&amp;y <3 (^_^) hahahaha a.m. 3.5",
    "  I\u2019m   SO haaaappy!!!! \u2665\ufe0f #tag  ISN'T it...? y'all --- e-mail 1,000",
    "stra\u00dfe \ufb01n \u1e9e \u0130stanbul \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 "
    "cafe\u0301 caf\u00e9 \u00bd \u2460 \U0001f468\u200d\U0001f469\U0001f3fd",
    "1 &lt; 2 &gt; 0 &quot;q&quot; &#39;s &apos;s a&nbsp;b R&amp;D www.x.org `tick\u00b4 I\u2019d",
    "=D ;p 4:do </3 ^_^ -.- >.< t_t 1/2 2-0 p.s. they'll o'clock ma'am y'all wow.. bye--now",
    ":'( ahahah",
)
_CSV = (
    b"label,text,who,when,id\r\n"
    b"n,plain, Ann ,2024-01-31T10:00:00+01:00,1\n"
    b'p,"quoted, ""twice""\nover lines",bob,20240131,2\r\n'
    b"\n p ,padded label,,1706659200,\n"
    b"u,neutral caf\xe9 \xff,x,now,4\r"
    b",unlabelled,x,31.01.2024,5\n"
    b"?,unknown label,x,-5,6\n"
    b'n,"   ",x,2024,7\n'
    b"n,a text that is longer than the limit of forty characters,x,2024-02-30,8\n"
    b"n,too,few\n"
    b'n,"misplaced"x,x,2024-01-31,9\n'
    b'p,mid"quote,x,1969-12-31 23:59:59.9,10\n'
    b'n,"unclosed,x,2024-01-31,11\n'
    b"p,last,x,2024-01-31,12"
)
_TOKENS: tuple[list[str], ...] = (
    ["b", "a", "\u00e9", "Z", "<pad>", "a"], ["<unk>", "b", "\u00e9", "once", "a"],
    ["\U0001f600", "e", "\U0001f600", "e", "Z"], ["once only"], [],
)  # fmt: skip
_FORMAT = FormatSettings(
    kind="csv",
    columns=ColumnsSettings(text="text", label="label", id="id", user="who", time="when"),
    labels={"negative": ("n",), "positive": ("p",), "neutral": ("u",)},
    max_text_length=40,
)


@dataclass(frozen=True)
class _Probe(CsvRange):
    content: bytes = b""

    def read(self) -> bytes:
        return self.content


def texts() -> pa.Array:
    """Return the texts on which rules are tried."""
    letters = "".join(map(chr, _CHARACTERS))
    starts = range(0, len(letters), _CHARACTERS_PER_TEXT)
    return pa.array([*_PROBE, *(letters[i : i + _CHARACTERS_PER_TEXT] for i in starts)])


@functools.cache
def hash_rules(tokenizer: str) -> dict[str, str]:
    """Hash the outcome of the rules that turn a CSV into token ids.

    Args:
        tokenizer: Name of the tokenizer.

    Returns:
        Eight hexadecimal digits for each set of rules: ``records`` (where records of a CSV begin
        and end), ``reading`` (accepted and rejected rows, their labels and times), ``tokenizer``,
        and ``vocabulary`` (choice and order of the words, ids of a text).
    """
    tokens = tokenize(texts(), name=tokenizer).to_lists()
    return {
        "records": hash_outcome(_find_records()),
        "reading": hash_outcome(_read_rows()),
        "tokenizer": hash_outcome(tokens.to_pylist()),
        "vocabulary": hash_outcome(_choose_words()),
    }


def hash_outcome(outcome: object) -> str:
    """Hash what JSON can hold to eight hexadecimal digits."""
    return manifest.fingerprint(outcome)[:8]


def _find_records() -> list[object]:
    records, used = csv_records.find_records(_CSV)
    flags = records.malformed.tolist()
    faults = csv_records.name_faults(_CSV, records)
    return [records.starts.tolist(), records.stops.tolist(), flags, faults, used]


def _choose_words() -> list[object]:
    tokens = Tokens.from_lists(pa.array(_TOKENS))
    counts = tokens.count(np.ones(len(_TOKENS), bool))
    table = pa.table({"word": tokens.words, "count": counts})
    words = vocabulary.fit(table, min_count=2, max_size=7)
    some, all_words = words.encode(tokens, max_length=3), vocabulary.from_words(tokens.words)
    return [words.words.to_pylist(), some.token_ids.to_pylist(), all_words.words.to_pylist()]


def _read_rows() -> list[object]:
    found, start = csv_format.resolve(_FORMAT, _CSV, source="probe.csv")
    content = _CSV[start:]
    records, _ = csv_records.find_records(content)
    probe = _Probe("probe.csv", start, len(_CSV), 0, len(records), True, content=content)
    part = Part((probe,), found, {"fingerprint": "", "files": []})
    keep = ("user", "time")
    rows = parts.read(part, required=("label",), keep=keep)
    accepted = parts.take_accepted(rows, keep=keep).drop_columns("split")
    seconds = pc.cast(accepted["time"], pa.int64())
    accepted = accepted.set_column(accepted.schema.get_field_index("time"), "time", seconds)
    return [accepted.to_pylist(), parts.take_rejected(rows).drop_columns("raw").to_pylist()]
