"""Explanations of texts -> lines below a prediction, colored in a terminal, or fields of JSON."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import typer

from sentiflow.config.class_names import set_apart
from sentiflow.errors import printable
from sentiflow.models import explanations
from sentiflow.models.explanations import (
    LEAST_PART,
    MAX_COLORED,
    TEXTS_AT_A_TIME,
    Explanation,
    WordPart,
)
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.scoring import lines
from sentiflow.scoring.lines import Block

_MAX_WORDS = 10
"""Maximum number of words in a line; the others are added up."""
_COLORED = 0.1
"""A word is colored if its shade is at least this."""
_BOLD = 1 / 3
"""It is bold if its shade is at least this."""
_REVERSED = 2 / 3
"""It has a colored background if its shade is at least this."""


def cut_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """Cut blocks of lines into small ones: a text takes as long as a prediction for each word."""
    for text, more in blocks:
        for start in range(0, len(text), TEXTS_AT_A_TIME):
            end = start + TEXTS_AT_A_TIME
            is_last = end >= len(text)
            yield Block(text[start:end], more=more or not is_last)


def to_tsv(
    text: pa.Array,
    scores: Scores,
    *,
    package: ModelPackage,
    in_color: bool,
    for_people: bool = False,
    top: int | None = None,
) -> bytes:
    """Write the line of :func:`lines.to_tsv` for each text, and below it the words that decide.

    Args:
        text: N strings.
        scores: The scores of these texts.
        package: The model.
        in_color: Whether to write the text with colored words, and color the numbers.
        for_people: As in :func:`lines.to_tsv`.
        top: As in :func:`lines.to_tsv`.
    """
    # Words below a line are for people, also in a pipe: it may lead to a terminal.
    escaped = pa.array([lines.escape(each) for each in text.to_pylist()], pa.string())
    answers = lines.to_tsv(escaped, scores, for_people=for_people, top=top).decode().split("\n")
    written = []
    for answer, explanation in zip(
        answers, explanations.explain(package, text, scores=scores), strict=False
    ):
        written.append(answer)
        written += describe(explanation, in_color=in_color)
    return "".join(f"{line}\n" for line in written).encode()


def to_json(
    text: pa.Array,
    scores: Scores,
    *,
    package: ModelPackage,
    for_people: bool = False,
    top: int | None = None,
) -> bytes:
    """Write the object of :func:`lines.to_json` for each text, with the reasons for its label.

    It has ``logit``, ``rest`` and ``words``, as in :class:`Explanation`.
    """
    found = list(explanations.explain(package, text, scores=scores))
    further: dict[str, list[Any]] = {
        "logit": [each.logit for each in found],
        "rest": [each.rest for each in found],
        "words": [[word._asdict() for word in each.words] for each in found],
    }
    return lines.to_json(text, scores, for_people=for_people, top=top, further=further)


def describe(explanation: Explanation, *, in_color: bool) -> list[str]:
    """Write the words for and against a label, in lines that begin with two blanks.

    A last line says how many words the network does not read, as the text is too long.

    Of a text whose words have no part, as the model knows none, only the rest and the logit are
    written.
    """
    important = [word for word in explanation.most_important() if abs(word.part) >= LEAST_PART]
    written = []
    if in_color and important:
        written.append(f"  {_color_text(explanation)}")
    sides = (
        (f"for {set_apart(explanation.label)}:", [word for word in important if word.part > 0]),
        ("against it:", [word for word in important if word.part < 0]),
    )
    for title, words in sides:
        if words:
            listed = _list_words(words, in_color=in_color)
            written.append(f"  {title} {'  '.join(listed)}")
    smallest = sum(word.part for word in explanation.words) - sum(word.part for word in important)
    written.append(
        f"  the rest: {explanation.rest + smallest:+.2f}  the logit: {explanation.logit:+.2f}"
    )
    cut = explanation.describe_cut()
    if cut:
        written.append(f"  {cut}")
    return written


def _list_words(words: Sequence[WordPart], *, in_color: bool) -> list[str]:
    """Write words with their parts, the largest first; few of many."""
    listed = []
    for word in words[:_MAX_WORDS]:
        shown = f"{printable(word.word)} {word.part:+.2f}"
        color = "green" if word.part > 0 else "red"
        listed.append(typer.style(shown, fg=color) if in_color else shown)
    others = words[_MAX_WORDS:]
    if others:
        total = sum(word.part for word in others)
        listed.append(f"… {len(others):,} more {total:+.2f}")
    return listed


def _color_text(explanation: Explanation) -> str:
    """Write a text as the model reads it, with colored words: green for the label, red against."""
    shown = []
    listed = zip(explanation.words, explanation.list_shades(), strict=True)
    for word, shade in islice(listed, MAX_COLORED):
        if word.after_blank:
            shown.append(" ")
        shown.append(_style(word, shade))
    further = len(explanation.words) - MAX_COLORED
    if further > 0:
        shown.append(f" … {further:,} more words")
    return "".join(shown)


def _style(word: WordPart, shade: float) -> str:
    """Color a word by its shade, from -1 to 1; a word that the network does not read is dim."""
    shown = printable(word.word)
    depth = abs(shade)
    dim = True if word.is_cut else None
    if depth < _COLORED:
        return typer.style(shown, dim=True) if word.is_cut else shown
    color = "green" if shade > 0 else "red"
    bold = True if depth >= _BOLD else None
    reverse = True if depth >= _REVERSED else None
    return typer.style(shown, fg=color, bold=bold, reverse=reverse, dim=dim)
