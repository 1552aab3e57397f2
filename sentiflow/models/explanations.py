"""Texts -> why the model gives them their labels: a number for each word, as a table or HTML."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from sentiflow.errors import UserError, few, printable
from sentiflow.models import word_parts
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.models.word_parts import WordParts

if TYPE_CHECKING:
    import pandas as pd

TEXTS_AT_A_TIME = 500
"""Texts that are explained at a time: their tables of n-grams are in memory together."""
_MAX_IN_HTML = 50
"""Maximum number of texts that a notebook shows."""
MAX_COLORED = 500
"""Maximum number of words that a colored text shows, in a notebook and in a terminal."""
LEAST_PART = 0.005
"""A smaller part is written as 0.00, so the word is not listed."""
DEEPEST = 0.5
"""The deepest color of a word, as a share of the full color: words stay easy to read."""
_LEAST_SCALE = 0.5
"""Words are colored by their part, compared with the largest part of their text, or with this if
all are smaller: so a text without a clear word has no deep color."""
_COLORS = {True: "0, 103, 163", False: "179, 64, 10"}
"""Blue for words that speak for the label, orange for words against it, as in the report."""


class WordPart(NamedTuple):
    """A word of a text, and what it adds to the logit of the label."""

    word: str
    """As the model reads it: in lower case, a link as ``<url>``; in a script without spaces some
    neighboring letters."""
    part: float
    """Above 0: for the label; below 0: against it. The sum of the next two."""
    linear: float
    """The part by the linear model."""
    network: float
    """The part by the network."""
    is_cut: bool = False
    """Whether the text is longer than the network reads, and this word is in what it leaves out.
    The linear model reads it."""
    after_blank: bool = True
    """Whether white space stands before the word in its text."""


@dataclass(frozen=True)
class Explanation:
    """Why a text has a label: the parts of its words, and the rest, sum to ``logit``."""

    text: str | None
    """None: no text was given."""
    label: str
    """The predicted label, or the one that was asked for."""
    probability: float
    """Probability of the label."""
    logit: float
    """The logit of the label minus the mean of the logits of all classes, divided by the
    temperature. For two classes, half of the log-odds."""
    rest: float
    """What no single word adds: the bias of the model, and what words do together."""
    words: tuple[WordPart, ...]
    """All words of the text, in its order."""

    def most_important(self, number: int | None = None) -> list[WordPart]:
        """Return the words with the largest parts for or against the label, the largest first.

        Words whose part rounds to 0.00 are left out.
        """
        return [self.words[place] for place in self.find_important(number)]

    def find_important(self, number: int | None = None) -> list[int]:
        """Return the positions of the words of :meth:`most_important`."""
        parts = np.array([word.part for word in self.words])
        largest_first = np.argsort(-np.abs(parts), kind="stable")
        important = largest_first[np.abs(parts[largest_first]) >= LEAST_PART]
        return important[:number].tolist()

    def describe_cut(self) -> str:
        """Say how many words the network does not read, as the text is too long; empty if none."""
        num_cut = sum(word.is_cut for word in self.words)
        if not num_cut:
            return ""
        listed = f"{num_cut:,} of {len(self.words):,} words"
        if self.words[-1].is_cut:
            return f"the network does not read the last {listed}"
        return f"the network does not read {listed}, in the middle"

    def list_shades(self) -> list[float]:
        """Return how deep the color of each word is, from -1 (against the label) to 1 (for it)."""
        largest = max((abs(word.part) for word in self.words), default=0.0)
        return [word.part / max(largest, _LEAST_SCALE) for word in self.words]

    def list_colored(self) -> Iterator[tuple[WordPart, float]]:
        """List the words of a colored text with their shades, the first ``MAX_COLORED``."""
        return islice(zip(self.words, self.list_shades(), strict=True), MAX_COLORED)

    def describe_further(self) -> str:
        """Say how many words follow those of :meth:`list_colored`; empty if none."""
        further = len(self.words) - MAX_COLORED
        return f" … {further:,} more words" if further > 0 else ""


@dataclass(frozen=True, repr=False)
class Explanations:
    """Why N texts have their labels; a notebook shows the texts with colored words.

    Example:
        >>> why = model.explain(["I love this place"])  # doctest: +SKIP
        >>> why[0].label, why[0].most_important(1)[0].word  # doctest: +SKIP
        ('positive', 'love')
    """

    texts: pa.Table
    """A row for each text: ``row``, ``text``, ``label``, ``probability``, ``logit``, ``rest``."""
    table: pa.Table
    """A row for each word: ``row`` (the number of its text, from 0), ``label``, and the fields of
    :class:`WordPart`."""
    offsets: np.ndarray
    """N + 1 positions of the texts' first words in ``table``."""
    index: "pd.Index | None" = None
    """The index of the Series that had the texts; None: they were in another container."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Explanation:
        row = operator.index(row)
        if not -len(self) <= row < len(self):
            raise IndexError(f"there are {len(self):,} texts")
        row %= len(self)
        fields = self.texts.slice(row, 1).drop_columns(["row"]).to_pylist()[0]
        start = self.offsets[row]
        words = self.table.slice(start, self.offsets[row + 1] - start)
        listed = words.select(WordPart._fields).to_pylist()
        return Explanation(**fields, words=tuple(WordPart(**word) for word in listed))

    def __iter__(self) -> Iterator[Explanation]:
        for row in range(len(self)):
            yield self[row]

    def __repr__(self) -> str:
        return f"Explanations of {len(self):,} texts with {len(self.table):,} words"

    def to_pandas(self) -> "pd.DataFrame":
        """Return :attr:`table`, a row for each word, as a DataFrame.

        Of texts in a Series, each word has the index of its text.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            frame = self.table.to_pandas()
        except ModuleNotFoundError as error:
            raise UserError(
                "to_pandas() needs the package pandas, which is not installed",
                hint="the attribute table is the same as an Arrow table",
            ) from error
        if self.index is None:
            return frame
        return frame.set_axis(self.index.take(frame["row"]))

    def _repr_html_(self) -> str:
        """Write the texts with colored words, for a notebook."""
        shown = [to_html(self[row]) for row in range(min(len(self), _MAX_IN_HTML))]
        further = len(self) - len(shown)
        if further > 0:
            shown.append(f"<p>… {further:,} more</p>")
        return "\n".join(shown)

    @classmethod
    def join(cls, blocks: "list[Explanations]") -> "Explanations":
        """Join the explanations of several blocks of texts, at least one."""
        texts = pa.concat_tables([block.texts for block in blocks])
        num_before = np.append(0, np.cumsum([len(block) for block in blocks]))
        lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
        tables = []
        for block, first in zip(blocks, num_before, strict=False):
            rows = pa.array(block.table["row"].to_numpy() + first)
            tables.append(block.table.set_column(0, "row", rows))
        numbered = texts.set_column(0, "row", pa.array(np.arange(len(texts))))
        offsets = np.append(0, np.cumsum(lengths))
        return cls(numbered, pa.concat_tables(tables), offsets)


