"""Near-copies that ``prepare.duplicate_key: template`` finds, and texts that it takes for copies.

    python benchmarks/near_copies.py [FILE:COLUMN ...] [--pairs 20]

COLUMN is a name, or a number in a CSV without a header. Without files: rows of ``sentiflow
sample``.

- planted: 1,000 different texts of three words or more, one thing changed in each. *together*: the
  copy has the key of its text.
- short: 1,000 different texts of at most 40 characters. *pairs*: two of them have one key.
  *other words*: pairs whose letters and digits differ, too, once mentions and links are removed by
  a plain rule; the pairs of the whole file are shown.
- all: different texts of the whole file that share a key with another one.
- seconds for 100,000 texts: the time of both keys.

``--pairs`` shows some pairs of texts with one key.
"""

import itertools
import random
import re
import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import measuring
import pandas as pd
import pyarrow as pa
from measuring import Table

from sentiflow.data.arrays import normalize_text
from sentiflow.data.sample import generate
from sentiflow.models import text_keys

NUM_TEXTS = 1000
SHORT = 40
"""Characters of a short text."""


def change_mention(text: str, rng: random.Random) -> str:
    """Put another name in front of a text."""
    return f"@name_{rng.randrange(1000)} {text}"


def change_link(text: str, rng: random.Random) -> str:
    """Append a link."""
    return f"{text} http://example.com/{rng.randrange(1000)}"


def change_marks(text: str, rng: random.Random) -> str:
    """Append marks or an emoji, and remove the marks at the end."""
    return text.rstrip(" .!?") + rng.choice(["!!!", "...", " 😀", "?!", " :)", " ❤️", ""])


def change_case(text: str, rng: random.Random) -> str:
    """Write a text in capital letters."""
    return text.upper()


def lengthen(text: str, rng: random.Random) -> str:
    """Repeat the last letter of a word."""
    words = text.split()
    places = [place for place, word in enumerate(words) if word.isascii() and word.isalpha()]
    if places:
        place = rng.choice(places)
        words[place] += words[place][-1] * 3
    return " ".join(words)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "mention": change_mention,
    "link": change_link,
    "mark": change_marks,
    "case": change_case,
    "elongation": lengthen,
}


def make_keys(texts: list[str]) -> list[str]:
    """Make template keys."""
    return list(text_keys.make(pa.array(texts, pa.string()), "template").to_pylist())


def plant(texts: list[str], seed: int, change: str) -> dict[str, float]:
    """Count the copies that have the key of their text."""
    rng = random.Random(seed)
    keys = make_keys(texts)
    long = [text for text, key in zip(texts, keys, strict=True) if key.startswith(" ")]
    chosen = rng.sample(long, min(NUM_TEXTS, len(long)))
    copies = [CHANGES[change](text, rng) for text in chosen]
    same = [a == b for a, b in zip(make_keys(chosen), make_keys(copies), strict=True)]
    return {"texts": len(chosen), "together": sum(same)}


def find_pairs(texts: list[str]) -> list[list[str]]:
    """Group different texts with one key."""
    by_key = defaultdict(list)
    for text, key in zip(texts, make_keys(texts), strict=True):
        by_key[key].append(text)
    return [group for group in by_key.values() if len(group) > 1]


def is_of_other_words(pair: tuple[str, str]) -> bool:
    """Whether two texts have other letters or digits, beside mentions, links and case."""
    plain = [re.sub(r"https?://\S+|www\.\S+|@\w+|&\w+;", " ", text.lower()) for text in pair]
    return re.sub(r"[\W_]", "", plain[0]) != re.sub(r"[\W_]", "", plain[1])


def list_pairs(groups: list[list[str]]) -> list[tuple[str, str]]:
    """List the pairs of texts with one key."""
    return [pair for group in groups for pair in itertools.combinations(group, 2)]


def draw_short(texts: list[str], seed: int) -> dict[str, float]:
    """Count the pairs among short texts."""
    short = [text for text in texts if len(text) <= SHORT]
    chosen = random.Random(seed).sample(short, min(NUM_TEXTS, len(short)))
    pairs = list_pairs(find_pairs(chosen))
    other_words = sum(map(is_of_other_words, pairs))
    return {"texts": len(chosen), "pairs": len(pairs), "other words": other_words}


def count_all(texts: list[str]) -> dict[str, float]:
    """Count the texts that share a key with another text."""
    groups = find_pairs(texts)
    return {"texts": len(texts), "in groups": sum(map(len, groups)), "groups": len(groups)}


def measure_time(texts: list[str], kind: str) -> dict[str, float]:
    """Measure how long the keys take."""
    column = pa.array(texts, pa.string())
    began = time.perf_counter()
    text_keys.make(column, kind)  # type: ignore[arg-type]
    return {"s for 100,000": 1e5 / len(texts) * (time.perf_counter() - began)}


def read(source: str) -> list[str]:
    """Read the different texts of a file."""
    path, _, column = source.rpartition(":")
    header = None if column.isdigit() else "infer"
    table = pd.read_csv(path, header=header, encoding_errors="replace", dtype=str)
    name = int(column) if column.isdigit() else column
    return keep_different(table[name].dropna().tolist())


def keep_different(texts: list[str]) -> list[str]:
    """Keep one of texts that are equal except for case and white space."""
    normalized = normalize_text(pa.array(texts, pa.string())).to_pylist()
    return list(dict(zip(reversed(normalized), reversed(texts), strict=True)).values())


def list_tables(folder: Path, given: Namespace) -> Iterator[Table]:
    """Read the files."""
    corpora = {Path(str(source)).name: read(str(source)) for source in given.inputs}
    if not corpora:
        path = folder / "sample.csv"
        path.write_bytes(b"".join(generate(num_rows=20_000, seed=1)))
        corpora = {"sample": read(f"{path}:5")}
    for name, texts in corpora.items():
        yield (
            f"{name}: planted",
            {change: partial(plant, texts, 0, change) for change in CHANGES},
        )
        yield f"{name}: short", {"short texts": partial(draw_short, texts, 0)}
        yield f"{name}: all", {"all texts": partial(count_all, texts)}
        yield (
            f"{name}: time",
            {kind: partial(measure_time, texts, kind) for kind in ("exact", "template")},
        )
        groups = find_pairs(texts)
        for pair in filter(is_of_other_words, list_pairs(groups)):
            print("other words", *map(repr, pair), sep="\n", end="\n\n", file=sys.stderr)
        for group in random.Random(1).sample(groups, min(given.pairs, len(groups))):
            print("\n".join(repr(text) for text in group[:2]), end="\n\n", file=sys.stderr)


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, pairs=0)
