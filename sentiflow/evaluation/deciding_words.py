"""Model + texts of the corpus -> the words that decide, of each class and of mistakes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.evaluated_rows import choose_evenly
from sentiflow.progress import say
from sentiflow.storage import errors, parquet
from sentiflow.tracking import model_sources, packages

if TYPE_CHECKING:
    from sentiflow.models.explanations import Explanation
    from sentiflow.models.package import ModelPackage
    from sentiflow.models.readable_pieces import Pieces

FILE = "deciding_words.parquet"
"""Name of the table of the classes in a report."""
MAX_TEXTS = 2000
"""Maximum number of texts whose words are measured, an equal number of each predicted class."""
_MAX_IDS_READ = 100_000
"""About how many token ids the network reads for the words of classes. It reads a text once for
each of its words, so of long texts fewer are read; the linear model reads all texts."""
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
these texts, the sum of the last two columns."""

LoadModel: TypeAlias = Callable[[], "ModelPackage"]
"""Loads the model that made the predictions, see :func:`load_package`."""


@dataclass(frozen=True)
class DecidingWords:
    """The words that decide the predictions of a model."""

    by_class: pa.Table
    """The columns ``SCHEMA``."""
    num_texts: int = 0
    """Number of texts that were measured."""
    of_mistakes: Mapping[tuple[str, int], "Explanation"] = field(default_factory=dict)
    """Why each of the mistakes that were asked about has its prediction, by the columns ``kind``
    and ``row_id`` of ``mistakes.COLUMNS``."""
    not_asked: str = ""
    """Why the model was not asked; empty if it was."""

    def to_files(self) -> dict[str, bytes]:
        """Return the table of the classes as a file, by its name; no file if it has no row."""
        return {FILE: parquet.to_bytes(self.by_class)} if len(self.by_class) else {}


class ChosenRows(NamedTuple):
    """Rows by whose texts the words of classes are measured."""

    row_ids: np.ndarray
    """Their numbers, int64, in rising order."""
    labels: pa.Array
    """The names of their predicted classes."""


def load_package(scored: Manifest, tracking: str | None) -> "ModelPackage":
    """Load the package of the model that made predictions.

    Args:
        scored: Manifest of the predictions.
        tracking: The MLflow store; None: the default.

    Raises:
        UserError: The model is gone or was replaced.
        JobError: MLflow cannot be reached.
    """
    described = scored["inputs"]["model"]
    uri = described["uri"]
    package = packages.load(uri, tracking=tracking)
    # This check comes after the loading, as the package may have been replaced meanwhile.
    if model_sources.describe(uri, tracking=tracking)["fingerprint"] != described["fingerprint"]:
        raise UserError(f"{uri} holds another model now")
    return package


def choose_rows(rows: pa.Table) -> ChosenRows:
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
    return ChosenRows(row_ids[places], names.take(pa.array(prediction[places])))


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
        by_class = measure_classes(package, text, labels)
        names = pa.array(classes).take(mistakes["prediction"].combine_chunks())
        explained = _explain(package, mistakes["text"].combine_chunks(), names)
    except (OSError, UserError) as error:
        reason = errors.describe(error)
        say("evaluate", f"the words that decide are left out: {reason}")
        return DecidingWords(SCHEMA.empty_table(), not_asked=reason)
    keys = zip(mistakes["kind"].to_pylist(), mistakes["row_id"].to_pylist(), strict=True)
    of_mistakes = dict(zip(keys, explained, strict=True))
    return DecidingWords(by_class, num_texts=len(text), of_mistakes=of_mistakes)


def _explain(package: "ModelPackage", text: pa.Array, labels: pa.Array) -> "list[Explanation]":
    """Explain why each text has its label."""
    from sentiflow.models import explanations  # slow to import

    found: dict[int, Explanation] = {}
    for label in pc.unique(labels).to_pylist():
        places = np.flatnonzero(pc.equal(labels, label))
        why = explanations.explain(package, text.take(pa.array(places)), label=label)
        found.update(zip(places.tolist(), why, strict=True))
    return [found[place] for place in range(len(text))]


def measure_classes(package: "ModelPackage", text: pa.Array, labels: pa.Array) -> pa.Table:
    """Find the words that decide most for each class, a table with the columns ``SCHEMA``.

    The words of a class are ordered by their mean part, multiplied by the square root of the number
    of texts, and by the share of all texts with the word that have this prediction. So a word comes
    first that is strong, in many texts, and in no other class, as a giveaway is. The network is
    asked about as many texts as ``_MAX_IDS_READ`` allows.

    Args:
        package: The model.
        text: N texts, without nulls.
        labels: The names of their predicted classes.
    """
    from sentiflow.models import word_parts  # slow to import

    codes = np.asarray(pc.index_in(labels, value_set=pa.array(package.settings.classes)), np.int64)
    pieces, of_linear = word_parts.measure_linear(package, text, codes)
    num_ids = max(_count_ids(package, text, pieces), 1)
    asked = choose_evenly(len(text), max(1, int(len(text) * min(1, _MAX_IDS_READ / num_ids))))
    of_network = word_parts.measure(package, text.take(pa.array(asked)), codes[asked])
    linear = _average(pieces, of_linear, codes)
    network = _average(of_network.pieces, of_network.network, codes[asked])
    joined = linear.join(network, keys=["code", "word"], right_suffix="_of_network")
    num_of_class = np.bincount(codes, minlength=len(package.settings.classes))
    mean_network = pc.fill_null(joined["mean_of_network"], 0.0)
    table = pa.table(
        {
            "code": joined["code"],
            "label": pa.array(package.settings.classes).take(joined["code"]),
            "word": joined["word"],
            "num_texts": joined["num_texts"],
            "fraction": joined["num_texts"].to_numpy() / num_of_class[joined["code"].to_numpy()],
            "mean_part": pc.add(joined["mean"], mean_network),
            "mean_linear": joined["mean"],
            "mean_network": mean_network,
        }
    )
    return _choose(table)


def _count_ids(package: "ModelPackage", text: pa.Array, pieces: "Pieces") -> int:
    """Count how many ids the network reads, at most, if it reads each text once for each word.

    A text is cut to ``max_length`` ids, and words beyond them are not asked about.

    Args:
        package: The model.
        text: N texts.
        pieces: Their words.
    """
    lengths = np.asarray(pc.list_value_length(package.read(text).encoded.token_ids), np.int64)
    return int(np.minimum(np.diff(pieces.offsets), lengths) @ lengths)


def _average(pieces: "Pieces", parts: np.ndarray, codes: np.ndarray) -> pa.Table:
    """Average the parts of each word in each class; several in a text are added up first.

    Args:
        pieces: The words of N texts.
        parts: The part of each word.
        codes: The class of each text.

    Returns:
        A table with ``code``, ``word``, ``num_texts`` and ``mean``.
    """
    coded = pieces.words.dictionary_encode()
    num_words = max(len(coded.dictionary), 1)
    in_text = pieces.texts * num_words + coded.indices.to_numpy()
    distinct, number = np.unique(in_text, return_inverse=True)
    of_texts = np.bincount(number, parts, minlength=len(distinct))
    texts, words = np.divmod(distinct, num_words)
    pairs, number = np.unique(codes[texts] * num_words + words, return_inverse=True)
    num_texts = np.bincount(number, minlength=len(pairs))
    sums = np.bincount(number, of_texts, minlength=len(pairs))
    code, word = np.divmod(pairs, num_words)
    return pa.table(
        {
            "code": code,
            "word": coded.dictionary.take(pa.array(word)),
            "num_texts": num_texts,
            "mean": sums / np.maximum(num_texts, 1),
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
