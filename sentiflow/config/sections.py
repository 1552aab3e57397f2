"""Section -> its settings: name, default, bounds and meaning of each."""

import math
from typing import Literal

from pydantic import Field, model_validator

from sentiflow.config.model_sections import ModelSettings, RnnSettings
from sentiflow.config.sweep_space import Space
from sentiflow.config.types import (
    Column,
    CountOrAuto,
    Fraction,
    Patterns,
    RequiredColumn,
    Settings,
    ShareOrAuto,
    Strings,
    Written,
)
from sentiflow.storage.uris import names_model


class ColumnsSettings(Settings):
    """Which column is which: its name in the header, or its position counted from 0."""

    text: RequiredColumn
    """The text."""
    label: Column = None
    """The label; null: no row is labelled."""
    id: Column = None
    """The text's own id, which becomes ``tweet_id``."""
    user: Column = None
    """Who wrote it, for ``prepare.split.kind: user``."""
    time: Column = None
    """When it was written, for ``prepare.split.kind: time``."""


class LabelsSettings(Settings):
    """How labels are written: one value each, or a list; blanks around them do not count."""

    negative: Written
    """Become label 0."""
    positive: Written
    """Become label 1."""
    neutral: Written = ()
    """Become label 2: kept and scored, never trained on."""
    unlabelled: Written = ("",)
    """Stand for no label: kept and scored, never trained on. Any other value is refused."""

    @model_validator(mode="after")
    def _check_distinct(self) -> "LabelsSettings":
        values = [*self.negative, *self.positive, *self.neutral, *self.unlabelled]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands for two labels")
        return self


class FormatSettings(Settings):
    """What the CSV looks like."""

    kind: Literal["sentiment140", "csv"] = "sentiment140"
    """``sentiment140``: target, id, date, flag, user, text; targets 0, 2 and 4; no header;
    ``csv``: as ``columns``, ``labels``, ``header`` and ``delimiter`` say."""
    columns: ColumnsSettings | None = None
    """``csv``: which column is which."""
    labels: LabelsSettings | None = None
    """``csv``: how labels are written."""
    header: bool | None = None
    """``csv``: whether the first record names the columns; null: if ``columns`` has a name."""
    delimiter: str = ","
    """``csv``: the one character between columns, such as ``;`` or a tab."""
    time_format: str | None = None
    """``csv``: of the time column, for strptime: ``%d/%m/%Y %H:%M``; null: ISO 8601, or seconds
    since 1970."""
    encoding: Literal["utf-8", "latin-1", "cp1252"] = "utf-8"
    """Of the bytes."""
    errors: Literal["replace", "ignore"] = "replace"
    """Bytes that are nothing in ``encoding``: ``replace`` by U+FFFD, or ``ignore`` (drop) them."""
    max_text_length: int = Field(default=10_000, ge=1)
    """A text of more characters is refused."""

    @model_validator(mode="after")
    def _check_kind(self) -> "FormatSettings":
        own = ("columns", "labels", "header", "time_format")
        given = [name for name in own if getattr(self, name) is not None]
        if self.kind == "sentiment140":
            if given or self.delimiter != ",":
                raise ValueError(f"{(*given, 'delimiter')[0]} needs kind: csv")
            return self
        if self.columns is None:
            raise ValueError("kind: csv needs columns, such as columns: {text: 0}")
        if (self.columns.label is None) != (self.labels is None):
            raise ValueError("columns.label and labels need each other")
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n':
            raise ValueError(f"delimiter {self.delimiter!r} is not one ASCII character")
        names = [value for value in dict(self.columns).values() if isinstance(value, str)]
        if self.header is False and names:
            raise ValueError(f"column {names[0]!r} is a name, but header is false")
        return self


class SplitSettings(Settings):
    """Which rows are trained on, tuned on and tested on."""

    kind: Literal["hash", "tutorial", "user", "time"] = "hash"
    """``hash``: by the normalized text, so that equal texts never part; ``tutorial``: row number
    modulo 5 (0 to 2 train, 3 test, 4 validation); ``user``: no user in two splits;
    ``time``: train before validation before test."""
    validation_fraction: Fraction = 0.1
    """Share of the texts, users or rows; not for ``tutorial``."""
    test_fraction: Fraction = 0.1
    """Share of the texts, users or rows; not for ``tutorial``."""

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> "SplitSettings":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self


