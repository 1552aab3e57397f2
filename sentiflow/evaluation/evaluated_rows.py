"""Scored directory -> its labelled rows outside of the train split, with texts and classes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.class_names import set_apart
from sentiflow.data import authors, lineage
from sentiflow.data.arrays import one_array, put_columns
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY, SPLITS, TRAIN, predictions
from sentiflow.errors import JobError, UserError, few
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.dependence import AuthorGroups, number_authors
from sentiflow.metrics.predicted import Columns, Predicted

WHOLE = "all"
"""Name of the rows of a corpus that has no splits."""
FOLDS = "cross-validated"
"""Name of the figures of cross-validation: each labelled row is predicted by a model that was not
trained on it."""
EVALUATED = (*SPLITS[1:], WHOLE)
"""Splits that a model is evaluated on."""

COLUMNS = ("row_id", "split", "label", "prediction", "num_tokens")
"""Columns of predictions that every evaluation reads."""
_IS_EVALUATED = pc.field("label").is_valid() & ~pc.field("split").isin([TRAIN])
"""Selects labelled rows that are not in the train split."""
TEXT = "text"
"""Column of the texts."""
AUTHOR = "author"
"""Column with a hash of the author; after :func:`replace_hashes`, with a number."""


def read(uri: str, scored: Manifest, *, columns: Sequence[str] = ()) -> pa.Table:
    """Read the labelled rows of the models that a manifest names, with their texts if available.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        columns: Columns for slices, which :func:`check_columns` has accepted.

    Returns:
        A table with the columns

        - ``row_id``, ``prediction``, ``num_tokens``, and ``probability_<class>`` of each class;
        - ``split``: one of ``EVALUATED``;
        - ``label``: a position among the classes of the model, then others;
        - ``unsure``, if the model leaves some texts to people;
        - ``text``, if scoring kept it, or if the prepared data have it and still exist;
        - ``author``, if the rows are whole authors, see :func:`find_authors`;
        - ``columns``, with names that begin with ``OWN``.

    Raises:
        UserError: There is no prediction, or a file is damaged.
        JobError: Some of ``columns`` are only in the prepared data, which are gone or were
            replaced.
    """
    if not any(item["path"].startswith("predictions/") for item in scored["files"]):
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    classes = lineage.classes_of_model(scored)
    texts = list_text_columns(scored)
    probabilities = [PROBABILITY + name for name in classes]
    measured = [*COLUMNS, *probabilities, *list_unsure_column(scored)]
    existing = list_columns_of_predictions(scored)
    asked = [name for name in columns if name in existing]
    author = find_authors(scored)
    author_here = author.column if author.is_kept and author.in_predictions else ""
    author_in_prepared = author.column if author.is_kept and not author.in_predictions else ""
    read_columns = [*measured, *texts, *asked]
    if author_here:
        read_columns.append(author_here)
    stored = pa.concat_tables(read_tables(uri, scored, read_columns))
    added = {"split": pc.fill_null(stored["split"], WHOLE)}  # null: there are no splits
    for name in asked:
        added[OWN + name] = stored[name]
    if author_here:
        row_id = stored["row_id"].to_numpy()
        added[AUTHOR] = pa.array(authors.hash_authors(stored[author_here], row_id))
    for name in texts:
        column = stored[name]
        if has_texts(column):
            added.setdefault(TEXT, column.cast(pa.string()))
    rows = put_columns(stored.select(measured), added).combine_chunks()
    missing = [name for name in columns if name not in asked]
    if TEXT in added and not missing and not author_in_prepared:
        return rows
    return _add_columns(rows, scored, missing, author_in_prepared)


def list_text_columns(scored: Manifest) -> list[str]:
    """List the kept columns of the predictions that may have the texts."""
    settings = scored["settings"]
    text_columns = (settings["text_column"], TEXT)
    return [name for name in settings["keep_columns"] if name in text_columns]


def has_texts(column: pa.ChunkedArray) -> bool:
    """Say whether a column has a text in each row."""
    is_text = str(column.type) in ("string", "large_string", "string_view")
    return is_text and column.null_count == 0


class Authors(NamedTuple):
    """Whether the evaluated rows are whole authors, and the column that names them."""

    is_whole: bool
    """Whether each author is evaluated with all rows or with none, as far as is known: the split is
    by user, or the corpus has no splits and its authors are kept."""
    column: str
    """The column with the authors; empty if it was not kept."""
    in_predictions: bool
    """Whether the predictions have the column; otherwise the prepared data."""

    @property
    def is_kept(self) -> bool:
        """Say whether the rows are whole authors whose names are known."""
        return self.is_whole and bool(self.column)


def find_authors(scored: Manifest) -> Authors:
    """Find out whether the evaluated rows are whole authors, and where their names are."""
    prepared = lineage.prepared_of(scored)
    form = lineage.format_of(scored)
    named = form.columns.user if form.columns else None
    of_predictions = authors.find_column(scored["settings"]["keep_columns"], named)
    if not prepared:
        is_whole = of_predictions is not None
        return Authors(is_whole, of_predictions or "", in_predictions=True)
    of_prepared = authors.find_column(prepared["settings"].get("keep_columns", ()), named)
    return Authors(
        is_whole=authors.are_whole(prepared),
        column=of_predictions or of_prepared or "",
        in_predictions=of_predictions is not None,
    )


def note_unknown_authors(scored: Manifest) -> list[str]:
    """Note that intervals are too narrow, if rows are whole authors whose names were not kept."""
    author = find_authors(scored)
    if not author.is_whole or author.column:
        return []
    return [
        "the split is by user, but the users were not kept, so intervals and tests count each "
        "text as independent and are too narrow: name user in prepare.keep_columns, and prepare "
        "again"
    ]


def read_tables(uri: str, scored: Manifest, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read columns of the evaluated rows, of the models that the manifest names, in batches."""
    chosen = _IS_EVALUATED
    if "models" in scored:
        columns = [*columns, "model_version"]
        chosen = chosen & pc.field("model_version").isin([*scored["models"]])
    tables = lineage.read_tables(uri, scored, ("predictions/",), list(dict.fromkeys(columns)))
    for table in tables:
        yield table.filter(chosen)


