"""Explanations of texts -> lines below a prediction, colored in a terminal, or fields of JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import typer

from sentiflow.config.class_names import set_apart
from sentiflow.errors import printable
from sentiflow.models import explanations
from sentiflow.models.explanations import LEAST_PART, TEXTS_AT_A_TIME, Explanation, WordPart
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
    answers = lines.list_tsv(escaped, scores, for_people=for_people, top=top)
    explained = explanations.explain(package, text, scores=scores)
    written = []
    for answer, explanation in zip(answers, explained, strict=True):
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
    important = explanation.most_important()
    written = []
    if in_color and important:
        written.append(f"  {_color_text(explanation)}")
    for title, sign in ((f"for {set_apart(explanation.label)}:", 1), ("against it:", -1)):
        listed = _list_words(
            [word for word in important if sign * word.part > 0],
            all_words=[word for word in explanation.words if sign * word.part > 0],
            in_color=in_color,
        )
        if listed:
            written.append(f"  {title} {'  '.join(listed)}")
    written.append(f"  the rest: {explanation.rest:+.2f}  the logit: {explanation.logit:+.2f}")
    cut = explanation.describe_cut()
    if cut:
        written.append(f"  {cut}")
    return written


def _list_words(
    important: Sequence[WordPart], *, all_words: Sequence[WordPart], in_color: bool
) -> list[str]:
    """Write words with their parts, and the number and the sum of the other words.

    Args:
        important: Words that speak for a label, or words against it, the largest parts first.
        all_words: All words on this side, also those with a small part.
        in_color: Whether to color the numbers.
    """
    listed = []
    for word in important[:_MAX_WORDS]:
        shown = f"{printable(word.word)} {word.part:+.2f}"
        color = "green" if word.part > 0 else "red"
        listed.append(typer.style(shown, fg=color) if in_color else shown)
    num_others = len(all_words) - len(listed)
    sum_of_all = sum(word.part for word in all_words)
    total = sum_of_all - sum(word.part for word in important[:_MAX_WORDS])
    if abs(total) >= LEAST_PART:
        others = f"… {num_others:,} more" if listed else f"{num_others:,} words"
        listed.append(f"{others} {total:+.2f}")
    return listed


def _color_text(explanation: Explanation) -> str:
    """Write a text as the model reads it, with colored words: green for the label, red against."""
    shown = []
    for word, shade in explanation.list_colored():
        if word.after_blank:
            shown.append(" ")
        shown.append(_style(word, shade))
    shown.append(explanation.describe_further())
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