class VocabularySettings(Settings):
    """Which words the model knows, and the vectors it starts from."""

    kind: Literal["corpus", "pretrained"] = "corpus"
    """``corpus``: words of the train split, the others become ``<unk>``;
    ``pretrained``: the first words of ``vectors``, the others are dropped."""
    min_count: int = Field(default=3, ge=1)
    """``corpus``: a word occurs at least this often in the train split."""
    max_size: int | None = Field(default=50_000, ge=1)
    """At most this many words; null: all of them."""
    vectors: str = "package:glove.6B.50d"
    """``package:glove.6B.50d``; ``torchtext:6B.50d`` from torchtext's cache; a file in GloVe's or
    word2vec's text form (.txt, .txt.gz, .zip); or a model package, to use the vectors it has
    learned."""
    vectors_cache: str = ".vector_cache"
    """torchtext's cache directory."""

    @model_validator(mode="after")
    def _check_vectors(self) -> "VocabularySettings":
        if names_model(self.vectors):
            raise ValueError(f"vectors={self.vectors}: give the directory of the model's package")
        return self


class PrepareSettings(Settings):
    """CSV -> checked, split, encoded Parquet and a vocabulary."""

    csv: Strings = Field(default=(), min_length=1, validate_default=True)
    """One URI, a glob, or a list of them, in the order that numbers the rows; .gz, .zst and .zip
    (``x.zip::member.csv``) are unpacked."""
    output_uri: str = ""
    """Where the prepared tables go; ``<output_uri>/prepared`` by default."""
    every_nth: int = Field(default=1, ge=1)
    """Keep the rows whose number this divides."""
    max_rejected_fraction: Fraction = 0.01
    """More refused rows than this share end the job before anything is published."""
    keep_raw: bool = True
    """Keep the bytes of refused rows (they may hold personal data)."""
    duplicates: Literal["keep", "drop_contradicting", "drop"] = "keep"
    """Of texts that are equal but for case and white space: ``keep`` all;
    ``drop_contradicting``: leave out those that carry two labels; ``drop``: those, and all but one
    row of the others."""
    keep_columns: tuple[Literal["user", "time"], ...] = ()
    """Columns to keep in ``tweets``: ``user``, ``time`` (they may be personal data)."""
    split: SplitSettings = SplitSettings()
    tokenizer: Literal["tweet", "tutorial"] = "tweet"
    """``tweet`` knows links, mentions, entities, elongations and emoticons; ``tutorial`` splits at
    blanks and four marks."""
    vocabulary: VocabularySettings = VocabularySettings()
    max_length: int = Field(default=64, ge=1)
    """Tokens kept of a tweet."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """About how many input rows go into one part, the unit of work and of resumption."""
    num_workers: CountOrAuto = "auto"
    """Parts at the same time, each on a core of its own; ``auto``: as many as there are cores."""


class BatchingSettings(Settings):
    """How encoded tweets are grouped into padded batches."""

    global_batch_size: int = Field(default=256, ge=1)
    """Rows in one optimizer step over all workers; more workers take a smaller share each."""
    bucketing: Literal["pooled", "exact"] = "pooled"
    """``pooled``: nearly equal lengths; ``exact``: equal lengths, as in the tutorial."""
    drop_last: bool = False
    """Leave out a batch that is not full, as the tutorial does."""


class PretrainSettings(Settings):
    """What the first recurrent layer learns from the train split's text, before any label."""

    num_epochs: int = Field(default=0, ge=0)
    """Passes over the train split in which it foretells the next and the previous word."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Adam's highest step size; it goes up and down once."""
    num_negatives: int = Field(default=500, ge=1)
    """Words from which the right one must be told."""


class CheckpointSettings(Settings):
    """When the state of a training is written, to go on from; each epoch's end is a time too."""

    every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps from one checkpoint to the next; null: none by steps."""
    every_minutes: float | None = Field(default=5.0, gt=0)
    """Minutes from one checkpoint to the next; null: none by time."""
    keep_last: int = Field(default=2, ge=1)
    """So many of the latest stay, and the best epoch's."""


