"""Model + texts of the corpus -> the words that decide, of each class and of mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.evaluate_plan import STAGE
from sentiflow.evaluation.evaluated_model import LoadModel
from sentiflow.evaluation.evaluated_rows import choose_evenly
from sentiflow.models import explanations, word_parts
from sentiflow.models.explanations import TEXTS_AT_A_TIME, Explanation
from sentiflow.models.package import ModelPackage
from sentiflow.models.readable_pieces import Pieces
from sentiflow.progress import say
from sentiflow.storage import errors

FILE = "deciding_words.parquet"
"""Name of the table of the classes in a report."""
MAX_TEXTS = 2000
"""Maximum number of texts whose words are measured, an equal number of each predicted class."""
_MAX_IDS = 100_000
"""About how many token ids the network reads for the words of classes, beside a linear model. It
reads a text once for each of its words, so of long texts fewer are read; the linear model reads all
texts."""
_MAX_IDS_ALONE = 400_000
"""The same without a linear model."""
_MAX_IDS_OF_MISTAKES = 500_000
"""About how many token ids the network reads for the words of mistakes. The shortest mistakes come
first."""
_MAX_WORDS = 100
"""Maximum number of words of a class in the table."""
_MIN_TEXTS = 2
"""A word decides a class if it is in at least this many texts."""

SCHEMA = pa.schema(
    {
        "label": pa.string(),
        "word": pa.string(),
        "num_texts": pa.int64(),
        "fraction": pa.float64(),
        "mean_part": pa.float64(),
        "mean_linear": pa.float64(),
        "mean_network": pa.float64(),
    }
)
"""A row for each word of a class, in the order of classes, the words that decide most first.

