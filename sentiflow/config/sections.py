"""Sections of the settings: the name, default, bounds and meaning of each setting."""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from sentiflow.config import submitter, vector_names
from sentiflow.config.format_sections import FormatSettings, UnlabelledFormat
from sentiflow.config.run_tags import Tags
from sentiflow.config.text_units import CHARACTERS, Cut, DuplicateKey, Unit
from sentiflow.config.train_sections import TrainSettings
from sentiflow.config.types import (
    ADDED,
    LOCATION,
    CountOrAuto,
    Distinct,
    Fraction,
    Location,
    Locations,
    Models,
    Patterns,
    Settings,
    ShareOrAuto,
    Space,
    Strings,
    TimeZone,
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


PREPARED = "prepared"
"""Value of ``score.corpus`` that is a name, not a location: the prepared tweets."""


class ScoreSettings(Settings):
    """Corpus + model package -> predictions."""

    corpus: Locations = Field(default=(PREPARED,), min_length=1)
    """Corpus to score. ``prepared``: the prepared tweets of all splits. Otherwise files or globs,
    CSV or Parquet; new files may have any name."""
    keep_expired: bool = False
    """Keep the predictions of scored files that are gone, for a corpus whose old files are deleted
    in time. By default a file that is gone is refused: it may have been renamed or merged, and its
    rows would then count twice."""
    prepared_uri: Location = ""
    """Directory of the prepared data. Default: ``prepare.output_uri``."""
    model_uri: Annotated[Models | None, LOCATION] = None
    """Model: the directory of a package or of a run, ``models:/name@champion``, ``models:/name/3``
    or ``runs:/ID/model``. With an alias such as ``@champion``, new files are scored by the alias's
    current version, and earlier predictions stay; ``--overwrite`` rescores all files. A list of
    models with the same classes: the mean of their probabilities. Default: the model in
    ``train.output_uri``."""
    predictions: Locations = ()
    """Files of predictions that another program has made, such as a language model, in place of a
    model: files or globs, Parquet or CSV with a header. Columns: ``row_id`` or the text, and
    ``predicted_label``, ``probability_<class>`` or both. Rows of the corpus without a prediction
    are rejected."""
    output_uri: Location = ""
    """Directory of the predictions. Default: ``<output_uri>/scored``."""
    format: FormatSettings | None = None
    """Format of scored CSV files; it has the settings of the top section ``format``. Missing
    settings come from the top section if both have the same ``kind``. ``columns`` and ``labels``
    come as a whole from one of the two."""
    text_column: str = "text"
    """Column with the text in scored Parquet files."""
    keep_columns: Annotated[Strings, Distinct] = ()
    """Columns of the corpus to copy to the predictions, such as ``text``, or ``brand`` of files in
    folders ``brand=A``."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """Rows in each file of predictions, approximate for CSV files. The corpus is cut into parts of
    this size, the unit of work and of resumption; a part becomes at most one file."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point precision. ``auto``: bf16 on a GPU, fp32 on a CPU. Recurrent layers on a GPU
    are always fp32 with TF32 products. On a CPU all is computed in fp32, also with ``bf16``."""
    num_workers: CountOrAuto = "auto"
    """Maximum number of workers. Each scores one part at a time, on one core. ``auto``: the number
    of cores, or up to four for each GPU."""
    gpus_per_worker: ShareOrAuto = "auto"
    """Share of a GPU for a worker. 0: no GPU. ``auto``: a quarter, or more if there are fewer than
    four cores for each GPU; 0 without GPUs."""

    @property
    def reads_prepared(self) -> bool:
        """Whether prepared data are scored, instead of files."""
        return self.corpus == (PREPARED,)

    @property
    def model_uris(self) -> tuple[str, ...]:
        """The models in ``model_uri``."""
        models = self.model_uri or ()
        return (models,) if isinstance(models, str) else models

    @model_validator(mode="after")
    def _check_source(self) -> "ScoreSettings":
        if self.predictions and self.model_uri:
            raise ValueError("predictions and model_uri exclude each other: keep one of them")
        return self


class SliceSettings(Settings):
    """User-defined slices."""

    columns: Strings = ()
    """Columns of the predictions (``score.keep_columns``): a slice for each value. Values with few
    rows are one slice, ``other``."""
    patterns: Patterns = Field(default={})
    """Names of slices, each with a regular expression (RE2) for its texts, such as ``{weather:
    "(?i)rain|sun"}``."""


Headline = Literal["accuracy", "f1_macro", "quadratic_kappa", "mae"]
"""Metrics that ``evaluate.headline`` may name."""
ORDERED_HEADLINES = ("quadratic_kappa", "mae")
"""Headlines of ordered classes only."""


class EvaluateSettings(Settings):
    """Predictions -> metrics and a report."""

    scored_uri: Location = ""
    """Directory of the predictions. Default: ``score.output_uri``."""
    output_uri: Location = ""
    """Directory of the report. Default: ``<output_uri>/report``."""
    slices: SliceSettings = SliceSettings()
    """Additional slices, by column or by pattern; see ``SliceSettings``."""
    num_examples: int = Field(default=15, ge=0)
    """Number of mistakes of each kind in the report. 0: the report shows no text and no word,
    and no table of mistakes or of deciding words is written."""
    behavior: bool = True
    """Test the model with generated texts: negation, robustness to typos, equal treatment of
    groups."""
    headline: Annotated[Headline, ADDED] = "accuracy"
    """The metric by which ``promote`` judges: ``accuracy``, ``f1_macro``, and for ordered classes
    (``format.ordered``) ``quadratic_kappa`` or ``mae``, the mean absolute error of
    ``median_label``; a lower ``mae`` is better."""


TIME_UNITS = ("hour", "day", "week", "month")
"""Units of time in ``trends.by``."""


class GroupKey(NamedTuple):
    """A column to group by."""

    column: str
    unit: str
    """The unit of time; empty if the column is grouped by its values."""


class TrendsSettings(Settings):
    """Predictions -> shares of the classes, with intervals, by column or time."""

    output_uri: Location = ""
    """Directory of the shares. Default: ``<output_uri>/trends``."""
    by: Annotated[Strings, Distinct, Field(max_length=2)] = ()
    """Columns of the predictions to group by, at most two: each alone and both together. Name them
    in ``score.keep_columns``, also the columns of folders such as ``brand=A``. ``created:week``
    groups the times in the column ``created`` by week; other units are ``hour``, ``day`` and
    ``month``."""
    time_zone: TimeZone = "UTC"
    """Time zone in which ``by`` groups times, such as ``Europe/Berlin``. A time without an offset
    is in UTC."""
    labels: Locations = ()
    """Files of manual labels, CSV or Parquet, with the columns ``row_id`` and ``label``; and
    ``sample``, if the rows were drawn with ``sentiflow trends --sample``: files of several draws
    count together. ``label_2`` may hold the labels of a second annotator. Default: the labels of
    the corpus on rows that the model was not trained on."""

    @property
    def keys(self) -> tuple[GroupKey, ...]:
        """The columns of ``by``."""
        keys = []
        for name in self.by:
            column, _, unit = name.rpartition(":")
            if column and unit in TIME_UNITS:
                keys.append(GroupKey(column, unit))
            else:
                keys.append(GroupKey(name, unit=""))
        return tuple(keys)

    @model_validator(mode="after")
    def _check_times(self) -> "TrendsSettings":
        units = [key.unit for key in self.keys if key.unit]
        if len(units) > 1:
            raise ValueError(
                f"by may name one column with a unit of time, not {len(units)}: "
                f"{', '.join(self.by)}"
            )
        return self


class SweepSettings(Settings):
    """Many trainings over a search space of settings."""

    output_uri: Location = ""
    """Directory of the trials and their table. Default: ``<output_uri>/sweep``."""
    space: Space = Field(default={})
    """Search space: for each setting, such as ``train.model.hidden_size``, a list of values or a
    range, ``{low: 1.0e-4, high: 1.0e-2, log: true}``."""
    num_trials: int | None = Field(default=None, ge=1)
    """Number of different combinations to draw at random. Default: a grid, that is, every
    combination of the lists."""
    grace_epochs: int = Field(default=1, ge=1)
    """Epochs before trials may be stopped early (ASHA, Li et al. 2020). About the best third of the
    trials continues; after three times as many epochs the best third of these, and so on. No trial
    is stopped early in three cases: this is ``train.num_epochs`` or more; or some trials differ
    only in ``train.seed``; or trials have different numbers of epochs, and ``train.schedule`` is
    not ``constant``."""
    max_concurrent: CountOrAuto = "auto"
    """Maximum number of trials at the same time. ``auto``: one for each GPU; without GPUs, one for
    each core, or as many as fit if trials have several workers."""


class TrackingSettings(Settings):
    """Where MLflow stores the runs."""

    uri: str | None = None
    """MLflow server, or ``sqlite:////absolute/path.db``. Default: the environment variable
    ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working directory."""
    required: bool = True
    """Stop if the store cannot be reached when a job starts. false: continue without tracking."""
    register_model: Literal["auto", True, False] = "auto"
    """Register models under ``name``, with the alias ``candidate``. ``auto``: register each refit,
    and the model of a ``sentiflow run`` after its evaluation. true: register the model of each
    training, except the trials of a sweep."""
    user: Annotated[str, AfterValidator(submitter.check)] | None = None
    """Name of the person who runs the job, for MLflow, for other users of the output, and for
    promotions. Default: the environment variable ``SENTIFLOW_USER``, or the user of the machine
    where the command was typed, also for a job of ``sentiflow submit``."""
    tags: Tags = Field(default={})
    """Your own tags for all runs, such as ``{team: crm, ticket: 4711}``. Names that begin with
    ``mlflow.`` or ``sentiflow.`` are reserved."""


class ClusterSettings(Settings):
    """How long a job waits for a cluster."""

    max_wait_minutes: float = Field(default=10.0, ge=0)
    """Maximum time that a job waits for a node that can do its work. Then the job fails; the same
    command resumes it."""


RunStage = Literal["prepare", "train", "score", "evaluate"]
RUN_STAGES: tuple[RunStage, ...] = ("prepare", "train", "score", "evaluate")
"""The stages of ``sentiflow run``, in their order."""


class Config(Settings):
    """The settings of one experiment; each job reads its own section."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Name of the MLflow experiment, and of the model in the registry of MLflow: letters of any
    script, digits, ``_``, ``.`` and ``-``."""
    output_uri: Location = Field(min_length=1)
    """Parent directory of ``prepared``, ``trained``, ``scored``, ``report``, ``trends``,
    ``samples`` and ``sweep``."""
    format: FormatSettings = FormatSettings()
    prepare: PrepareSettings = PrepareSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    trends: TrendsSettings = TrendsSettings()
    sweep: SweepSettings = SweepSettings()
    tracking: TrackingSettings = TrackingSettings()
    cluster: ClusterSettings = ClusterSettings()

    @property
    def trains(self) -> bool:
        """Whether ``sentiflow run`` trains; the locations must be absolute.

        It does not if ``score.predictions`` names the predictions of another program, or if
        ``score.model_uri`` lists several models and none is in ``train.output_uri``: an average of
        finished models. A single model from elsewhere changes
        nothing: the champion may score while another model is trained.
        """
        if self.score.predictions:
            return False
        uris = self.score.model_uris
        return len(uris) < 2 or any(self.is_trained_here(uri) for uri in uris)

    @property
    def run_stages(self) -> tuple[RunStage, ...]:
        """The stages of ``sentiflow run``: without the training if the config does not train."""
        if self.trains:
            return RUN_STAGES
        return tuple(stage for stage in RUN_STAGES if stage != "train")

    def is_trained_here(self, model_uri: str) -> bool:
        """Say whether the training of this config makes a model; the locations must be absolute."""
        return f"{model_uri}/".startswith(f"{self.train.output_uri}/")