class SelectionSettings(Settings):
    """Which epoch's weights become the model, and when the training has had enough."""

    metric: Literal["accuracy", "loss"] = "accuracy"
    """On the validation rows: highest ``accuracy``, or lowest ``loss``."""
    keep: Literal["best", "last"] = "best"
    """Take the ``best`` epoch's weights, or the ``last`` one's."""
    patience: int | None = Field(default=None, ge=1)
    """End after so many epochs without a better one; null: train them all."""

    def order(self, value: float | None) -> float:
        """Turn a value of the metric into a number that is lower for a better one."""
        if value is None:
            return math.inf
        return value if self.metric == "loss" else -value


class TrainSettings(Settings):
    """Encoded Parquet -> a model package."""

    prepared_uri: str = ""
    """The prepared data; what ``prepare`` left by default."""
    output_uri: str = ""
    """Where the model goes; ``<output_uri>/trained`` by default."""
    model: ModelSettings = RnnSettings()
    batching: BatchingSettings = BatchingSettings()
    pretrain: PretrainSettings = PretrainSettings()
    num_epochs: int = Field(default=5, ge=1)
    """Passes over the train split."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Adam's step size; the highest one under ``one_cycle``."""
    ngram_learning_rate: float = Field(default=0.1, gt=0)
    """Of the n-grams' weights, on the same schedule; they are not clipped."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """Learning rate over the steps: up and down again once (Smith 2018), down along a cosine, or
    constant."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null: as it is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 autocast on a GPU, fp32 on a CPU."""
    num_workers: CountOrAuto = "auto"
    """Data-parallel workers; ``auto``: one for each GPU, else one for each node."""
    min_workers: int = Field(default=1, ge=1)
    """When nodes are lost it goes on with as many workers as still have room, but not with fewer
    than this; the model is the same."""
    cpus_per_worker: CountOrAuto = "auto"
    """Cores set aside for a worker, which computes on one fewer; ``auto``: its share of a node."""
    gpus_per_worker: Literal["auto", 0, 1] = "auto"
    """GPUs for a worker; ``auto``: one, where the cluster has any, or its autoscaler says that it
    may; 1 waits for nodes that have one."""
    max_failures: int = Field(default=3, ge=0)
    """So many times workers are started again after one has died, from the last checkpoint."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Decides the first weights, the order of the rows and the dropout."""
    frozen_epochs: int = Field(default=0, ge=0)
    """Epochs at the beginning in which ``tuned`` vectors stay as they are."""
    init_from: str | None = None
    """A model package of the same network to start from; words are matched by their spelling."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    selection: SelectionSettings = SelectionSettings()

    @model_validator(mode="after")
    def _check_pretrain(self) -> "TrainSettings":
        if self.pretrain.num_epochs and not isinstance(self.model, RnnSettings):
            raise ValueError(
                f"model.kind={self.model.kind} has no recurrent layer to pretrain: set "
                "pretrain.num_epochs=0"
            )
        return self


class ScoreSettings(Settings):
    """Corpus + model package -> predictions."""

    corpus: Strings = Field(default=("prepared",), min_length=1)
    """``prepared``: the prepared tweets of all splits; or files or globs, CSV or Parquet."""
    prepared_uri: str = ""
    """The prepared data; what ``prepare`` left by default."""
    model_uri: str | None = None
    """A model package: a directory, ``models:/name@champion``, ``models:/name/3`` or
    ``runs:/ID/model``; what ``train`` left by default."""
    output_uri: str = ""
    """Where the predictions go; ``<output_uri>/scored`` by default."""
    format: FormatSettings | None = None
    """What a scored CSV looks like; the top level's ``format`` by default."""
    text_column: str = "text"
    """Where a scored Parquet file has its texts."""
    keep_columns: Strings = ()
    """Columns of the corpus to repeat beside the predictions, such as ``text``."""
    keep_raw: bool = True
    """Keep the bytes of refused rows (they may hold personal data)."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """Rows in one part, the unit of work and of resumption; of a CSV, about so many."""
    batch_size: CountOrAuto = "auto"
    """Rows in one padded batch; it changes the speed, never a prediction beyond rounding. ``auto``:
    what suits the network."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 on a GPU, fp32 on a CPU."""
    num_workers: CountOrAuto = "auto"
    """Parts at the same time, each on a core of its own; ``auto``: as many as there are cores, or
    up to four for each GPU."""
    gpus_per_worker: ShareOrAuto = "auto"
    """Share of a GPU for a part; 0: use none; ``auto``: a quarter or more, where there are GPUs."""
    max_failed_fraction: Fraction = 0.01
    """Rows for which the model fails are kept aside; more of them than this share fail the job."""

    @model_validator(mode="after")
    def _check_twice(self) -> "ScoreSettings":
        names = [name.lower() for name in self.keep_columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"keep_columns names {twice[0]} twice")
        return self


