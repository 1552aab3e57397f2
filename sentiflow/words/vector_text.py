"""Text in the form of GloVe or word2vec -> words and their vectors.

Each line is a word and its numbers, with a blank before each number. In word2vec's form a line with
the numbers of words and of dimensions comes first. A word may hold blanks: a few of GloVe's do.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiflow.errors import UserError
from sentiflow.storage.compression import Content, open_content

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 24
"""About as much is parsed at once; a line is shorter."""

_LARGEST = float(np.finfo(np.float32).max)
_BOM = b"\xef\xbb\xbf"
_IN_WORD = "\x1f"
"""Stands for a blank in a word while its line is split at blanks."""
_LINES_LOOKED_AT, _MAX_DIM = 1000, 100_000
_FORM = "write a word and its numbers, with a blank before each, in a line"
_CSV = pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False)


class _Form(NamedTuple):
    dim: int
    num_words: int | None
    """As the first line says; None if it is that of a word already."""


class _LineError(Exception):
    """What is wrong with a line, and the place of that line in its block."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(problem)
        self.place = place


def read(uri: str, *, max_words: int | None = None) -> tuple[pa.Array, np.ndarray]:
    """Read words and vectors from a file, plain or compressed.

    Of a word that stands in several lines the first one counts; the others are left out, and their
    number is logged.

    Args:
        uri: The file, or a member of an archive.
        max_words: Read the lines of so many words; of all by default.

    Returns:
        V strings, and (V, D) float32.

    Raises:
        UserError: A line is no word with D finite numbers, or not UTF-8; or lines are missing.
    """
    parts: list[tuple[pa.Array, np.ndarray]] = []
    num_words, limit = 0, max_words or math.inf
    with open_content(uri) as content:
        blocks = _read_lines(content)
        first = next(blocks, b"").removeprefix(_BOM)
        form = _recognize(first, uri)
        first_line = 1 if form.num_words is None else 2
        rest = first if form.num_words is None else first.partition(b"\n")[2]
        for block in filter(None, chain([rest], blocks)):
            try:
                parts.append(_parse(block, form.dim))
            except _LineError as error:
                line = first_line + num_words + error.place
                raise UserError(f"{uri}, line {line:,}: {error}") from error
            num_words += len(parts[-1][0])
            if num_words >= limit:
                break
    if num_words < min(form.num_words or 1, limit):
        promised = f", not {form.num_words:,} as its first line says" if form.num_words else ""
        raise UserError(f"{uri} holds {num_words:,} words{promised}", hint="is it complete?")
    words, vectors = zip(*parts, strict=True)
    return _leave_repeats_out(pa.concat_arrays(words), np.concatenate(vectors), uri)


def _read_lines(content: Content) -> Iterator[bytes]:
    """Read blocks of whole lines, each with a newline at its end and no blank before that."""
    place, is_complete = 0, False
    while not is_complete:
        block = content.read_at(place, BLOCK_BYTES)
        is_complete = content.ends_at(place + len(block))
        cut = len(block) if is_complete else block.rfind(b"\n") + 1 or len(block)
        lines = block[:cut]
        if is_complete or not lines.endswith(b"\n"):
            lines = lines.rstrip() + b"\n"
        place += cut
        content.forget(place)
        if lines != b"\n":
            yield lines.replace(b"\r\n", b"\n").replace(b" \n", b"\n")


def _recognize(block: bytes, uri: str) -> _Form:
    """Tell from the first lines how many numbers belong to a word."""
    lines = block.split(b"\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT]
    numbers = lines[0].split(b" ")
    if len(lines) > 1 and re.fullmatch(rb"\d{1,12} \d{1,12}", lines[0]):
        form = _Form(dim=int(numbers[1]), num_words=int(numbers[0]))
    else:
        counts = Counter(line.count(b" ") for line in lines if line)
        form = _Form(dim=counts.most_common(1)[0][0] if counts else 0, num_words=None)
    if not 0 < form.dim <= _MAX_DIM:
        raise UserError(f"{uri} holds no word vectors", hint=_FORM)
    return form


def _parse(block: bytes, dim: int) -> tuple[pa.Array, np.ndarray]:
    """Parse the lines of a block.

    Raises:
        _LineError: One of them is no word with ``dim`` finite numbers.
    """
    num_lines = block.count(b"\n")
    joined, places = block, list[int]()
    if block.count(b" ") != num_lines * dim:
        joined, places = _join_words(block, dim)
    names = ["word", *map(str, range(dim))]
    types = dict.fromkeys(names, pa.float32()) | {"word": pa.string()}
    try:
        table = pyarrow.csv.read_csv(
            _to_arrow(joined),
            pyarrow.csv.ReadOptions(column_names=names),
            _CSV,
            pyarrow.csv.ConvertOptions(column_types=types),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise _explain(block, dim, str(error)) from error
    assert len(table) == num_lines
    vectors = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    if not np.isfinite(vectors).all():
        raise _explain(block, dim, "a number is not finite")
    words = table["word"].combine_chunks()
    if places:
        is_joined = np.zeros(num_lines, bool)
        is_joined[places] = True
        words = pc.if_else(is_joined, pc.replace_substring(words, _IN_WORD, " "), words)
    return words, vectors


def _to_arrow(block: bytes) -> pa.BufferReader:
    """Copy bytes: Python's own, held by a thread of Arrow's when Python ends, abort the process."""
    stream = pa.BufferOutputStream()
    stream.write(block)
    return pa.BufferReader(stream.getvalue())


def _join_words(block: bytes, dim: int) -> tuple[bytes, list[int]]:
    """Put something else for the blanks in words, so that each line has ``dim`` blanks.

    Returns:
        The block, and the places of the lines with such words.
    """
    lines, places = block.split(b"\n"), []
    for place, line in enumerate(lines):
        if (extra := line.count(b" ") - dim) > 0:
            if _find_fault(line, dim):
                raise _explain(block, dim, "")
            lines[place] = line.replace(b" ", _IN_WORD.encode(), extra)
            places.append(place)
    return b"\n".join(lines), places


def _explain(block: bytes, dim: int, reason: str) -> _LineError:
    """Find the first line of a block that is not as it should be."""
    lines = block.split(b"\n")[:-1]
    faults = ((place, _find_fault(line, dim)) for place, line in enumerate(lines))
    first = next((_LineError(place, fault) for place, fault in faults if fault), None)
    return first or _LineError(0, f"this line or a later one cannot be read: {reason}")


def _find_fault(line: bytes, dim: int) -> str:
    """Say what is wrong with a line and what to do; nothing if all is well."""
    if not line.strip():
        return "is blank: delete it"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "is not UTF-8: convert the file; of word2vec's binary form, save the text form"
    word, *numbers = line.rsplit(b" ", dim)
    more = word.split(b" ")[1:]
    if len(numbers) < dim or (more and all(map(_is_number, more))):
        found = len(numbers) + len(more)
        return f"has {found} instead of {dim} numbers: is it complete, and a text of word vectors?"
    if b"\r" in line:
        return "has a carriage return in it: delete that"
    if more and _IN_WORD.encode() in word:
        return "has the control character 1F in its word: delete that"
    for number in numbers:
        if not _is_number(number):
            return f"{number.decode(errors='replace')!r} is no number: correct or delete the line"
        if not abs(float(number)) <= _LARGEST:
            return f"{number.decode()} is not finite: correct or delete the line"
    return ""


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text


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
