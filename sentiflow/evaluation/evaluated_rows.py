"""Scored directories -> labelled rows that the models were not trained on, with their texts."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import lineage, manifest, row_checks
from sentiflow.data.arrays import put_columns
from sentiflow.data.label_files import PROBABILITY
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY, SPLITS, predictions
from sentiflow.errors import UserError, few
from sentiflow.evaluation.slices import OWN
from sentiflow.metrics.predicted import Predicted

WHOLE = "all"
"""Name of the rows of a corpus that has no splits."""
FOLDS = "cross-validated"
"""Name of the figures of all labelled rows, by models that have not seen them."""
EVALUATED = (*SPLITS[1:], WHOLE)
"""Splits that a model is evaluated on."""

_COLUMNS = ("row_id", "split", "label", "prediction", "num_tokens")
_IS_EVALUATED = pc.field("label").is_valid() & ~pc.field("split").isin([SPLITS[0]])
"""Finds labelled rows that are not in the train split."""
TEXT = "text"
MAX_UNKNOWN = 0.01
"""Share of a corpus's labels that may be unknown."""


def read(uri: str, scored: Manifest, *, columns: Sequence[str] = ()) -> pa.Table:
    """Read the labelled rows of the models that a manifest names, with their texts where available.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        columns: Columns of the user's own, for slices; see :func:`check_columns`.

    Returns:
        ``row_id``, ``split`` (one of ``EVALUATED``), ``label`` (the classes of the model, then
        others), ``prediction``, ``num_tokens``, ``probability_<class>`` of each class; ``unsure``
        where the model leaves some texts to people; ``text`` where it was kept by scoring, or is
        in the prepared data and these are not gone; ``columns``, their names after ``OWN``.

    Raises:
        UserError: There is no prediction, or a file is damaged.
    """
    if not any(item["path"].startswith("predictions/") for item in scored["files"]):
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    settings, classes = scored["settings"], lineage.classes_of_model(scored)
    texts = [n for n in settings["keep_columns"] if n in (settings["text_column"], TEXT)]
    measured = [PROBABILITY + name for name in classes] + _name_unsure(scored)
    asked = [name for name in columns if name in _list_columns_of_predictions(scored)]
    chosen, version = _IS_EVALUATED, ["model_version"] if "models" in scored else []
    if version:
        chosen &= pc.field(*version).isin([*scored["models"]])
    kept_rows = pa.concat_tables(
        table.filter(chosen)
        for table in lineage.read_tables(
            uri,
            scored,
            ("predictions/",),
            list(dict.fromkeys((*_COLUMNS, *version, *measured, *texts, *asked))),
        )
    )
    added = {"split": pc.fill_null(kept_rows["split"], WHOLE)}
    added |= {OWN + name: kept_rows[name] for name in asked}
    for column in (kept_rows[name] for name in texts):
        is_text = str(column.type) in ("string", "large_string", "string_view")
        if is_text and not column.null_count:
            added.setdefault(TEXT, column.cast(pa.string()))
    rows = put_columns(kept_rows.select([*_COLUMNS, *measured]), added).combine_chunks()
    missing = [name for name in columns if name not in asked]
    is_whole = TEXT in added and not missing
    return rows if is_whole else _add_columns(rows, scored, missing)


def check_columns(
    columns: Sequence[str], scored: Manifest, *, setting: str = "evaluate.slices.columns"
) -> None:
    """Check that predictions, or the prepared data behind them, have columns.

    Args:
        columns: Names.
        scored: Manifest of the predictions.
        setting: What names them, for the message.

    Raises:
        UserError: They do not. The message lists the columns that there are.
    """
    prepared = lineage.corpus_of(scored)
    kept = prepared["settings"].get("keep_columns", ()) if prepared else ()
    existing = list(dict.fromkeys([*kept, *_list_columns_of_predictions(scored)]))
    if missing := [name for name in columns if name not in existing]:
        raise UserError(
            f"{setting}: the predictions have no column {', '.join(few(missing))}; "
            f"their columns are {', '.join(few(existing))}",
            hint="name the column in prepare.keep_columns or score.keep_columns, and score again",
        )


def list_searched(scored: Manifest) -> list[str]:
    """List the kept columns that are searched for slices: no ids, texts, labels, times, authors."""
    prepared = lineage.corpus_of(scored)
    left_out, kept = {TEXT, "time", "label", "user", scored["settings"]["text_column"]}, list[str]()
    for settings in (prepared["settings"] if prepared else {}, scored["settings"]):
        columns = settings.get("format", {}).get("columns") or {}
        left_out |= {columns.get(name) for name in ("id", TEXT, "label", "time", "user")}
        kept += settings.get("keep_columns", ())
    return [name for name in dict.fromkeys(kept) if name not in left_out]


def _list_columns_of_predictions(scored: Manifest) -> list[str]:
    return [
        *scored["settings"]["keep_columns"],
        *predictions(lineage.classes_of_model(scored)).names,
        *_name_unsure(scored),
    ]


def _name_unsure(scored: Manifest) -> list[str]:
    """Name the column of unsure texts, if the model leaves some to people."""
    return ["unsure"] if (scored["inputs"]["model"]["settings"] or {}).get("unsure") else []


def predicted_of(rows: pa.Table) -> Predicted:
    """Take the predictions for rows that :func:`read` returned."""
    classes = classes_of(rows)
    label, prediction = (rows[name].to_numpy() for name in ("label", "prediction"))
    if classes == BINARY:
        positive = rows[PROBABILITY + BINARY[1]].to_numpy()
        return Predicted.of_positive(label=label, probability=positive, prediction=prediction)
    probabilities = np.stack([rows[PROBABILITY + name].to_numpy() for name in classes], axis=1)
    return Predicted(classes, label, prediction, probabilities)


