"""Config -> how much data a stage will read: from prepared data, or guessed from its files.

A guess is fast: it reads only the beginning of the first file.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config import vector_names
from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import Config
from sentiflow.data import first_rows, input_files, prepared_data, table_files
from sentiflow.data.manifest_types import InputFile, Manifest
from sentiflow.data.output_status import read_result
from sentiflow.errors import UserError
from sentiflow.models import tokenizer, units

CSV_ROW_BYTES = 130
"""Bytes of a row in an uncompressed CSV whose beginning cannot be read."""
PACKED_RATIO = 2.6
"""Bytes of a CSV for each byte of the same rows in Parquet, or in a compressed CSV."""
VECTOR_SIZE = 50
"""Size of word vectors of which the size is unknown."""
_TEXT_PLACE = 5
"""Column of the text in the CSV of Sentiment140, all of whose rows are labelled."""


class StageData(NamedTuple):
    """How much data a stage reads."""

    num_rows: float
    """Rows, unlabelled texts included."""
    num_bytes: float
    """Bytes of its files; of Parquet and compressed files, of the same rows in a CSV."""
    num_train: float
    """Labelled rows of the train split."""
    num_unlabelled: float
    """Texts of ``prepare.unlabelled``."""
    tokens_per_row: float
    vector_size: int
    """Size of the word vectors."""
    num_classes: int
    """Classes of the labels."""
    num_in_folds: float = 0.0
    """Labelled rows that a training with folds divides among them."""
    has_given_test: bool = False
    """Whether the test rows are from files of their own."""
    is_ordered: bool = False
    """Whether the classes have an order."""


class _Sample(NamedTuple):
    """The rows at the beginning of a file."""

    row_bytes: float
    """Bytes of a row in a CSV."""
    tokens_per_row: float
    labelled_fraction: float
    """Share of the rows with a label."""


def find(verb: str, config: Config, corpus: Sequence[InputFile] | None = None) -> StageData:
    """Find the amount of data of a preparation, a training or a scoring.

    Args:
        verb: The stage.
        config: The experiment.
        corpus: The files of ``score.corpus``, if they are known; None: they are listed.

    Raises:
        UserError: A file does not exist.
    """
    if verb == "score" and not config.score.reads_prepared:
        return _guess_corpus(config, corpus)
    if verb != "prepare":
        section = config.score if verb == "score" else config.train
        prepared = read_result(section.prepared_uri)
        if prepared:
            return of_prepared(prepared)
    return _guess_prepared(config)


def of_prepared(prepared: Manifest) -> StageData:
    """Describe prepared data by their manifest."""
    counts = prepared["counts"]
    of_train = counts["labels"]["train"]
    num_labelled = sum(rows for name, rows in of_train.items() if name != UNLABELLED)
    num_unlabelled = counts.get("unlabelled", {}).get("accepted", 0)
    num_bytes = 0.0
    for name in ("csv", "unlabelled"):
        files = prepared["inputs"].get(name, {}).get("files", [])
        num_bytes += _sum_bytes(files)
    return StageData(
        num_rows=counts["accepted"],
        num_bytes=num_bytes,
        num_train=num_labelled,
        num_unlabelled=num_unlabelled,
        tokens_per_row=prepared_data.find_tokens_per_row(prepared),
        vector_size=vector_names.find_size(prepared_data.find_vectors(prepared), VECTOR_SIZE),
        num_classes=sum(1 for name, rows in of_train.items() if rows and name != UNLABELLED),
        num_in_folds=_count_in_folds(prepared),
        has_given_test=prepared_data.has_given_test(prepared),
        is_ordered="class_values" in prepared,
    )


def _count_in_folds(prepared: Manifest) -> int:
    """Count the labelled rows of the splits that are not given."""
    given = prepared.get("fixed_splits", ())
    num_rows = 0
    for split, counts in prepared["counts"]["labels"].items():
        if split not in given:
            num_rows += sum(rows for name, rows in counts.items() if name != UNLABELLED)
    return num_rows


def count_bytes(file: InputFile) -> float:
    """Return the bytes of a file; for Parquet and compressed files, of the same rows in a CSV."""
    is_plain = file["uri"].endswith("sv")  # .csv or .tsv
    return file["bytes"] * (1 if is_plain else PACKED_RATIO)


def _sum_bytes(files: Iterable[InputFile]) -> float:
    """Add up the bytes of files, see :func:`count_bytes`."""
    return sum(count_bytes(file) for file in files)


def _guess_corpus(config: Config, corpus: Sequence[InputFile] | None) -> StageData:
    """Guess the rows of ``score.corpus``."""
    score = config.score
    files = input_files.find(score.corpus) if corpus is None else corpus
    form = score.format or config.format
    sample = _read_sample(files, form, config, text_column=score.text_column)
    num_bytes = _sum_bytes(files)
    return StageData(
        num_rows=num_bytes / sample.row_bytes,
        num_bytes=num_bytes,
        num_train=0,
        num_unlabelled=0,
        tokens_per_row=sample.tokens_per_row,
        vector_size=vector_names.find_size(config.prepare.vocabulary.vectors, VECTOR_SIZE),
        num_classes=2,
    )


def _guess_prepared(config: Config) -> StageData:
    """Guess the rows that a preparation reads and makes."""
    prepare = config.prepare
    given = [*prepare.test, *prepare.validation]
    files = input_files.find(prepare.csv) if prepare.csv else []
    given_files = input_files.find(given) if given else []
    unlabelled = prepare.unlabelled
    texts = input_files.find(unlabelled.files) if unlabelled.files else []
    sample = _read_sample(files, config.format, config)
    of_texts = _read_sample(texts, unlabelled.resolved_format, config)
    num_rows = _sum_bytes(files) / sample.row_bytes
    num_given = _sum_bytes(given_files) / sample.row_bytes
    num_texts = _sum_bytes(texts) / of_texts.row_bytes
    train_fraction = 1.0
    if not prepare.validation:
        train_fraction -= prepare.split.validation_fraction
    if not prepare.test:
        train_fraction -= prepare.split.test_fraction
    num_labelled = num_rows * sample.labelled_fraction / prepare.every_nth
    return StageData(
        num_rows=(num_rows + num_given + num_texts) / prepare.every_nth,
        num_bytes=_sum_bytes([*files, *given_files, *texts]),
        num_train=num_labelled * train_fraction,
        num_unlabelled=num_texts / prepare.every_nth,
        tokens_per_row=sample.tokens_per_row,
        vector_size=vector_names.find_size(prepare.vocabulary.vectors, VECTOR_SIZE),
        num_classes=len(config.format.learnable) or 2,
        num_in_folds=num_labelled,
        has_given_test=bool(prepare.test),
        is_ordered=config.format.ordered,
    )


def _read_sample(
    files: Sequence[InputFile], form: FormatSettings, config: Config, text_column: str = "text"
) -> _Sample:
    """Read the beginning of the last file; where it cannot be read, assume short texts.

    The first files of a corpus that grows may be gone.

    Args:
        files: The files.
        form: Their format.
        config: Has the tokenizer.
        text_column: Column of the text in Parquet that the format does not describe.
    """
    usual = _Sample(float(CSV_ROW_BYTES), prepared_data.TOKENS_PER_ROW, 1.0)
    if not files:
        return usual
    file = files[-1]
    try:
        first = first_rows.read(file["uri"], form)
        num_rows = first.rows.num_rows
        if not num_rows:
            return usual
        columns = form.columns
        is_parquet = len(first.schema) > 0
        text_place: int | str = text_column if is_parquet else _TEXT_PLACE
        label_place = None
        if columns:
            text_place = columns.text
            label_place = columns.label
        if is_parquet and text_column in first.names:
            text_place = text_column
        text = first.column(text_place)
        label = None if label_place is None else first.column(label_place)
    except (KeyError, IndexError, OSError, UserError):  # the stage itself says what is wrong
        return usual
    if is_parquet:
        row_bytes = count_bytes(file) / table_files.read_footer(file["uri"]).num_rows
    else:
        size = file["bytes"] if first.is_whole else first_rows.FIRST_BYTES
        row_bytes = size / num_rows
    tokens = tokenizer.tokenize(pc.drop_null(text).cast(pa.string()), name=config.prepare.tokenizer)
    tokens = units.split(tokens, config.prepare.unit)
    num_tokens = len(tokens.cut(config.prepare.max_length, config.prepare.cut).ids)
    tokens_per_row = prepared_data.average_tokens(num_tokens, num_rows)
    return _Sample(row_bytes, tokens_per_row, _find_labelled_fraction(label))


def _find_labelled_fraction(label: pa.Array | None) -> float:
    """Find the share of the rows whose label is not empty; 1 if there is no column."""
    if label is None:
        return 1.0
    written = pc.utf8_trim_whitespace(pc.fill_null(label.cast(pa.string()), ""))
    return float(pc.mean(pc.not_equal(written, "")).as_py())