class EvaluateSettings(Settings):
    """Predictions -> figures and a report."""

    scored_uri: str = ""
    """The predictions; what ``score`` left by default."""
    output_uri: str = ""
    """Where the report goes; ``<output_uri>/report`` by default."""
    slices: Patterns = Field(default={})
    """Slices of your own: a regular expression (RE2) by name: ``{weather: "(?i)rain|sun"}``."""
    neutral_margin: float | None = Field(default=None, ge=0, lt=0.5)
    """A probability nearer to one half counts as neutral; null: what was chosen on the validation
    rows when the model was trained."""
    num_examples: int = Field(default=15, ge=0)
    """Mistakes of each kind to show in the report; 0: it shows no text, and no table of mistakes is
    written."""
    behavior: bool = True
    """Ask the model made-up texts too: whether it understands negation, minds typos, treats groups
    alike."""


class SweepSettings(Settings):
    """One training -> many, over a space of settings."""

    output_uri: str = ""
    """Where the trials and their table go; ``<output_uri>/sweep`` by default."""
    space: Space = Field(default={})
    """By setting, such as ``train.model.hidden_size``: a list of values, or a range to draw from,
    ``{low: 1.0e-4, high: 1.0e-2, log: true}``."""
    search: Literal["grid", "random"] = "grid"
    """``grid``: every combination of the lists; ``random``: ``num_trials`` draws."""
    num_trials: int = Field(default=8, ge=1)
    """``random``: how many combinations to draw, no two alike."""
    seed: int = Field(default=0, ge=0)
    """``random``: decides the draws."""
    grace_epochs: int = Field(default=1, ge=1)
    """Epochs that each trial gets before it may be stopped; at least ``train.num_epochs``: none
    is."""
    reduction_factor: int = Field(default=3, ge=2)
    """About one in so many trials goes on, at ``grace_epochs`` and each time that the epochs have
    become so many times more (ASHA, Li et al. 2020)."""
    max_concurrent: CountOrAuto = "auto"
    """Trials at the same time; ``auto``: one for each GPU, else one for each core, or as many as
    have room where a trial has several workers."""


class TrackingSettings(Settings):
    """Where MLflow keeps the runs."""

    uri: str | None = None
    """A server or ``sqlite:////absolute/path.db``; else ``MLFLOW_TRACKING_URI``, or ``mlflow.db``
    in the working directory."""
    required: bool = True
    """Stop when the store cannot be reached, rather than go on without a record."""
    register_model: bool = True
    """Register a trained model under ``name``, as candidate."""


class ClusterSettings(Settings):
    """What a job expects of a cluster."""

    max_wait_minutes: float = Field(default=10.0, ge=0)
    """So long a job waits when no node is left that could go on with its work, or none is there
    yet; then it fails, and the same command goes on."""


class Config(Settings):
    """One whole experiment; each job reads its own section."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The MLflow experiment, and the model in MLflow's registry."""
    output_uri: str = Field(min_length=1)
    """Below it lie ``prepared``, ``trained``, ``scored``, ``report`` and ``sweep``."""
    format: FormatSettings = FormatSettings()
    prepare: PrepareSettings
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    sweep: SweepSettings = SweepSettings()
    tracking: TrackingSettings = TrackingSettings()
    cluster: ClusterSettings = ClusterSettings()
