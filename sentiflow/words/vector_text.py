"""Reads text files of word vectors in the format of GloVe or word2vec.

Each line has a word and its numbers, with a space before each number. In word2vec's format the
first line has the number of words and of dimensions. A word may contain spaces, as a few of GloVe's
do.
"""

import codecs
import math
import re
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.csv

from sentiflow.errors import UserError
from sentiflow.storage.compression import read_blocks

BLOCK_BYTES = 1 << 24
"""About as much is parsed at once; a line is shorter."""

_LINES_LOOKED_AT, _MAX_DIM = 1000, 100_000
_NUMBERS = re.compile(rb"( [-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)+")
_WITH_NUMBERS = re.compile(rb"[^ ]*" + _NUMBERS.pattern)


def read(uri: str, *, max_words: int | None = None) -> tuple[pa.Array, np.ndarray]:
    """Read words and vectors from a file, plain or compressed.

    If a word is repeated, its first line counts.

    Args:
        uri: The file, or a member of an archive.
        max_words: Read only this many words. Default: all.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: A line is not UTF-8 or not a word with D finite numbers, or lines are missing.
    """
    parts: list[tuple[pa.Array, np.ndarray]] = []
    num_words, limit = 0, max_words or math.inf
    with closing(_read_lines(uri)) as blocks:
        first = next(blocks, b"").removeprefix(codecs.BOM_UTF8)
        dim, promised = _recognize(first, uri)
        first_line = 1 if promised is None else 2
        first = first if promised is None else first.partition(b"\n")[2]
        for block in filter(None, chain([first], blocks)):
            line = first_line + num_words
            parts.append(_parse(block, dim) or _parse_lines(block, dim, uri, line))
            num_words += len(parts[-1][0])
            if num_words >= limit:
                break
    if num_words < min(promised or 1, limit):
        expected = f", not {promised:,} as its first line says" if promised else ""
        raise UserError(f"{uri} holds {num_words:,} words{expected}", hint="is it complete?")
    words = pa.concat_arrays([words for words, _ in parts])
    vectors = np.concatenate([vectors for _, vectors in parts])
    _, rows = np.unique(words.dictionary_encode().indices.to_numpy(), return_index=True)
    if len(rows) < len(words):
        return words.take(pa.array(rows)), vectors[rows]
    return words, vectors


def _read_lines(uri: str) -> Generator[bytes]:
    """Read blocks of whole lines. Each line ends with a newline and no spaces before it."""
    cut_line = b""
    with closing(read_blocks(uri, BLOCK_BYTES)) as blocks:
        block = next(blocks, b"")
        while block:
            following = next(blocks, b"")
            lines = cut_line + block
            cut = (lines.rfind(b"\n") + 1 if following else 0) or len(lines)
            lines, cut_line, block = lines[:cut], lines[cut:], following
            if not following or not lines.endswith(b"\n"):
                lines = lines.rstrip() + b"\n"
            if lines != b"\n":
                yield lines.replace(b"\r\n", b"\n").replace(b" \n", b"\n")


def _recognize(block: bytes, uri: str) -> tuple[int, int | None]:
    """Infer from the first lines how many numbers belong to a word.

    Returns:
        That number, and the number of words; None if the first line already holds a word.
    """
    lines = block.split(b"\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT]
    num_words: int | None
    if len(lines) > 1 and re.fullmatch(rb"\d{1,12} \d{1,12}", lines[0]):
        num_words, dim = map(int, lines[0].split(b" "))
    else:
        counts = Counter(line.count(b" ") for line in lines if line)
        num_words, dim = None, counts.most_common(1)[0][0] if counts else 0
    if not 0 < dim <= _MAX_DIM:
        raise UserError(
            f"{uri} holds no word vectors",
            hint="write a word and its numbers on each line, with a space before each number",
        )
    return dim, num_words


def _parse(block: bytes, dim: int) -> tuple[pa.Array, np.ndarray] | None:
    """Parse the lines of a block at once; None if one is not a word without spaces, and numbers."""
    num_lines = block.count(b"\n")
    if block.count(b" ") != num_lines * dim:
        return None
    names = ["word", *map(str, range(dim))]
    types = dict.fromkeys(names, pa.float32()) | {"word": pa.string()}
    # If a thread of Arrow holds memory of Python when Python exits, the process aborts.
    stream = pa.BufferOutputStream()
    stream.write(block)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(stream.getvalue()),
            pyarrow.csv.ReadOptions(column_names=names),
            pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types=types),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    vectors = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    is_right = len(table) == num_lines and np.isfinite(vectors).all()
    return (table["word"].combine_chunks(), vectors) if is_right else None


def _parse_lines(block: bytes, dim: int, uri: str, first_line: int) -> tuple[pa.Array, np.ndarray]:
    """Parse the lines of a block one by one: a word may have spaces.

    Raises:
        UserError: A line is not a word with ``dim`` finite numbers, in UTF-8.
    """
    words, vectors = [], []
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        word, *numbers = line.rsplit(b" ", dim)
        words.append(word.decode(errors="replace"))
        has_numbers = len(numbers) == dim and _NUMBERS.fullmatch(line, len(word))
        vectors.append(np.array(numbers if has_numbers else [np.inf], np.float64))
        is_word = words[-1].encode() == word and not _WITH_NUMBERS.fullmatch(word)
        if not is_word or b"\r" in line or np.abs(vectors[-1]).max() > np.finfo(np.float32).max:
            raise UserError(
                f"{uri}, line {number:,} is not a word with {dim} finite numbers, in UTF-8",
                hint="correct or delete it; is it a complete text file of vectors?",
            )
    return pa.array(words, pa.string()), np.array(vectors, np.float32)
