"""Reads text files of word vectors in the format of GloVe or word2vec.

Each line has a word and its numbers, with a space before each number. In word2vec's format the
first line has the number of words and of dimensions. A word may contain spaces, as a few of GloVe's
do.
"""

import bisect
import logging
import math
import re
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.errors import UserError
from sentiflow.storage.compression import read_blocks

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 24
"""About as much is parsed at once; a line is shorter."""

_BOM = b"\xef\xbb\xbf"
_LINES_LOOKED_AT, _MAX_DIM = 1000, 100_000
_WITH_NUMBERS = re.compile(rb"[^ ]*( [-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)+")
_FORMAT = "write a word and its numbers on each line, with a space before each number"
_CSV = pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False)


def read(uri: str, *, max_words: int | None = None) -> tuple[pa.Array, np.ndarray]:
    """Read words and vectors from a file, plain or compressed.

    If a word is repeated, its first line counts; the number of the other lines is logged.

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
        first = next(blocks, b"").removeprefix(_BOM)
        dim, promised = _recognize(first, uri)
        first_line = 1 if promised is None else 2
        first = first if promised is None else first.partition(b"\n")[2]
        for block in filter(None, chain([first], blocks)):
            try:
                parts.append(_parse(block, dim))
            except ValueError as error:
                line = first_line + num_words + _find_first_fault(block, dim)
                raise UserError(
                    f"{uri}, line {line:,} is not a word with {dim} finite numbers, in UTF-8",
                    hint="correct or delete it; is it a complete text file of vectors?",
                ) from error
            num_words += len(parts[-1][0])
            if num_words >= limit:
                break
    if num_words < min(promised or 1, limit):
        expected = f", not {promised:,} as its first line says" if promised else ""
        raise UserError(f"{uri} holds {num_words:,} words{expected}", hint="is it complete?")
    words, vectors = zip(*parts, strict=True)
    return _leave_repeats_out(pa.concat_arrays(words), np.concatenate(vectors), uri)


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
        raise UserError(f"{uri} holds no word vectors", hint=_FORMAT)
    return dim, num_words


def _parse(block: bytes, dim: int) -> tuple[pa.Array, np.ndarray]:
    """Parse the lines of a block.

    Raises:
        ValueError: A line is not a word with ``dim`` finite numbers, in UTF-8.
    """
    num_lines = block.count(b"\n")
    spaced: dict[int, str] = {}
    if block.count(b" ") != num_lines * dim:
        block, spaced = _take_out_words(block, dim)
    names = ["word", *map(str, range(dim))]
    types = dict.fromkeys(names, pa.float32()) | {"word": pa.string()}
    # If a thread of Arrow holds memory of Python when Python exits, the process aborts.
    stream = pa.BufferOutputStream()
    stream.write(block)
    table = pyarrow.csv.read_csv(
        pa.BufferReader(stream.getvalue()),
        pyarrow.csv.ReadOptions(column_names=names),
        _CSV,
        pyarrow.csv.ConvertOptions(column_types=types),
    ).combine_chunks()
    vectors = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    if len(table) != num_lines or not np.isfinite(vectors).all():
        raise ValueError("a carriage return in a line, or a number that is not finite")
    words = table["word"].combine_chunks()
    if spaced:
        is_spaced = np.isin(np.arange(num_lines), list(spaced))
        words = pc.replace_with_mask(words, is_spaced, pa.array(spaced.values(), pa.string()))
    return words, vectors


def _take_out_words(block: bytes, dim: int) -> tuple[bytes, dict[int, str]]:
    """Take words with spaces out, so that each line without an error has ``dim`` spaces.

    Returns:
        The block, and these words by the index of the line.

    Raises:
        ValueError: Such a word is not UTF-8, or ends in numbers: then there are too many.
    """
    lines, words = block.split(b"\n"), {}
    for index, line in enumerate(lines):
        if line.count(b" ") > dim:
            word = line.rsplit(b" ", dim)[0]
            if _WITH_NUMBERS.fullmatch(word):
                raise ValueError("too many numbers")
            words[index], lines[index] = word.decode(), line[len(word) :]
    return b"\n".join(lines), words


def _find_first_fault(block: bytes, dim: int) -> int:
    """Find the first line of a block that cannot be parsed, by halving; return its index."""
    lines = block.splitlines(keepends=True)

    def fails(last: int) -> bool:
        try:
            _parse(b"".join(lines[: last + 1]), dim)
        except ValueError:
            return True
        return False

    return bisect.bisect_left(range(len(lines)), True, key=fails)


def _leave_repeats_out(
    words: pa.Array, vectors: np.ndarray, uri: str
) -> tuple[pa.Array, np.ndarray]:
    encoded = words.dictionary_encode()
    num_repeats = len(words) - len(encoded.dictionary)
    if num_repeats == 0:
        return words, vectors
    log.info("%s", f"{uri}: repeated words are left out: {num_repeats:,}")
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    return words.take(pa.array(first)), vectors[first]
