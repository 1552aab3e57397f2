"""Scored directories -> labelled rows that the models were not trained on, with their texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.schema import BINARY, SPLITS, predictions
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.slices import OWN

WHOLE = "all"
"""Name of the rows of a corpus that has no splits."""
EVALUATED = (*SPLITS[1:], WHOLE)
"""Splits that a model is evaluated on."""

_COLUMNS = ("row_id", "split", "label", "prediction", "num_tokens")
_PROBABILITY = "probability_"
_IS_EVALUATED = pc.field("label").is_valid() & ~pc.field("split").isin([SPLITS[0]])
"""Finds labelled rows that are not in the train split."""
_TEXT, _TIME = "text", "time"
_COMPARED_SPLITS = (SPLITS[2], WHOLE)


@dataclass(frozen=True)
class Scored:
    """A scored directory that a user named."""

    name: str
    uri: str
    record: Manifest
    """Manifest of the directory."""


Pair = tuple[Scored, Scored]


@dataclass(frozen=True)
class Predicted:
    """N labelled rows, and what a model of C classes predicts for them."""

    classes: tuple[str, ...]
    label: np.ndarray
    """N positions in ``classes``."""
    prediction: np.ndarray
    probabilities: np.ndarray
    """``(N, C)``."""

    @classmethod
    def of(cls, rows: pa.Table) -> "Predicted":
        """Take the columns of a table as :func:`read` returns it."""
        classes = classes_of(rows)
        if classes == BINARY:
            positive = rows["probability"].to_numpy()
            columns = [1 - positive, positive]
        else:
            columns = [rows[_PROBABILITY + name].to_numpy() for name in classes]
        label, prediction = (rows[name].to_numpy() for name in ("label", "prediction"))
        return cls(classes, label, prediction, np.stack(columns, axis=1))

    @property
    def is_binary(self) -> bool:
        """Say whether the classes are negative and positive."""
        return self.classes == BINARY

    @property
    def right(self) -> np.ndarray:
        """Say which predictions are right."""
        return np.asarray(self.prediction == self.label)

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of each prediction, as float64."""
        probabilities = self.probabilities.astype(np.float64)
        if self.is_binary:
            return np.asarray(0.5 + np.abs(probabilities[:, 1] - 0.5))
        return np.asarray(probabilities[np.arange(len(self.label)), self.prediction])


@dataclass(frozen=True)
class ComparedRows:
    """N rows that both models have scored and neither was trained on.

    Each is labelled with a class that both models have.
    """

    table: pa.Table
    """``row_id``, in rising order; ``label_0``, ``prediction_0``, ``probability_0`` or one column a
    class (``probability_neutral_0``) of the first model, ``_1`` of the second; ``text`` and
    ``time`` where one of both has them."""
    split: str
    num_only_in: tuple[int, int]
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_seen_by: tuple[int, int]
    """Rows of the other model's split that are in this model's training or validation split. They
    are not compared and not counted in ``num_only_in``."""
    notes: list[str]
    """What a reader should know about them."""
    num_classes: int
    """Classes that both models have; in ``predicted`` they come first."""

    @property
    def predicted(self) -> tuple[Predicted, Predicted]:
        """Return the predictions of both models; a class has the same number in both."""
        first, second = (self._take(end) for end in ("_0", "_1"))
        return first, second

    def _take(self, end: str) -> Predicted:
        names = [name for name in self.table.column_names if name.endswith(end)]
        of_model = self.table.select(names)
        return Predicted.of(of_model.rename_columns([name.removesuffix(end) for name in names]))