def check_columns(
    columns: Sequence[str],
    scored: Manifest,
    corpus: ScoredCorpus,
    *,
    setting: str = "evaluate.slices.columns",
) -> None:
    """Check that predictions, or the prepared data behind them, have some columns.

    Args:
        columns: Names of the columns.
        scored: Manifest of the predictions.
        corpus: The corpus that was scored.
        setting: The setting that names them, for the message.

    Raises:
        UserError: A column is missing. The message lists the columns that exist.
    """
    kept: Sequence[str] = ()
    if corpus.prepared:
        kept = corpus.prepared["settings"].get("keep_columns", ())
    existing = list(dict.fromkeys([*kept, *list_columns_of_predictions(scored)]))
    missing = [name for name in columns if name not in existing]
    if missing:
        raise UserError(
            f"{setting}: the predictions have no column {', '.join(few(missing))}; "
            f"their columns are {', '.join(few(existing))}",
            hint="name the column in prepare.keep_columns or score.keep_columns, and score again",
        )


def list_searched(scored: Manifest, corpus: ScoredCorpus) -> list[str]:
    """List the kept columns that are searched for slices.

    Ids, texts, labels, times and authors are left out, under the names of the format of the files
    and under our own.

    Args:
        scored: Manifest of the predictions.
        corpus: The corpus that was scored.
    """
    of_stages = [scored["settings"]]
    if corpus.prepared:
        of_stages.insert(0, corpus.prepared["settings"])
    left_out = {TEXT, "time", "label", "user", scored["settings"]["text_column"]}
    kept: list[str] = []
    for settings in of_stages:
        columns = settings.get("format", {}).get("columns") or {}
        left_out |= {columns.get(name) for name in ("id", TEXT, "label", "time", "user")}
        kept += settings.get("keep_columns", ())
    return [name for name in dict.fromkeys(kept) if name not in left_out]


def list_columns_of_predictions(scored: Manifest) -> list[str]:
    """List the columns of predictions, the kept ones first."""
    return [
        *scored["settings"]["keep_columns"],
        *predictions(lineage.classes_of_model(scored)).names,
        *list_unsure_column(scored),
    ]


def list_unsure_column(scored: Manifest) -> list[str]:
    """List the column ``unsure``, if the model leaves some texts to people; otherwise nothing."""
    settings = scored["inputs"]["model"]["settings"]
    return ["unsure"] if settings and settings.get("unsure") else []


def predicted_of(rows: pa.Table, class_values: Mapping[str, float] | None = None) -> Predicted:
    """Return labels, predictions and probabilities of rows, as metrics take them.

    Args:
        rows: As :func:`read` or :func:`evaluated_classes.match_classes` returns them.
        class_values: The numbers of ordered classes; None: the classes have no order.
    """
    if class_values is not None:
        return number_classes(predicted_of(rows), class_values)
    classes = classes_of(rows)
    label = rows["label"].to_numpy()
    prediction = rows["prediction"].to_numpy()
    groups = None
    if AUTHOR in rows.column_names:
        groups = _group_authors(rows[AUTHOR].to_numpy())
    if classes == BINARY:
        positive = rows[PROBABILITY + BINARY[1]].to_numpy()
        return Predicted.of_positive(
            label=label, probability=positive, prediction=prediction, groups=groups
        )
    probabilities = Columns([rows[PROBABILITY + name].to_numpy() for name in classes])
    return Predicted(classes, label, prediction, probabilities, groups)


