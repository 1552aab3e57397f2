"""Reads text files of word vectors in the format of GloVe or word2vec.

Each line has a word and its numbers, with a space before each number. In the format of word2vec the
first line has the number of words and the number of dimensions. A word may contain spaces, like a
few words of GloVe.
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
"""Bytes to parse at once, about; a line is shorter."""

_LINES_LOOKED_AT = 1000
"""Lines that the number of dimensions is inferred from."""
_MAX_DIM = 100_000
"""Maximum number of dimensions."""
_NUMBERS = re.compile(rb"( [-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)+")
"""Numbers, each after a space."""
_WITH_NUMBERS = re.compile(rb"[^ ]*" + _NUMBERS.pattern)
"""A word with too many numbers."""

_Part = tuple[pa.Array, np.ndarray]
"""V words, and (V, D) float32 vectors."""


def read(uri: str, *, max_words: int | None = None) -> tuple[pa.Array, np.ndarray]:
    """Read words and vectors from a file, plain or compressed.

    If a word occurs twice, its first line counts.

    Args:
        uri: The file, or a member of an archive.
        max_words: Read only this many words. Default: all.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: A line is not UTF-8 or not a word with D finite numbers, or lines are missing.
    """
    parts: list[_Part] = []
    num_words = 0
    limit = max_words or math.inf
    with closing(_read_lines(uri)) as blocks:
        first = next(blocks, b"").removeprefix(codecs.BOM_UTF8)
        dim, promised = _recognize(first, uri)
        line = 1
        if promised is not None:  # the first line is no word
            first = first.partition(b"\n")[2]
            line = 2
        for block in chain([first], blocks):
            if not block:
                continue
            part = _parse(block, dim) or _parse_lines(block, dim, uri, line + num_words)
            parts.append(part)
            num_words += len(part[0])
            if num_words >= limit:
                break
    if num_words < min(promised or 1, limit):
        problem = f"{uri} holds {num_words:,} words"
        if promised:
            problem += f", not {promised:,} as its first line says"
        raise UserError(problem, hint="is it complete?")
    words = pa.concat_arrays([words for words, _ in parts])
    vectors = np.concatenate([vectors for _, vectors in parts])
    return _drop_repeated(words, vectors)


def _drop_repeated(words: pa.Array, vectors: np.ndarray) -> _Part:
    """Keep the first vector of each word."""
    codes = words.dictionary_encode().indices.to_numpy()
    _, rows = np.unique(codes, return_index=True)
    if len(rows) == len(words):
        return words, vectors
    return words.take(pa.array(rows)), vectors[rows]


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


def _recognize(block: bytes, uri: str) -> tuple[int, int | None]:
    """Infer the number of dimensions from the first lines.

    Returns:
        That number; and the number of words, or None if the first line does not tell it.
    """
    lines = block.split(b"\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT]
    num_words: int | None = None
    dim = 0
    if len(lines) > 1 and re.fullmatch(rb"\d{1,12} \d{1,12}", lines[0]):
        num_words, dim = map(int, lines[0].split(b" "))
    elif counts := Counter(line.count(b" ") for line in lines if line):
        dim, _ = counts.most_common(1)[0]
    if not 0 < dim <= _MAX_DIM:
        raise UserError(
            f"{uri} holds no word vectors",
            hint="write a word and its numbers on each line, with a space before each number",
        )
    return dim, num_words


def _parse(block: bytes, dim: int) -> _Part | None:
    """Parse the lines of a block at once; None if a line is no word without spaces, and numbers."""
    num_lines = block.count(b"\n")
    if block.count(b" ") != num_lines * dim:
        return None
    names = ["word", *map(str, range(dim))]
    types = dict.fromkeys(names, pa.float32()) | {"word": pa.string()}
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
    return table["word"].combine_chunks(), vectors


def _parse_lines(block: bytes, dim: int, uri: str, first_line: int) -> _Part:
    """Parse the lines of a block one by one: a word may have spaces.

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
        words.append(parsed[0])
        vectors.append(parsed[1])
    return pa.array(words, pa.string()), np.array(vectors, np.float32)


def _parse_line(line: bytes, dim: int) -> tuple[str, np.ndarray] | None:
    """Parse a word and its vector, D float64; None if the line is not a word and finite numbers."""
    word, *numbers = line.rsplit(b" ", dim)
    if len(numbers) != dim or not _NUMBERS.fullmatch(line, len(word)) or b"\r" in line:
        return None
    vector = np.array(numbers, np.float64)
    text = word.decode(errors="replace")
    is_word = text.encode() == word and not _WITH_NUMBERS.fullmatch(word)
    if not is_word or np.abs(vector).max() > np.finfo(np.float32).max:
        return None
    return text, vector