def read(uri: str, scored: Manifest, *, columns: Sequence[str] = ()) -> pa.Table:
    """Read the labelled rows, with their texts where these are available.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        columns: Columns of the user's own, for slices; see :func:`check_columns`.

    Returns:
        ``row_id``, ``split`` (one of ``EVALUATED``), ``label`` (the classes of the model, then
        others), ``prediction``, ``num_tokens``; ``probability`` (of positive) if the classes are
        negative and positive, otherwise ``probability_<class>`` for each; ``text`` and ``time``
        where they were kept by scoring, or are in the prepared data and these are not gone;
        ``columns``, their names after ``OWN``.

    Raises:
        UserError: No row is labelled with a class of the model, or a file is damaged.
    """
    if not any(item["path"].startswith("predictions/") for item in scored["files"]):
        raise UserError(f"{uri} has no prediction", hint="the corpus has no row that was scored")
    settings = scored["settings"]
    roles = {settings["text_column"]: _TEXT, _TEXT: _TEXT, _TIME: _TIME}
    kept = {name: roles[name] for name in settings["keep_columns"] if name in roles}
    hint = "score again with sentiflow score CONFIG --overwrite"
    classes = lineage.classes_of_model(scored)
    measured = ["probability"] if classes == BINARY else [_PROBABILITY + c for c in classes]
    own = [name for name in columns if name in _list_columns_of_predictions(scored)]
    used = dict.fromkeys((*_COLUMNS, *measured, *kept))
    needed = list(used | dict.fromkeys(own))
    tables = lineage.read_tables(uri, scored, ("predictions/",), columns=needed, hint=hint)
    rows = pa.concat_tables(table.filter(_IS_EVALUATED) for table in tables)
    for name in own:
        rows = rows.append_column(OWN + name, rows[name])
    rows = rows.drop_columns([name for name in own if name not in used])
    require_labelled(rows, uri)
    split = rows.schema.get_field_index("split")
    rows = rows.set_column(split, "split", pc.fill_null(rows["split"], WHOLE))
    rows = _name_kept(rows, kept).combine_chunks()
    missing = [name for name in columns if name not in own]
    if _TEXT in rows.column_names and not missing:
        return rows
    return _add_columns(rows, scored, missing)


def check_columns(columns: Sequence[str], scored: Manifest) -> None:
    """Check that predictions, or the prepared data behind them, have columns.

    Raises:
        UserError: They do not. The message lists the columns that there are.
    """
    there = list_columns(scored)
    if missing := [name for name in columns if name not in there]:
        raise UserError(
            f"evaluate.slices.columns: the predictions have no column {', '.join(missing)}; "
            f"their columns are {', '.join(there)}",
            hint="name the column in prepare.keep_columns or score.keep_columns, and score again",
        )


def list_columns(scored: Manifest) -> list[str]:
    """List the columns of predictions and of the prepared data behind them, those kept first."""
    prepared = lineage.corpus_of(scored)
    kept = prepared["settings"].get("keep_columns", ()) if prepared else ()
    return list(dict.fromkeys([*kept, *_list_columns_of_predictions(scored)]))


def _list_columns_of_predictions(scored: Manifest) -> list[str]:
    own = predictions(lineage.classes_of_model(scored)).names
    return [*scored["settings"]["keep_columns"], *own]


def require_labelled(rows: pa.Table, uri: str) -> None:
    """Make sure that there are labels to compare predictions with.

    Raises:
        UserError: No row is labelled with a class of the model.
    """
    if not len(rows.filter(_is_of(classes := classes_of(rows)))):
        raise UserError(
            f"{uri} has no labelled row that the model was not trained on",
            hint=f"evaluation needs rows labelled {name_any(classes)}",
        )


def classes_of(rows: pa.Table) -> tuple[str, ...]:
    """Name the classes of the model behind rows that :func:`read` returned."""
    names = rows.column_names
    found = tuple(n.removeprefix(_PROBABILITY) for n in names if n.startswith(_PROBABILITY))
    return found or BINARY


def name_any(classes: Sequence[str]) -> str:
    """Name classes: ``negative, neutral or positive``."""
    return f"{', '.join(classes[:-1])} or {classes[-1]}"


def _is_of(classes: Sequence[str]) -> pc.Expression:
    """Find rows that are labelled with a class of the model: these have the first codes."""
    return pc.field("label") < len(classes)


def headline_split(names: Sequence[str]) -> str:
    """Choose the split of the headline: test, else all rows, else validation."""
    return next(name for name in ("test", WHOLE, "validation") if name in names)


def of_split(rows: pa.Table, name: str) -> pa.Table:
    """Choose the rows of a split that are labelled with a class of the model."""
    return rows.filter((pc.field("split") == name) & _is_of(classes_of(rows)))


def _name_kept(rows: pa.Table, kept: dict[str, str]) -> pa.Table:
    """Rename kept columns by their role; drop those of another type."""
    for name, role in kept.items():
        column = rows[name]
        rows = rows.drop_columns(name)
        is_string = str(column.type) in ("string", "large_string", "string_view")
        is_text, is_time = is_string and not column.null_count, pa.types.is_timestamp(column.type)
        if (is_time if role == _TIME else is_text) and role not in rows.column_names:
            rows = rows.append_column(role, column.cast(column.type if is_time else pa.string()))
    return rows