``label``: the predicted class. ``num_texts``: how many of the texts with this prediction have the
word; ``fraction``: their share. ``mean_part``: what the word adds to the logit of the class in
these texts, the sum of the last two columns. ``mean_linear`` is a mean over these texts, and
``mean_network`` over those of them that the network was asked about; null: none of them, so
``mean_part`` is the linear part alone."""


class WordsOfClasses(NamedTuple):
    """The words that decide the predictions of each class."""

    table: pa.Table
    """The columns ``SCHEMA``."""
    num_texts: int
    """Number of texts that were measured."""
    num_asked: int
    """Of how many of these texts the network was asked; 0 if no network has a share."""


@dataclass(frozen=True)
class DecidingWords:
    """The words that decide the predictions of a model."""

    of_classes: WordsOfClasses
    of_mistakes: Mapping[tuple[str, int], Explanation] = field(default_factory=dict)
    """Why each of the mistakes that were asked about has its prediction, by the columns ``kind``
    and ``row_id`` of ``mistakes.COLUMNS``."""
    num_left_out: int = 0
    """Number of mistakes that were not asked about, as they are too long."""
    not_asked: str = ""
    """Why the model was not asked; empty if it was."""


NO_WORDS = WordsOfClasses(SCHEMA.empty_table(), num_texts=0, num_asked=0)
"""The model was asked about no text."""


class RowsOfWords(NamedTuple):
    """Rows by whose texts the words of classes are measured."""

    row_ids: np.ndarray
    """Their numbers, int64, in rising order."""
    labels: pa.Array
    """The names of their predicted classes."""


def choose_rows(rows: pa.Table) -> RowsOfWords:
    """Choose evaluated rows, equally many of each predicted class, at equal distances.

    Args:
        rows: With the columns of ``slices.find_traits``.
    """
    row_ids = rows["row_id"].to_numpy()
    prediction = rows["prediction"].to_numpy()
    present = np.unique(prediction)
    chosen = []
    for code in present:
        places = np.flatnonzero(prediction == code)
        by_number = places[np.argsort(row_ids[places])]
        chosen.append(by_number[choose_evenly(len(places), MAX_TEXTS // len(present))])
    places = np.concatenate([np.zeros(0, np.int64), *chosen])
    places = places[np.argsort(row_ids[places])]
    names = pa.array(evaluated_rows.classes_of(rows), pa.string())
    return RowsOfWords(row_ids[places], names.take(pa.array(prediction[places])))


def find(
    load: LoadModel, text: pa.Array, labels: pa.Array, mistakes: pa.Table, classes: Sequence[str]
) -> DecidingWords:
    """Find the words that decide.

    Args:
        load: Loads the model.
        text: N texts.
        labels: The names of their predicted classes.
        mistakes: Mistakes to explain, with the columns of ``mistakes.COLUMNS``.
        classes: The names of the classes of ``mistakes``.

    Returns:
        The words; or only the reason why there are none, if the model is gone, or if it is an
        average of models that split texts differently.

    Raises:
        JobError: The model is in MLflow, which cannot be reached.
    """
    try:
        package = load()
        of_classes = measure_classes(package, text, labels)
        names = pa.array(classes).take(mistakes["prediction"].combine_chunks())
        explained = _explain(package, mistakes["text"].combine_chunks(), names)
    except (OSError, UserError) as error:
        reason = errors.describe(error)
        say(STAGE, f"the words that decide are left out: {reason}")
        return DecidingWords(NO_WORDS, not_asked=reason)
    keys = zip(mistakes["kind"].to_pylist(), mistakes["row_id"].to_pylist(), strict=True)
    of_mistakes = {}
    for key, explanation in zip(keys, explained, strict=True):
        if explanation is not None:
            of_mistakes[key] = explanation
    num_left_out = len(explained) - len(of_mistakes)
    return DecidingWords(of_classes, of_mistakes, num_left_out=num_left_out)


def _explain(package: ModelPackage, text: pa.Array, labels: pa.Array) -> list[Explanation | None]:
    """Explain why each text has its label; None: a text that is too long.

    The network is asked about the shortest texts, as many as ``_MAX_IDS_OF_MISTAKES`` allows.
    """
    num_ids = word_parts.count_ids(package, text)
    shortest_first = np.argsort(num_ids, kind="stable")
    is_asked = np.zeros(len(text), bool)
    is_asked[shortest_first] = np.cumsum(num_ids[shortest_first]) <= _MAX_IDS_OF_MISTAKES
    found: list[Explanation | None] = [None] * len(text)
    for label in pc.unique(labels).to_pylist():
        has_label = pc.equal(labels, label).to_numpy(zero_copy_only=False)
        places = np.flatnonzero(is_asked & has_label)
        why = explanations.explain(package, text.take(pa.array(places)), label=label)
        for place, explanation in zip(places, why, strict=True):
            found[place] = explanation
    return found


def measure_classes(package: ModelPackage, text: pa.Array, labels: pa.Array) -> WordsOfClasses:
    """Find the words that decide most for each class.

    The words of a class are ordered by their mean part, multiplied by the square root of the number
    of texts, and by the share of all texts with the word that have this prediction. So a word comes
    first that is strong, in many texts, and in no other class, as a giveaway is.

    A linear model reads all texts, and the network some of them. Without a linear model, the words
    are those of the texts that the network is asked about.

    Args:
        package: The model.
        text: N texts, without nulls.
        labels: The names of their predicted classes.
    """
    classes = package.settings.classes
    codes = np.asarray(pc.index_in(labels, value_set=pa.array(classes)), np.int64)
    has_linear = any(each.linear is not None for each in (package, *package.others))
    num_ids = int(word_parts.count_ids(package, text).sum())
    limit = _MAX_IDS if has_linear else _MAX_IDS_ALONE
    asked = np.zeros(0, np.int64)
    if num_ids:
        asked = choose_evenly(len(text), max(1, int(len(text) * min(1, limit / num_ids))))
    of_asked = word_parts.measure(package, text.take(pa.array(asked)), codes[asked])
    network = _average([_sum_by_word(of_asked.pieces, of_asked.network, codes[asked])])
    if not has_linear:
        text = text.take(pa.array(asked))
        codes = codes[asked]
    linear = _average(_sum_linear(package, text, codes))
    joined = linear.join(network, keys=["code", "word"], right_suffix="_of_network")
    mean_network = joined["mean_of_network"]
    mean_part = pc.add(joined["mean"], pc.fill_null(mean_network, 0.0))
    if not num_ids:
        mean_network = np.zeros(len(joined))
    num_of_class = np.bincount(codes, minlength=len(classes))
    table = pa.table(
        {
            "code": joined["code"],
            "label": pa.array(classes).take(joined["code"]),
            "word": joined["word"],
            "num_texts": joined["num_texts"],
            "fraction": joined["num_texts"].to_numpy() / num_of_class[joined["code"].to_numpy()],
            "mean_part": mean_part,
            "mean_linear": joined["mean"],
            "mean_network": mean_network,
        }
    )
    return WordsOfClasses(_choose(table), num_texts=len(text), num_asked=len(asked))


def _sum_linear(package: ModelPackage, text: pa.Array, codes: np.ndarray) -> list[pa.Table]:
    """Add up the parts by the linear model, see :func:`_sum_by_word`, for one batch after another.

    The n-grams of a batch are in memory together.
    """
    sums = []
    for start in range(0, max(len(text), 1), TEXTS_AT_A_TIME):
        batch = slice(start, start + TEXTS_AT_A_TIME)
        pieces, parts = word_parts.measure_linear(package, text[batch], codes[batch])
        sums.append(_sum_by_word(pieces, parts, codes[batch]))
    return sums


def _sum_by_word(pieces: Pieces, parts: np.ndarray, codes: np.ndarray) -> pa.Table:
    """Add up the parts of each word in the texts of each class.

    Args:
        pieces: The words of N texts.
        parts: The part of each word.
        codes: The class of each text.

    Returns:
        A table with ``code``, ``word``, ``num_texts`` and ``sum``. A text counts once.
    """
    coded = pieces.words.dictionary_encode()
    num_words = max(len(coded.dictionary), 1)
    pairs = codes[pieces.texts] * num_words + coded.indices.to_numpy()
    distinct, number = np.unique(pairs, return_inverse=True)
    in_text = np.unique(number * max(len(codes), 1) + pieces.texts)  # a text counts once
    code, word = np.divmod(distinct, num_words)
    return pa.table(
        {
            "code": code,
            "word": coded.dictionary.take(pa.array(word)),
            "num_texts": np.bincount(in_text // max(len(codes), 1), minlength=len(distinct)),
            "sum": np.bincount(number, parts, minlength=len(distinct)),
        }
    )


def _average(sums: Sequence[pa.Table]) -> pa.Table:
    """Average the parts of each word in each class.

    Args:
        sums: Tables of :func:`_sum_by_word`, of different texts.

    Returns:
        A table with ``code``, ``word``, ``num_texts`` and ``mean``.
    """
    # In one thread the sums are added up in order, so they are the same in each run.
    grouped = pa.concat_tables(sums).group_by(["code", "word"], use_threads=False)
    added = grouped.aggregate([("num_texts", "sum"), ("sum", "sum")])
    return pa.table(
        {
            "code": added["code"],
            "word": added["word"],
            "num_texts": added["num_texts_sum"],
            "mean": pc.divide(added["sum_sum"], added["num_texts_sum"]),
        }
    )


def _choose(table: pa.Table) -> pa.Table:
    """Choose the words that decide most for each class, see :func:`measure_classes`.

    Args:
        table: Has the columns ``SCHEMA``, and ``code``, the number of the class.
    """
    num_texts = table["num_texts"].to_numpy()
    words = table["word"].combine_chunks().dictionary_encode().indices.to_numpy()
    share_of_word = num_texts / np.bincount(words, num_texts)[words]
    importance = table["mean_part"].to_numpy() * np.sqrt(num_texts) * share_of_word
    is_candidate = pc.and_(
        pc.greater_equal(table["num_texts"], _MIN_TEXTS), pc.greater(table["mean_part"], 0)
    )
    ranked = (
        table.append_column("importance", pa.array(importance))
        .filter(is_candidate)
        .sort_by([("code", "ascending"), ("importance", "descending"), ("word", "ascending")])
    )
    codes = ranked["code"].to_numpy()
    rank = np.arange(len(codes)) - np.searchsorted(codes, codes)
    return ranked.filter(pa.array(rank < _MAX_WORDS)).select(SCHEMA.names).cast(SCHEMA)
