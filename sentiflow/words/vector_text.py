"""Reads text files of word vectors in the format of GloVe or word2vec.

Each line has a word and its numbers, with a space before each number. In the format of word2vec the
first line has the number of words and the number of dimensions. A few words of GloVe contain
spaces.
"""

import codecs
import math
import re
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from sentiflow.errors import UserError
from sentiflow.storage.compression import read_blocks

BLOCK_BYTES = 1 << 24
"""Approximate number of bytes to parse at once; a line is shorter."""

_NUM_FIRST_LINES = 1000
"""Number of lines from which the number of dimensions is inferred."""
_MAX_DIM = 100_000
"""Maximum number of dimensions."""
_NUMBERS = re.compile(rb"( [-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)+")
"""Numbers, each after a space."""
_WORD_AND_NUMBERS = re.compile(rb"[^ ]*" + _NUMBERS.pattern)
"""Matches the word of a line that has more numbers than dimensions."""


class _Vectors(NamedTuple):
    """Words and their vectors."""

    words: pa.Array
    """V strings."""
    vectors: np.ndarray
    """(V, D) float32."""


def read(uri: str, *, max_words: int | None = None) -> tuple[pa.Array, np.ndarray]:
    """Read words and vectors from a file, plain or compressed.

    If a word occurs twice, its first line counts.

    Args:
        uri: The file, or a member of an archive.
        max_words: Stop when at least this many words are read. Default: read all words.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: A line is not UTF-8 or not a word with D finite numbers, or lines are missing.
    """
    parts: list[_Vectors] = []
    num_words = 0
    limit = max_words or math.inf
    with closing(_read_lines(uri)) as blocks:
        first = next(blocks, b"").removeprefix(codecs.BOM_UTF8)
        dim, stated_words = _infer_dimensions(first, uri)
        first_line = 1
        if stated_words is not None:  # the first line has no word
            _, _, first = first.partition(b"\n")
            first_line = 2
        for block in chain([first], blocks):
            if not block:
                continue
            part = _parse_block(block, dim)
            if part is None:
                part = _parse_lines(block, dim, uri, first_line + num_words)
            parts.append(part)
            num_words += len(part.words)
            if num_words >= limit:
                break
    if num_words < min(stated_words or 1, limit):
        problem = f"{uri} holds {num_words:,} words"
        if stated_words:
            problem += f", not {stated_words:,} as its first line says"
        raise UserError(problem, hint="is it complete?")
    words = pa.concat_arrays([part.words for part in parts])
    vectors = np.concatenate([part.vectors for part in parts])
    return _drop_repeated(words, vectors)


def _drop_repeated(words: pa.Array, vectors: np.ndarray) -> _Vectors:
    """Keep the first vector of each word."""
    codes = words.dictionary_encode().indices.to_numpy()
    _, rows = np.unique(codes, return_index=True)
    if len(rows) == len(words):
        return _Vectors(words, vectors)
    return _Vectors(words.take(pa.array(rows)), vectors[rows])


def _read_lines(uri: str) -> Generator[bytes]:
    """Read blocks of whole lines. Each line ends with a newline and no spaces before it."""
    cut_line = b""
    with closing(read_blocks(uri, BLOCK_BYTES)) as blocks:
        block = next(blocks, b"")
        while block:
            following = next(blocks, b"")
            lines = cut_line + block
            end = len(lines)
            if following and b"\n" in lines:  # the last line may go on in the next block
                end = lines.rfind(b"\n") + 1
            cut_line = lines[end:]
            lines = lines[:end]
            if not following or not lines.endswith(b"\n"):
                lines = lines.rstrip() + b"\n"
            if lines != b"\n":
                yield lines.replace(b"\r\n", b"\n").replace(b" \n", b"\n")
            block = following


def _infer_dimensions(block: bytes, uri: str) -> tuple[int, int | None]:
    """Infer the number of dimensions from the first lines.

    It is on the first line (word2vec), or it is the most frequent number of spaces in a line.

    Returns:
        The number of dimensions; and the number of words, or None if the first line does not have
        it.

    Raises:
        UserError: The number of dimensions is 0 or too large.
    """
    lines = block.split(b"\n", _NUM_FIRST_LINES)[:_NUM_FIRST_LINES]
    num_words: int | None = None
    dim = 0
    num_spaces = Counter(line.count(b" ") for line in lines if line)
    if len(lines) > 1 and re.fullmatch(rb"\d{1,12} \d{1,12}", lines[0]):
        num_words, dim = [int(number) for number in lines[0].split(b" ")]
    elif num_spaces:
        dim, _ = num_spaces.most_common(1)[0]
    if not 0 < dim <= _MAX_DIM:
        raise UserError(
            f"{uri} holds no word vectors",
            hint="write a word and its numbers on each line, with a space before each number",
        )
    return dim, num_words


def _parse_block(block: bytes, dim: int) -> _Vectors | None:
    """Parse all lines of a block at once, which is fast.

    Returns:
        The words and vectors; None if a line is not a word without spaces and ``dim`` finite
        numbers.
    """
    num_lines = block.count(b"\n")
    if block.count(b" ") != num_lines * dim:
        return None
    number_names = [str(number) for number in range(dim)]
    names = ["word", *number_names]
    types = dict.fromkeys(number_names, pa.float32()) | {"word": pa.string()}
    # a copy: if a thread of Arrow holds memory of Python when Python exits, the process aborts
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
    if len(table) != num_lines or not np.isfinite(vectors).all():
        return None
    return _Vectors(table["word"].combine_chunks(), vectors)


def _parse_lines(block: bytes, dim: int, uri: str, first_line: int) -> _Vectors:
    """Parse the lines of a block one by one, which is slow: a word may have spaces.

    Raises:
        UserError: A line is not a word with ``dim`` finite numbers, in UTF-8.
    """
    words = []
    vectors = []
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        parsed = _parse_line(line, dim)
        if parsed is None:
            raise UserError(
                f"{uri}, line {number:,} is not a word with {dim} finite numbers, in UTF-8",
                hint="correct or delete it; is it a complete text file of vectors?",
            )
        word, vector = parsed
        words.append(word)
        vectors.append(vector)
    return _Vectors(pa.array(words, pa.string()), np.array(vectors, np.float32))


def _parse_line(line: bytes, dim: int) -> tuple[str, np.ndarray] | None:
    """Parse a word and its vector, D float64; None if the line is not a word and finite numbers."""
    word, *numbers = line.rsplit(b" ", dim)
    if len(numbers) != dim or not _NUMBERS.fullmatch(line, len(word)) or b"\r" in line:
        return None
    vector = np.array(numbers, np.float64)
    text = word.decode(errors="replace")
    is_utf8 = text.encode() == word
    is_word = is_utf8 and not _WORD_AND_NUMBERS.fullmatch(word)
    if not is_word or np.abs(vector).max() > np.finfo(np.float32).max:
        return None
    return text, vector