def _add_columns(rows: pa.Table, scored: Manifest, own: Sequence[str]) -> pa.Table:
    """Add texts, times, and the user's own columns from the prepared tweets by row number."""
    prepared = lineage.corpus_of(scored)
    if not prepared:
        return rows
    tweets = lineage.read_tables(
        scored["inputs"]["corpus"]["uri"],
        prepared,
        tuple(f"tweets/split={split}/" for split in SPLITS[1:]),
        columns=["row_id", _TEXT, _TIME, *own],
        hint="prepare again with sentiflow prepare CONFIG --overwrite",
    )
    found = pa.concat_tables(tweets)
    position = pc.index_in(rows["row_id"], value_set=found["row_id"])
    for name in (_TEXT, _TIME):
        if name in found.column_names and name not in rows.column_names:
            rows = rows.append_column(name, found[name].take(position))
    for name in own:
        rows = rows.append_column(OWN + name, found[name].take(position))
    return rows.combine_chunks()


def read_pair(pair: Pair) -> ComparedRows:
    """Find the common rows of two test splits, or of two corpora without splits.

    Raises:
        UserError: The two number different rows, labels differ, there is no common row, or a file
            is damaged.
    """
    _check_numbers(pair)
    tables = [read(scored.uri, scored.record) for scored in pair]
    tables, classes, num_common, different = _number_alike(pair, tables)
    split = _find_split(pair, tables)
    tables = [table.filter(pc.equal(table["split"], split)) for table in tables]
    common = _join(*tables)
    _check_labels(pair, common, classes)
    seen = [lineage.find_training_rows(scored.record, name=scored.name) for scored in pair]
    row_ids = [of_split(table, split)["row_id"].to_numpy() for table in tables]
    seen_by_any = np.concatenate([known.row_ids for known in seen])
    unseen = [ids[~np.isin(ids, seen_by_any)] for ids in row_ids]
    common = common.filter(np.isin(common["row_id"].to_numpy(), np.intersect1d(*unseen)))
    if not len(common):
        raise UserError(
            f"{pair[0].name} and {pair[1].name} have no labelled row in common that neither model "
            "was trained on",
            hint="score the same prepared data with both models",
        )
    return ComparedRows(
        common.combine_chunks(),
        split,
        num_only_in=(len(unseen[0]) - len(common), len(unseen[1]) - len(common)),
        num_seen_by=(
            int(np.isin(row_ids[1], seen[0].row_ids).sum()),
            int(np.isin(row_ids[0], seen[1].row_ids).sum()),
        ),
        notes=[
            f"it is unknown which rows the model of {scored.name} was trained on"
            for scored, known in zip(pair, seen, strict=True)
            if not known.is_known
        ]
        + different,
        num_classes=num_common,
    )


def _number_alike(
    pair: Pair, tables: list[pa.Table]
) -> tuple[list[pa.Table], tuple[str, ...], int, list[str]]:
    """Give each class the same number in both tables: first the classes that both models have.

    Rows labelled with another class are left out. Tables of negative and positive stay as they are.

    Returns:
        The tables; the names of all classes; the number of those that both models have; notes.

    Raises:
        UserError: Fewer than two classes are common.
    """
    own = [classes_of(table) for table in tables]
    if own == [BINARY, BINARY]:
        return tables, manifest.find_classes(pair[0].record), len(BINARY), []
    common = [name for name in own[0] if name in own[1]]
    others = [name for name in dict.fromkeys((*own[0], *own[1])) if name not in common]
    if len(common) < 2:
        listed = " and ".join(
            f"{s.name} has {', '.join(o)}" for s, o in zip(pair, own, strict=True)
        )
        raise UserError(
            f"the models have fewer than two classes in common: {listed}",
            hint="compare models of the same classes",
        )
    classes, notes = (*common, *others), []
    if others:
        notes.append(
            f"the models have different classes: rows labelled {name_any(common)} are compared, "
            f"and a prediction of {' or '.join(others)} counts as wrong"
        )
    tables = [
        _renumber(table, manifest.find_classes(scored.record), classes, len(common))
        for scored, table in zip(pair, tables, strict=True)
    ]
    return tables, classes, len(common), notes


