"""Memory of the driver of ``prepare`` for each distinct word of a corpus.

    python benchmarks/distinct_words.py [--words 1000000 2000000 4000000]

Each part of the corpus has a quarter of a million words of 4 to 12 letters, half of which other
parts have, too. The driver adds their counts up and fits the vocabulary, in a process of its own.
Bytes a word are the peak memory of this process beyond that of a corpus of 1,000 words, divided by
the number of distinct words. Linux only.
"""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import measuring
import numpy as np
import pyarrow as pa
from measuring import Table

PART_WORDS = 250_000
"""Words of a part."""
FEW = 1000
"""Words of the corpus whose memory is taken away."""


def write_parts(folder: Path, num_words: int) -> int:
    """Write the words of each part with their counts; return the number of distinct words."""
    from sentiflow.storage import filesystem

    rng = np.random.default_rng(0)
    letters = rng.integers(ord("a"), ord("z") + 1, (num_words, 12), np.uint8)
    lengths = rng.integers(4, 13, num_words)
    words = [bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)]
    distinct = list(dict.fromkeys(words))
    step = PART_WORDS // 2
    for number, start in enumerate(range(0, len(distinct), step)):
        chosen = distinct[start : start + PART_WORDS]
        counts = rng.integers(1, 9, len(chosen))
        table = pa.table({"word": chosen, "count": pa.array(counts, pa.int64())})
        filesystem.write_arrow(str(folder / f"{number:04d}.arrow"), table)
    return len(distinct)


def fit(folder: Path) -> float:
    """Do what the driver does with the words of all parts; return its peak memory in MB."""
    from sentiflow.models import vocabulary
    from sentiflow.preparation.flow import Flow

    uris = [str(path) for path in sorted(folder.iterdir())]
    parts = SimpleNamespace(work_files=lambda name: uris)
    vocabulary.fit(Flow.count_words(parts), min_count=2, max_size=None)
    return measuring.peak_mb()


def run(folder: Path, num_words: int, base: float) -> dict[str, float]:
    """Measure a corpus, given the MB of a small one."""
    (found,) = measuring.in_processes([partial(fit, folder)])
    return {"MB": found, "bytes a word": 1e6 * (found - base) / num_words}


def list_tables(folder: Path, given: Namespace) -> Iterator[Table]:
    """Write the corpora."""
    few = folder / "few"
    few.mkdir()
    write_parts(few, FEW)
    (base,) = measuring.in_processes([partial(fit, few)])
    contestants = {}
    for number in given.words:
        place = folder / str(number)
        place.mkdir()
        num_words = write_parts(place, number)
        contestants[f"{num_words:,}"] = partial(run, place, num_words, base)
    yield "distinct words", contestants


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, words=[1_000_000, 2_000_000, 4_000_000])