def number_classes(predicted: Predicted, class_values: Mapping[str, float]) -> Predicted:
    """Add the numbers of ordered classes to rows; a class without a number gets NaN."""
    values = tuple(class_values.get(name, math.nan) for name in predicted.classes)
    return replace(predicted, class_values=values)


def _group_authors(author: np.ndarray) -> AuthorGroups:
    """Group rows by their authors, which are hashes (uint64) or numbers (int32)."""
    if author.dtype != np.int32:
        return AuthorGroups(author)
    return AuthorGroups(author, num_numbers=int(author.max(initial=-1)) + 1)


def replace_hashes(rows: pa.Table) -> pa.Table:
    """Replace the hashes of authors by numbers, which take 4 bytes a row instead of 8.

    Rows without authors stay as they are. The numbers are in the order of the hashes, so sums over
    authors stay the same to the last bit.
    """
    if AUTHOR not in rows.column_names:
        return rows
    number, _ = number_authors(rows[AUTHOR].to_numpy())
    return put_columns(rows, {AUTHOR: pa.array(number)})


def classes_of(rows: pa.Table) -> tuple[str, ...]:
    """List the classes of rows, in the order of their numbers.

    They are the classes of the model, then the classes that
    :func:`evaluated_classes.match_classes` has added.
    """
    return tuple(
        name.removeprefix(PROBABILITY) for name in rows.column_names if name.startswith(PROBABILITY)
    )


def choose_evenly(num_rows: int, max_rows: int) -> np.ndarray:
    """Choose the positions of at most ``max_rows`` rows, at equal distances."""
    return np.linspace(0, num_rows - 1, min(max_rows, num_rows)).astype(np.int64)


def name_any(classes: Sequence[str]) -> str:
    """Join the names of classes: ``negative, neutral or positive``."""
    *first, last = few([set_apart(name) for name in classes])
    return f"{', '.join(first)} or {last}"


def has_label_of(classes: Sequence[str]) -> pc.Expression:
    """Select the rows that are labelled with one of ``classes``.

    The numbers of these classes come first, so a label is theirs if it is smaller than their count.
    """
    return pc.field("label") < len(classes)


def headline_split(names: Sequence[str]) -> str:
    """Choose the split whose figures stand first in the report.

    The first that exists of: cross-validation, the test split, all rows, the validation split.
    """
    by_preference = (FOLDS, "test", WHOLE, "validation")
    return next(name for name in by_preference if name in names)


def of_split(rows: pa.Table, name: str) -> pa.Table:
    """Return the rows of a split whose label is one of the classes of the rows.

    They are not copied if they are all rows.
    """
    split = one_array(rows["split"])
    if pa.types.is_dictionary(split.type):
        names = split.dictionary.to_pylist()
        is_chosen = split.indices.to_numpy() == names.index(name)
    else:
        is_chosen = pc.equal(split, name).to_numpy(zero_copy_only=False)
    is_chosen = is_chosen & (rows["label"].to_numpy() < len(classes_of(rows)))
    return rows if is_chosen.all() else rows.filter(pa.array(is_chosen))


def divide_by_split(rows: pa.Table) -> dict[str, pa.Table]:
    """Find the labelled rows of each evaluated split; leave out splits without any."""
    by_split = {split: of_split(rows, split) for split in EVALUATED}
    return {split: part for split, part in by_split.items() if len(part)}


def _add_columns(rows: pa.Table, scored: Manifest, asked: Sequence[str], author: str) -> pa.Table:
    """Add texts, authors and columns for slices from the prepared tweets by ``row_id``.

    If there are no prepared tweets, or if they are gone or were replaced, the rows stay without
    texts.

    Raises:
        JobError: They are gone or were replaced, and columns are asked for.
    """
    prepared = lineage.prepared_of(scored)
    if not prepared:
        if asked:  # they existed when check_columns and list_searched looked
            uri = scored["inputs"]["corpus"]["uri"]
            raise JobError(f"{uri} was replaced while it was read: run again")
        return rows
    row_id = rows["row_id"].to_numpy()
    read_columns = [TEXT, *asked]
    if author:
        read_columns.append(author)
    once_each = list(dict.fromkeys(read_columns))
    source = lineage.read_prepared(scored, prepared, row_id, once_each, SPLITS[1:])
    added = {OWN + name: source[name] for name in asked}
    if author:
        added[AUTHOR] = pa.array(authors.hash_authors(source[author], row_id))
    if TEXT not in rows.column_names:
        added[TEXT] = source[TEXT]
    return put_columns(rows, added).combine_chunks()
