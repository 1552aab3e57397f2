"""The section ``prepare`` of the settings, and its sections, such as ``split``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sentiflow.config import vector_names
from sentiflow.config.format_sections import UnlabelledFormat
from sentiflow.config.text_units import CHARACTERS, Cut, DuplicateKey, Unit
from sentiflow.config.types import (
    ADDED,
    CountOrAuto,
    Distinct,
    Fraction,
    Location,
    Locations,
    Settings,
    Strings,
)


class SplitSettings(Settings):
    """How rows are divided into train, validation and test."""

    kind: Literal["hash", "tutorial", "user", "time", "column"] = "hash"
    """Rule that assigns rows to splits. ``hash``: by the normalized text, so that equal texts are
    in the same split. ``tutorial``: as in the university tutorial of docs/tutorial.md, by the row
    number modulo 5 (0 to 2 train, 3 test, 4 validation). ``user``: by the author, so that no author
    is in two splits. ``time``: the oldest rows are train, the newest are test, validation lies
    between. ``column``: by the column that the setting ``column`` names."""
    column: str = ""
    """``column``: the column that names the split of each row: train, training; validation, valid,
    val, dev, development; test, testing, eval, evaluation, holdout, heldout, in any case. If it
    names no validation or no test row, these are drawn from the train rows, as by ``hash``."""
    validation_fraction: Fraction = 0.1
    """Share of the texts, users or rows in the validation split. Ignored by ``tutorial``, and if
    ``column`` or ``prepare.validation`` gives the validation rows."""
    test_fraction: Fraction = 0.1
    """Share of the texts, users or rows in the test split. Ignored by ``tutorial``, and if
    ``column`` or ``prepare.test`` gives the test rows."""

    @model_validator(mode="after")
    def _check_fractions(self) -> "SplitSettings":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _check_column(self) -> "SplitSettings":
        if (self.kind == "column") != bool(self.column):
            raise ValueError("kind: column and column: NAME belong together")
        return self


class VocabularySettings(Settings):
    """The words that the model knows, and their pretrained vectors."""

    kind: Literal["corpus", "pretrained"] = "corpus"
    """Source of the words. ``corpus``: words of the train split; other words become ``<unk>``.
    ``pretrained``: the first words of ``vectors``; other words are dropped."""
    min_count: int = Field(default=3, ge=1)
    """``corpus``: minimum number of occurrences of a word in the train split."""
    max_size: int | None = Field(default=50_000, ge=1)
    """Maximum number of words. null: no limit."""
    vectors: Location = "package:glove.6B.50d"
    """Pretrained word vectors: ``package:glove.6B.50d``; ``torchtext:6B.50d``, which is
    downloaded once, to ``.vector_cache``; a file in the text format of GloVe or word2vec (.txt,
    .txt.gz, .zip); or the directory of a model package or of a run, whose learned vectors are
    used. ``random:128d``: none; the network learns vectors of this size from random ones."""

    @model_validator(mode="after")
    def _check_vectors(self) -> "VocabularySettings":
        if self.kind == "pretrained" and vector_names.is_random(self.vectors):
            raise ValueError(
                "kind: pretrained takes the words of vectors, and random ones have none"
            )
        return self


class UnlabelledSettings(Settings):
    """Additional texts without labels, for pretraining and distillation."""

    files: Locations = ()
    """Files of unlabelled texts: URIs and globs, as in ``prepare.csv``. Texts of validation and
    test rows are left out. Default: none."""
    format: UnlabelledFormat | None = None
    """Format of these files, with the settings of ``format``; labels are not read. Settings
    that are not given have their defaults. Default: CSV with a header, or Parquet, with the column
    ``text``."""

    @property
    def resolved_format(self) -> UnlabelledFormat:
        """The format that is given, or the default."""
        return self.format or UnlabelledFormat()


class PrepareSettings(Settings):
    """CSV or Parquet -> checked, split, encoded Parquet and a vocabulary."""

    csv: Locations = ()
    """Input files, CSV or Parquet (.parquet): a URI, a glob (``**``: any directories), or a list of
    URIs and globs; their order decides the row numbers. Files ending in .gz, .zst and .zip are
    unpacked; ``x.zip::member.csv`` names a file in an archive. Required by ``prepare`` and
    ``run``."""
    test: Locations = ()
    """Files of test rows, in the format of ``csv``. They are the whole test split, and no model is
    trained or chosen on them. Rows of ``csv`` with the same text are left out. Test rows are
    numbered before the rows of ``csv``. Only with ``split.kind: hash``. Default: none."""
    validation: Locations = ()
    """Files of validation rows, under the same rules as ``test``. Default: none."""
    output_uri: Location = ""
    """Directory of the prepared tables. Default: ``<output_uri>/prepared``."""
    every_nth: int = Field(default=1, ge=1)
    """Keep only the rows whose number is a multiple of this."""
    max_rejected_fraction: Fraction = 0.01
    """Limit of two shares: rejected rows among all rows, and unknown labels among all labels. If
    either is above it, the job ends and publishes nothing."""
    keep_raw: bool = True
    """Keep the bytes of rejected rows, in ``prepare`` and ``score``. They may contain personal
    data."""
    duplicates: Literal["keep", "drop_contradicting", "drop"] = "keep"
    """Treatment of texts that are equal except for case and white space (see ``duplicate_key``).
    ``keep``: keep all rows. ``drop_contradicting``: drop the rows of texts with more than one
    label. ``drop``: as ``drop_contradicting``; and of every other repeated text keep only one
    row."""
    duplicate_key: Annotated[DuplicateKey, ADDED] = "exact"
    """Which texts count as equal: they are in one split and one fold, and ``duplicates`` treats
    them alike. ``exact``: texts that differ only in case and white space. ``template``: also
    near-copies, which differ in mentions, links, punctuation, symbols, emoji and elongation
    (``sooo``); other numbers make another text. A text of fewer than three words has no
    near-copies; in a script without spaces, two letters count as a word."""
    corrections: Locations = ()
    """Files of corrected labels, CSV or Parquet. Columns: ``row_id`` or ``text``, which say which
    rows; and ``label``, the name of a class or a value of ``format.labels``. Corrections replace
    the labels of rows of ``csv``; a ``text`` stands for all rows with this text. Rows without a
    label are skipped. Default: none."""
    unlabelled: UnlabelledSettings = UnlabelledSettings()
    keep_columns: Annotated[Strings, Distinct] = ()
    """Additional columns for the prepared table ``tweets``: ``user`` and ``time`` as
    ``format.columns`` names them, and other columns by their name in the header or in Parquet. They
    may contain personal data."""
    split: SplitSettings = SplitSettings()
    tokenizer: Literal["tweet", "tutorial"] = "tweet"
    """Tokenizer. ``tweet`` recognizes links, mentions, entities, elongations and emoticons.
    ``tutorial``, as in the tutorial of docs/tutorial.md, splits at blanks and four punctuation
    marks."""
    unit: Annotated[Unit, ADDED] = "words"
    """What the network reads. ``words``: the tokens. ``characters``: the characters of each word,
    for languages with many forms of a word, such as Korean, Turkish or Swahili; mentions, links,
    hashtags, emoji and numbers stay whole. The linear model reads both in any case."""
    vocabulary: VocabularySettings = VocabularySettings()
    max_length: int = Field(default=64, ge=1)
    """Maximum number of units (see ``unit``) of a text that the network reads."""
    cut: Annotated[Cut, ADDED] = "end"
    """Which units of a longer text are left out. ``end``: the last ones. ``middle``: the first and
    the last half of ``max_length`` are kept, as the end of a long text often says what its author
    thinks."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """Approximate number of input rows for each output file. The input is cut into parts of this
    size, the unit of work and of resumption; a part becomes at most one file in each split."""
    num_workers: CountOrAuto = "auto"
    """Maximum number of workers. Each prepares one part at a time, on one core. ``auto``: the
    number of cores."""

    @property
    def additional_columns(self) -> tuple[str, ...]:
        """The columns to read in addition to the columns that ``format`` names."""
        names = [name for name in (*self.keep_columns, self.split.column) if name]
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _check_unit(self) -> "PrepareSettings":
        if self.unit == CHARACTERS and self.vocabulary.kind == "pretrained":
            raise ValueError(
                "unit: characters needs characters of the texts, and vocabulary.kind: pretrained "
                "has words: set vocabulary.kind: corpus"
            )
        return self

    @model_validator(mode="after")
    def _check_test_rows(self) -> "PrepareSettings":
        split = self.split
        if (self.test or self.validation) and split.kind != "hash":
            raise ValueError(
                f"test and validation are fixed files: leave out split.kind={split.kind}"
            )
        if self.test or split.test_fraction:
            return self
        # ``tutorial`` has its own share of test rows; with ``column`` the files have test rows
        if split.kind == "hash":
            raise ValueError("split.test_fraction is 0: name a file of test rows in prepare.test")
        if split.kind in ("user", "time"):
            raise ValueError(
                f"split.test_fraction is 0: with split.kind={split.kind}, only a share above 0 "
                "gives test rows"
            )
        return self