def classes_of(rows: pa.Table) -> tuple[str, ...]:
    """Name the classes of the model behind rows; then those that :func:`count_others` adds."""
    return tuple(
        name.removeprefix(PROBABILITY) for name in rows.column_names if name.startswith(PROBABILITY)
    )


def find_common_classes(
    of_models: Mapping[str, Sequence[str]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the classes that all models have, and the others, given those of each by its name.

    Raises:
        UserError: Fewer than two are common.
    """
    every = dict.fromkeys(name for classes in of_models.values() for name in classes)
    common = tuple(n for n in every if all(n in classes for classes in of_models.values()))
    if len(common) < 2:
        listed = (f"{name} has {', '.join(few(classes))}" for name, classes in of_models.items())
        raise UserError(
            f"the models have fewer than two classes in common: {' and '.join(listed)}",
            hint="compare models of the same classes",
        )
    return common, tuple(name for name in every if name not in common)


def spread(num_rows: int, most: int) -> np.ndarray:
    """Number at most so many of some rows, at equal distances."""
    return np.linspace(0, num_rows - 1, min(most, num_rows)).astype(np.int64)


def name_any(classes: Sequence[str]) -> str:
    """Name classes: ``negative, neutral or positive``."""
    *first, last = few(classes)
    return f"{', '.join(first)} or {last}"


def count_others(
    rows: pa.Table, scored: Manifest, left_out: Collection[str] = ()
) -> tuple[pa.Table, list[str]]:
    """Make rows of classes that the model does not know mistakes; leave others out.

    A class that the model does not know becomes one that it gives no probability: its recall and F1
    are 0, and its log loss is that of ``PROBABILITY_FLOOR``. Classes that the settings of the
    training leave out are no part of the question: their rows are left out.

    Args:
        rows: As :func:`read` returns them.
        scored: Manifest of the predictions.
        left_out: Further classes to leave out.

    Returns:
        The rows, whose ``label`` is a position in :func:`classes_of` them; notes.

    Raises:
        UserError: Too many labels of the corpus are unknown.
    """
    notes = _check_unknown(scored)
    names, model = manifest.find_classes(scored), lineage.classes_of_model(scored)
    left_out = {*left_out, *lineage.left_out_of(scored["inputs"]["model"])}
    counts = np.bincount(rows["label"].to_numpy(), minlength=len(names)).tolist()
    present = {name: count for name, count in zip(names, counts, strict=True) if count}
    others = {n: c for n, c in present.items() if n not in model and n not in left_out}
    leaving = {n: c for n, c in present.items() if n in left_out}
    texts = {
        "the model does not know these labels, and their rows count as mistakes": others,
        "rows are left out, as the settings of the training leave out their classes": leaving,
    }
    for text, of_classes in texts.items():
        if of_classes:
            listed = few([f"{name} {count:,}" for name, count in of_classes.items()])
            notes.append(f"{text}: {', '.join(listed)}")
    order = (*model, *others)
    code = np.array([order.index(n) if n in order else -1 for n in names], np.int8)
    code[[n in left_out and n in model for n in names]] = -1
    none = pa.array(np.zeros(len(rows), np.float32))
    labels = {"label": pa.array(code[rows["label"].to_numpy()])}
    rows = put_columns(rows, labels | {PROBABILITY + name: none for name in others})
    return rows.filter(pc.field("label") >= 0), notes


def _check_unknown(scored: Manifest) -> list[str]:
    """Refuse a corpus of which too many labels are unknown; say how many are.

    Scoring makes them null, so that their rows are in no figure.
    """
    number, num_labelled = (scored["counts"].get(n, 0) for n in ("unknown_labels", "labelled"))
    if not number:
        return []
    listed = row_checks.list_unknown(scored.get("unknown_values", {}))
    what = f"{number:,} of {number + num_labelled:,} labels are unknown: {listed}"
    if number > MAX_UNKNOWN * (number + num_labelled):
        raise UserError(
            f"{lineage.name_corpus(scored)}: {what}",
            hint="correct the file, or name the labels in score.format.labels, as a class (their "
            "rows are mistakes) or as unlabelled (they are left out), and score again",
        )
    return [f"rows with an unknown label are in no figure: {what}"]


def is_of(classes: Sequence[str]) -> pc.Expression:
    """Find rows that are labelled with one of these classes, which have the first codes."""
    return pc.field("label") < len(classes)


def headline_split(names: Sequence[str]) -> str:
    """Choose the figures of the headline: of folds, of test, of all rows, else of validation."""
    return next(name for name in (FOLDS, "test", WHOLE, "validation") if name in names)


def of_split(rows: pa.Table, name: str) -> pa.Table:
    """Choose the rows of a split that are labelled with one of the classes."""
    return rows.filter((pc.field("split") == name) & is_of(classes_of(rows)))


def _add_columns(rows: pa.Table, scored: Manifest, asked: Sequence[str]) -> pa.Table:
    """Add texts and the columns for slices from the prepared tweets by row number."""
    prepared = lineage.corpus_of(scored)
    if not prepared:
        return rows
    source = lineage.read_prepared(
        scored, prepared, rows["row_id"].to_numpy(), [TEXT, *asked], SPLITS[1:]
    )
    added = {OWN + name: source[name] for name in asked}
    if TEXT not in rows.column_names:
        added[TEXT] = source[TEXT]
    return put_columns(rows, added).combine_chunks()
