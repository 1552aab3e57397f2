"""Lines of text -> their predictions, one line each, as tab-separated values or JSON."""

import codecs
import io
import json
import select
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sentiflow.cluster import memory
from sentiflow.data.schema import BINARY
from sentiflow.errors import printable
from sentiflow.models.package import PIECE, ModelPackage
from sentiflow.models.scores import Scores

BLOCK_BYTES = 1 << 23
"""Approximate size of a block of lines: some pieces for each core."""

Block = tuple[pa.Array, bool]
"""Some lines, and whether more input is available without waiting."""

_JSON, _ASCII_JSON = json.JSONEncoder(ensure_ascii=False), json.JSONEncoder()
_BLANKS = str.maketrans("\t\n\r\0", "   \ufffd")
_SHOWN = {
    code: printable(chr(code))
    for part in ((0, 0x20), (0x7F, 0xA0), (0x2028, 0x202F), (0x2066, 0x206A))
    for code in range(*part)
} | _BLANKS
"""Characters that control a terminal, or the direction of what follows, are escaped."""
_NO_KNOWN_WORD, _UNSURE = "\t(no known word: the prior)", "\tunsure"


def predict(
    package: ModelPackage,
    blocks: Iterable[Block],
    out: BinaryIO,
    render: Callable[[pa.Array, Scores], bytes],
) -> None:
    """Score blocks of lines on all cores, and write the predictions in order.

    Predictions are written before more input is awaited, so that it can be used interactively.

    Args:
        package: The model.
        blocks: Blocks of :func:`read`, or one.
        out: Stream for the predictions.
        render: :func:`to_tsv` or :func:`to_json`.
    """
    memory.keep_freed()
    for text, more in blocks:
        pieces = (text[at : at + PIECE] for at in range(0, len(text), PIECE))
        out.write(render(text, package.score_pieces(pieces)))
        if not more:
            out.flush()


def read(stream: BinaryIO) -> Iterator[Block]:
    """Read blocks of whole lines from a stream, as large as the input available at the time.

    Lines end with LF or CRLF; the last line may lack it. Invalid UTF-8 is replaced, and a byte
    order mark at the beginning is dropped.
    """
    held, is_first, content = bytearray(), True, b"not the end"
    while content:
        content = stream.read1(BLOCK_BYTES)  # type: ignore[attr-defined]
        held += content
        more = bool(content) and _is_ready(stream)
        end = held.rfind(b"\n") + 1 if content else len(held)
        if not end or (more and len(held) < BLOCK_BYTES):
            continue
        block = bytes(held[:end])
        del held[:end]
        if is_first:
            block, is_first = block.removeprefix(codecs.BOM_UTF8), False
        if block:
            lines = block.removesuffix(b"\n").decode(errors="replace").split("\n")
            yield pa.array([line.removesuffix("\r") for line in lines], pa.string()), more


def _is_ready(stream: BinaryIO) -> bool:
    """Say whether input is available without waiting."""
    try:
        return bool(select.select([stream.fileno()], [], [], 0)[0])
    except io.UnsupportedOperation:  # the stream is in memory
        return True


def to_tsv(
    text: pa.Array, scores: Scores, *, for_people: bool = False, top: int | None = None
) -> bytes:
    """Write label, a probability and text; tabs and line ends become blanks, NUL U+FFFD.

    If the model leaves texts to people, a column after the text has ``unsure``, or nothing.

    The probability is that of positive if the classes are negative and positive, else that of the
    label.

    Args:
        text: N strings.
        scores: The scores of these texts.
        for_people: Escape what controls a terminal, and add a last column that marks texts without
            a known word.
        top: Write so many labels, each with its own probability.
    """
    columns = scores.top(top or 1)
    unsure, num_tokens = columns.pop("unsure", None), columns.pop("num_tokens").tolist()
    answers = [*map(_to_list, columns.values())]
    if top is None and scores.classes == BINARY:
        answers[1] = scores.probabilities[:, 1].tolist()
    marks = [""] * len(text) if unsure is None else np.where(unsure, _UNSURE, "\t").tolist()
    rows = []
    for line, num_known, mark, *row in zip(
        text.to_pylist(), num_tokens, marks, *answers, strict=True
    ):
        cells = (cell if isinstance(cell, str) else f"{cell:.4f}" for cell in row)
        note = _NO_KNOWN_WORD if for_people and num_known == 0 else ""
        rows.append(
            "\t".join(
                (*cells, f"{line.translate(_SHOWN if for_people else _BLANKS)}{mark}{note}\n")
            )
        )
    return "".join(rows).encode()


def to_json(
    text: pa.Array, scores: Scores, *, for_people: bool = False, top: int | None = None
) -> bytes:
    """Write an object for each text: text, label, probabilities and number of known words.

    For people all of it is ASCII if the text could act on a terminal.

    The probabilities are named as in a table of predictions, or as in :meth:`Scores.top`.
    """
    answers = scores.columns if top is None else scores.top(top)
    columns = {"text": text, "label": answers.pop("predicted_label"), **answers}
    rows = zip(*map(_to_list, columns.values()), strict=True)
    return "".join(
        (_ASCII_JSON if for_people and row[0].translate(_SHOWN) != row[0] else _JSON).encode(
            dict(zip(columns, row, strict=True))
        )
        + "\n"
        for row in rows
    ).encode()


def _to_list(values: pa.Array | np.ndarray) -> list[Any]:
    """Convert a column; float32 becomes floats that are written with the same few digits."""
    array = pa.array(values)
    if pa.types.is_float32(array.type):
        return list(map(float, array.cast(pa.string()).to_pylist()))
    return array.to_pylist()
