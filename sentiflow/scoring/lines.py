"""Lines of text -> a line of answer for each, as tab-separated values or JSON."""

import codecs
import collections
import concurrent.futures
import io
import json
import os
import select
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.cluster import memory
from sentiflow.data.schema import LABEL_NAMES
from sentiflow.errors import JobError
from sentiflow.models.package import ModelPackage, Scores

BLOCK_BYTES = 1 << 20
"""About as much is answered at once."""
MAX_THREADS = 8

Render = Callable[[pa.Array, Scores], bytes]
Block = tuple[pa.Array, bool]
"""Some lines, and whether more are there to be read at once."""

_FOUR_DIGITS = pa.array([f"{number / 10_000:.4f}" for number in range(10_001)])
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_ONLY_PRIOR = "\t(no known word: the prior)"


def answer(package: ModelPackage, blocks: Iterable[Block], out: BinaryIO, render: Render) -> None:
    """Score blocks of lines on all cores, and write the answers in order.

    What is answered is written before more is waited for, so that one can talk to it line by line.

    Args:
        package: The model.
        blocks: From :func:`read` or :func:`take`.
        out: Takes the answers.
        render: :func:`to_tsv` or :func:`to_json`.
    """
    torch.set_num_threads(1)
    memory.keep_freed()
    num_threads = min(_count_cores(), MAX_THREADS)
    pending: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()

    def work(text: pa.Array) -> bytes:
        scores = package.score(text)
        if not np.isfinite(scores.probability).all():
            row = int(np.flatnonzero(~np.isfinite(scores.probability))[0])
            raise JobError(f"the model has no probability for {text[row].as_py()[:60]!r}")
        return render(text, scores)

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for text, more in blocks:
            pending.append(pool.submit(work, text))
            while pending and (not more or len(pending) > num_threads):
                out.write(pending.popleft().result())
            if not more:
                out.flush()


def _count_cores() -> int:
    """Count the cores that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take(texts: Iterable[str]) -> Iterator[Block]:
    """Make one block of texts."""
    yield pa.array(texts, pa.string()), False


def read(stream: BinaryIO) -> Iterator[Block]:
    """Cut a stream into blocks of whole lines, as much as is there at the time.

    Lines end with a line feed, before which a carriage return is dropped; the last may lack it.
    Broken UTF-8 is replaced, a byte order mark at the beginning dropped.
    """
    rest: list[bytes] = []
    size, has_line, is_first = 0, False, True
    while content := stream.read1(BLOCK_BYTES):  # type: ignore[attr-defined]
        rest.append(content)
        size += len(content)
        has_line = has_line or b"\n" in content
        more = _is_ready(stream)
        if not has_line or (more and size < BLOCK_BYTES):
            continue
        block, _, begun = b"".join(rest).rpartition(b"\n")
        if is_first:
            block, is_first = block.removeprefix(codecs.BOM_UTF8), False
        yield _split(block), more
        rest, size, has_line = [begun], len(begun), False
    last = b"".join(rest)
    if is_first:
        last = last.removeprefix(codecs.BOM_UTF8)
    if last:
        yield _split(last.removesuffix(b"\n")), False


def _is_ready(stream: BinaryIO) -> bool:
    """Say whether reading would not wait."""
    try:
        return bool(select.select([stream.fileno()], [], [], 0)[0])
    except io.UnsupportedOperation:  # it is in memory
        return True


def _split(block: bytes) -> pa.Array:
    """Make a row of each line."""
    if not block.isascii():
        block = block.decode(errors="replace").encode()
    content = np.frombuffer(block + b"\n", np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    offsets = np.concatenate([[0], ends + 1]).astype(np.int32)
    lines = pa.StringArray.from_buffers(
        len(ends), pa.py_buffer(offsets), pa.py_buffer(content.tobytes())
    )
    return pc.replace_substring_regex(lines, r"\r?\n$", "") if len(ends) else lines


def to_tsv(text: pa.Array, scores: Scores, *, with_notes: bool = False) -> bytes:
    """Write label, probability of positive and text; tabs in it become blanks.

    Args:
        text: N strings.
        scores: Of them.
        with_notes: Say, in a fourth column, where only the prior spoke: for people, not programs.
    """
    ten_thousandths = np.rint(scores.probability * 10_000).astype(np.int32)
    notes = pa.array(["", _ONLY_PRIOR if with_notes else ""])
    doubt = notes.take(pa.array((scores.num_tokens == 0).astype(np.int8)))
    shown = pc.replace_substring_regex(text, r"[\t\n\r]", " ")
    columns = (_labels(scores), _FOUR_DIGITS.take(pa.array(ten_thousandths)), shown)
    return _join_lines(pc.binary_join_element_wise(*columns, "\t"), doubt)


def to_json(text: pa.Array, scores: Scores) -> bytes:
    """Write an object with text, label, probability and number of known words."""
    probability = pa.array(scores.probability).cast(pa.string())
    num_tokens = pa.array(scores.num_tokens).cast(pa.string())
    parts = (
        ('{"text": ', _quote(text)),
        (', "label": "', _labels(scores)),
        ('", "probability": ', probability),
        (', "num_tokens": ', num_tokens),
    )
    return _join_lines(*(item for part in parts for item in part), "}")


def _labels(scores: Scores) -> pa.Array:
    return pa.array(LABEL_NAMES).take(pa.array(scores.prediction))


def _quote(text: pa.Array) -> pa.Array:
    """Write strings as JSON has them; few need more than quotes."""
    quoted = pc.binary_join_element_wise('"', text, '"', "")
    special = pc.match_substring_regex(text, _NEEDS_ESCAPE)
    if not pc.any(special).as_py():
        return quoted
    escaped = [json.dumps(item, ensure_ascii=False) for item in text.filter(special).to_pylist()]
    return pc.replace_with_mask(quoted, special, pa.array(escaped))


def _join_lines(*columns: pa.Array | str) -> bytes:
    lines = pc.binary_join_element_wise(*columns, "\n", "")
    whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    return pc.binary_join(whole, "")[0].as_buffer().to_pybytes()
