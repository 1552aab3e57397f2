"""Lines of text -> their predictions, one line each, as tab-separated values or JSON."""

import codecs
import io
import json
import select
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.cluster import memory
from sentiflow.data.schema import BINARY, POSITIVE
from sentiflow.errors import printable
from sentiflow.models.package import PIECE, ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.progress import Progress

BLOCK_BYTES = 1 << 23
"""Approximate size of a block of lines: some pieces for each core."""


class Block(NamedTuple):
    """Some lines of the input."""

    text: pa.Array
    """The lines, without line ends."""
    more: bool
    """Whether more input is available without waiting."""


_JSON = json.JSONEncoder(ensure_ascii=False)
_ASCII_JSON = json.JSONEncoder()
_BLANKS = str.maketrans("\t\n\r\0", "   \ufffd")
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Characters that control a terminal or end a line, and from U+202A characters that change the
direction of the text after them."""
_ESCAPES = {code: printable(chr(code)) for code in _CONTROLS} | _BLANKS
"""Replacements for a terminal: control characters are escaped, tabs and line ends are blanks."""
_NO_KNOWN_WORD = "\t(no known word: the prior)"
_UNSURE = "\tunsure"


def predict(
    package: ModelPackage,
    blocks: Iterable[Block],
    out: BinaryIO,
    render: Callable[[pa.Array, Scores], bytes],
) -> None:
    """Score blocks of lines on all cores, and write their predictions to a stream, in order.

    Predictions are written before more input is awaited, so that a person can type a line and see
    its prediction.

    Args:
        package: The model.
        blocks: Blocks from :func:`read`, or a single block.
        out: Stream for the predictions.
        render: :func:`to_tsv` or :func:`to_json`.
    """
    memory.keep_freed()
    num_texts = 0
    for text, more in blocks:
        pieces = (text[at : at + PIECE] for at in range(0, len(text), PIECE))
        with _show_progress(num_texts, len(text)):
            scores = package.score_pieces(pieces)
        num_texts += len(text)
        out.write(render(text, scores))
        if not more:
            out.flush()


def _show_progress(num_done: int, num_texts: int) -> Progress | nullcontext[None]:
    """Show how many texts were done before a large block; a person types small ones."""
    if num_texts <= PIECE:
        return nullcontext()
    return Progress("predict", what=f"after {num_done:,} texts, {num_texts:,} more")


def read(stream: BinaryIO) -> Iterator[Block]:
    """Read blocks of whole lines from a stream, as large as the input available at the time.

    Lines end with LF or CRLF; the last line may lack it. Invalid UTF-8 is replaced, and a byte
    order mark at the beginning is dropped.
    """
    held = bytearray()
    is_first = True
    at_end = False
    while not at_end:
        content = stream.read1(BLOCK_BYTES)  # type: ignore[attr-defined]
        held += content
        at_end = not content
        more = not at_end and _is_ready(stream)
        if more and len(held) < BLOCK_BYTES:
            continue
        end = len(held) if at_end else held.rfind(b"\n") + 1
        block = bytes(held[:end])
        del held[:end]
        if is_first and block:
            block = block.removeprefix(codecs.BOM_UTF8)
            is_first = False
        if block:
            yield Block(text=_split_lines(block), more=more)


def _split_lines(block: bytes) -> pa.Array:
    """Split a block into its lines, without line ends."""
    lines = block.removesuffix(b"\n").decode(errors="replace").split("\n")
    return pa.array([line.removesuffix("\r") for line in lines], pa.string())


def _is_ready(stream: BinaryIO) -> bool:
    """Say whether input is available without waiting."""
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # the stream is in memory
        return True
    readable, _, _ = select.select([number], [], [], 0)
    return bool(readable)


def to_tsv(
    text: pa.Array, scores: Scores, *, for_people: bool = False, top: int | None = None
) -> bytes:
    """Write the lines of :func:`list_tsv`."""
    lines = list_tsv(text, scores, for_people=for_people, top=top)
    return "".join(f"{line}\n" for line in lines).encode()


def list_tsv(
    text: pa.Array, scores: Scores, *, for_people: bool = False, top: int | None = None
) -> list[str]:
    """Make a line for each text: label, probability and text, separated by tabs.

    Tabs and line ends in a text become blanks, NUL becomes U+FFFD. The probability is the
    probability of positive if the classes are negative and positive, else of the label. Of ordered
    classes the expected rating and the median label follow it. If the model leaves texts to people,
    a column after the text has ``unsure``, or nothing.

    Args:
        text: N strings.
        scores: The scores of these texts.
        for_people: Escape what controls a terminal, and add a last column that marks texts without
            a known word.
        top: Write this many labels, each with its own probability.
    """
    columns = scores.top(top or 1)
    unsure = columns.pop("unsure", None)
    num_tokens = columns.pop("num_tokens").tolist()
    answers = [_to_list(values) for values in columns.values()]  # label, probability, …
    if top is None and scores.classes == BINARY:
        answers[1] = scores.probabilities[:, POSITIVE].tolist()

    texts = text.to_pylist()
    replacements = _ESCAPES if for_people else _BLANKS
    marks = [""] * len(texts)
    if unsure is not None:
        marks = np.where(unsure, _UNSURE, "\t").tolist()
    lines = []
    for line, num_known, mark, *answer in zip(texts, num_tokens, marks, *answers, strict=True):
        cells = [cell if isinstance(cell, str) else f"{cell:.4f}" for cell in answer]
        cells.append(line.translate(replacements))
        note = _NO_KNOWN_WORD if for_people and num_known == 0 else ""
        lines.append("\t".join(cells) + mark + note)
    return lines


def to_json(
    text: pa.Array,
    scores: Scores,
    *,
    for_people: bool = False,
    top: int | None = None,
    further: Mapping[str, Sequence[Any]] | None = None,
) -> bytes:
    """Write an object for each text: text, label, probabilities and number of known words.

    The probabilities are named as in a table of predictions, or with ``top`` as in
    :meth:`Scores.top`. With ``for_people`` an object is pure ASCII if its text could act on a
    terminal. ``further`` has more fields, a value for each text.
    """
    answers = scores.columns if top is None else scores.top(top)
    columns = {"text": text, "label": answers.pop("predicted_label"), **answers}
    fields: dict[str, Sequence[Any]] = {}
    for name, column in columns.items():
        fields[name] = _to_list(column)
    fields.update(further or {})
    lines = []
    for row in zip(*fields.values(), strict=True):
        could_act = for_people and escape(row[0]) != row[0]
        encoder = _ASCII_JSON if could_act else _JSON
        lines.append(encoder.encode(dict(zip(fields, row, strict=True))) + "\n")
    return "".join(lines).encode()


def escape(text: str) -> str:
    r"""Escape characters of a text that control a terminal; tabs and line ends become blanks.

    Example:
        >>> escape("a\x1b[2J\tb")
        'a\\x1b[2J b'
    """
    return text.translate(_ESCAPES)


def _to_list(values: pa.Array | np.ndarray) -> list[Any]:
    """Convert a column; a float32 becomes the float with the same shortest decimal form."""
    array = pa.array(values)
    if pa.types.is_float32(array.type):
        return list(map(float, array.cast(pa.string()).to_pylist()))
    return array.to_pylist()