def _renumber(
    rows: pa.Table, names: tuple[str, ...], classes: tuple[str, ...], num_common: int
) -> pa.Table:
    """Replace positions in ``names`` by those in ``classes``; keep rows labelled with the first."""
    predicted = Predicted.of(rows)
    code = np.array([classes.index(n) if n in classes else len(classes) for n in names], np.int8)
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    probabilities[:, [classes.index(name) for name in predicted.classes]] = predicted.probabilities
    kept = [n for n in rows.column_names if n in ("row_id", "split", "num_tokens", _TEXT, _TIME)]
    renumbered = rows.select(kept)
    for name in ("label", "prediction"):
        renumbered = renumbered.append_column(name, pa.array(code[rows[name].to_numpy()]))
    for number, name in enumerate(classes):
        renumbered = renumbered.append_column(
            _PROBABILITY + name, pa.array(probabilities[:, number])
        )
    return renumbered.filter(pc.field("label") < num_common)


def _check_numbers(pair: Pair) -> None:
    """Make sure that the same row number is the same row in both.

    Raises:
        UserError: They come from different files, or their files are unknown.
    """
    names = f"{pair[0].name} and {pair[1].name}"
    corpora = [scored.record["inputs"]["corpus"] for scored in pair]
    if corpora[0]["fingerprint"] != corpora[1]["fingerprint"]:
        files = [_files_of(scored, names) for scored in pair]
        one, other = ([item["uri"] for item in found["files"]] for found in files)
        if files[0]["fingerprint"] != files[1]["fingerprint"]:
            what = "with different content" if one == other else f"{_list(one)}; {_list(other)}"
            raise UserError(
                f"{names} have scored different files ({what})",
                hint="score the same corpus with both models",
            )
    if lineage.has_header(pair[0].record) != lineage.has_header(pair[1].record):
        raise UserError(
            f"{names} number their rows differently: only one reads the first record of a file as "
            "a header",
            hint="use the same format.header, and score again",
        )


def _files_of(scored: Scored, names: str) -> Input:
    found = lineage.input_files_of(scored.record)
    if found is None:
        uri = scored.record["inputs"]["corpus"]["uri"]
        raise UserError(
            f"{names} have scored two preparations, and {uri} is gone or was redone: it is unknown "
            "whether their rows are the same",
            hint="score the same prepared data with both models",
        )
    return found


def _list(uris: Sequence[str]) -> str:
    return ", ".join(uris[:3]) + (f" and {len(uris) - 3} more" if len(uris) > 3 else "")


def _find_split(pair: Pair, tables: list[pa.Table]) -> str:
    """Find the split to compare by: ``test``, or ``all`` where there are no splits.

    Raises:
        UserError: Only one has splits, or a test split has no row labelled negative or positive.
    """
    found = [
        next((name for name in _COMPARED_SPLITS if len(of_split(table, name))), "")
        for table in tables
    ]
    if "" in found:
        raise UserError(
            f"{pair[found.index('')].name} has no test row labelled negative or positive",
            hint="prepare with a test_fraction above 0",
        )
    if found[0] != found[1]:
        kinds = {"test": "test rows", WHOLE: "no splits"}
        texts = [f"{s.name} has {kinds[name]}" for s, name in zip(pair, found, strict=True)]
        raise UserError(
            f"{', '.join(texts)}: it is unknown which rows neither model was trained on",
            hint="score the same prepared data with both models",
        )
    return found[0]


def _join(first: pa.Table, second: pa.Table) -> pa.Table:
    """Join rows by number; texts and times are the first's, where it has them."""
    repeated = [name for name in (_TEXT, _TIME) if name in first.column_names]
    second = second.select([name for name in second.column_names if name not in repeated])
    joined = first.join(second, "row_id", join_type="inner", left_suffix="_0", right_suffix="_1")
    return joined.sort_by("row_id")


def _check_labels(pair: Pair, common: pa.Table, classes: Sequence[str]) -> None:
    """Make sure that common rows have the same labels.

    Raises:
        UserError: They do not. The message names the first such row.
    """
    differing = common.filter(pc.not_equal(common["label_0"], common["label_1"]))
    if not len(differing):
        return
    row = differing.slice(0, 1).to_pylist()[0]
    names = [f"{classes[row[f'label_{i}']]} in {pair[i].name}" for i in (0, 1)]
    raise UserError(
        f"{len(differing):,} common rows have different labels: row {row['row_id']:,} is "
        f"{' and '.join(names)}",
        hint="score the same corpus with both models, with the same format.labels",
    )