def explain(
    package: ModelPackage,
    text: pa.Array,
    *,
    label: str | None = None,
    scores: Scores | None = None,
) -> Explanations:
    """Explain the labels of texts, see :func:`models.word_parts.measure`.

    A text without a known word has words without parts: the shares of the classes in training
    decide.

    Args:
        package: The model.
        text: N strings, without nulls.
        label: The class to explain. Default: the predicted class of each text.
        scores: Scores of these texts, if they are there.

    Raises:
        UserError: The model has no class ``label``.
    """
    classes = package.settings.classes
    if label is not None and label not in classes:
        listed = ", ".join(few(classes))
        raise UserError(f"the model has no class {label!r}", hint=f"name one of {listed}")
    explained = []
    for start in range(0, max(len(text), 1), TEXTS_AT_A_TIME):
        some = text[start : start + TEXTS_AT_A_TIME]
        if scores is None:
            scored = package.score(some)
            probabilities = scored.probabilities
            codes = scored.prediction
        else:
            probabilities = scores.probabilities[start : start + len(some)]
            codes = scores.prediction[start : start + len(some)]
        codes = np.asarray(codes, np.int64)
        if label is not None:
            codes = np.full(len(some), classes.index(label))
        parts = word_parts.measure(package, some, codes)
        chosen = np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0]
        names = pa.array(classes).take(pa.array(codes))
        explained.append(_to_tables(some, names, chosen, parts))
    return Explanations.join(explained)


def _to_tables(
    text: pa.Array, labels: pa.Array, probabilities: np.ndarray, parts: WordParts
) -> Explanations:
    """Put the parts of N texts into tables."""
    texts = pa.table(
        {
            "row": np.arange(len(text)),
            "text": text,
            "label": labels,
            "probability": probabilities.astype(np.float64),
            "logit": parts.logits,
            "rest": parts.rest,
        }
    )
    rows = parts.pieces.texts
    table = pa.table(
        {
            "row": rows,
            "label": labels.take(pa.array(rows)),
            "word": parts.pieces.words,
            "part": parts.parts,
            "linear": parts.linear,
            "network": parts.network,
            "is_cut": parts.is_cut,
            "after_blank": parts.pieces.after_blank,
        }
    )
    return Explanations(texts, table, parts.pieces.offsets)


def to_html(explanation: Explanation) -> str:
    """Write a text with colored words as HTML. Texts are not trusted: they are escaped."""
    shown = []
    for word, shade in explanation.list_colored():
        color = f"rgba({_COLORS[shade > 0]}, {DEEPEST * abs(shade):.2f})"
        style = f"background: {color}; border-radius: .2em"
        title = f"{word.part:+.2f}"
        if word.is_cut:
            style += "; color: gray"
            title += ", not read by the network"
        if word.after_blank:
            shown.append(" ")
        shown.append(f'<span title="{title}" style="{style}">{escape(printable(word.word))}</span>')
    shown.append(explanation.describe_further())
    head = f"<b>{escape(explanation.label)}</b> {explanation.probability:.4f}"
    cut = explanation.describe_cut()
    note = f"<br><small>{cut} (gray)</small>" if cut else ""
    # The direction of the text is that of its own words, not of the label.
    return f'<p>{head}<br><span dir="auto">{"".join(shown)}</span>{note}</p>'
