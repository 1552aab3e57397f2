"""Section -> its settings: name, default, bounds and meaning of each."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Strings = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]


def _check_workers(value: Any) -> int | str:
    if value == "auto" or (isinstance(value, int) and value >= 1 and value is not True):
        return value
    raise ValueError("must be auto, or a whole number of at least 1")


class Settings(BaseModel):
    """A section of the settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Section = TypeVar("Section", bound=Settings)


class FormatSettings(Settings):
    """What the CSV looks like."""

    kind: Literal["sentiment140"] = "sentiment140"
    """``sentiment140``: target, id, date, flag, user, text; targets 0, 2 and 4; no header."""
    errors: Literal["replace", "ignore"] = "replace"
    """Bytes that are no UTF-8: ``replace`` by U+FFFD, or ``ignore`` (drop) them."""


class SplitSettings(Settings):
    """Which rows are trained on, tuned on and tested on."""

    kind: Literal["hash", "tutorial"] = "hash"
    """``hash``: by the normalized text, so that equal tweets never part;
    ``tutorial``: row number modulo 5 (0 to 2 train, 3 test, 4 validation)."""
    validation_fraction: Fraction = 0.1
    """Share of the texts, for ``hash``."""
    test_fraction: Fraction = 0.1
    """Share of the texts, for ``hash``."""

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
    """``package:glove.6B.50d``, or ``torchtext:6B.50d`` from torchtext's cache."""
    vectors_cache: str = ".vector_cache"
    """torchtext's cache directory."""


class PrepareSettings(Settings):
    """CSV -> checked, split, encoded Parquet and a vocabulary."""

    csv: Strings = Field(default=(), min_length=1, validate_default=True)
    """One URI, a glob, or a list of them, in the order that numbers the rows."""
    output_uri: str = ""
    """Where the prepared tables go; ``<output_uri>/prepared`` by default."""
    every_nth: int = Field(default=1, ge=1)
    """Keep the rows whose number this divides."""
    max_rejected_fraction: Fraction = 0.01
    """More refused rows than this share end the job before anything is published."""
    keep_raw: bool = True
    """Keep the bytes of refused rows (they may hold personal data)."""
    split: SplitSettings = SplitSettings()
    tokenizer: Literal["tweet", "tutorial"] = "tweet"
    """``tweet`` knows links, mentions, entities, elongations and emoticons; ``tutorial`` splits at
    blanks and four marks."""
    vocabulary: VocabularySettings = VocabularySettings()
    max_length: int = Field(default=64, ge=1)
    """Tokens kept of a tweet."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """About how many input rows go into one part, the unit of work and of resumption."""


class ModelSettings(Settings):
    """The network."""

    kind: Literal["rnn"] = "rnn"
    """``rnn``: ``models.TweetRNN``."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """The recurrent unit: Elman's, gated, or long short-term memory."""
    hidden_size: int = Field(default=128, ge=1)
    """Units of the recurrent state, for each direction."""
    num_layers: int = Field(default=1, ge=1)
    """Recurrent layers on top of each other."""
    bidirectional: bool = True
    """Whether a second recurrent layer reads each tweet from its end."""
    pooling: Literal["last", "mean_max", "attention"] = "attention"
    """What becomes of a tweet's states: the last valid one, mean and maximum, or attention."""
    vectors: Literal["tuned", "frozen"] = "tuned"
    """Whether the word vectors learn too."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """On the word vectors and on the pooled state."""


class BatchingSettings(Settings):
    """How encoded tweets are grouped into padded batches."""

    global_batch_size: int = Field(default=256, ge=1)
    """Rows in one optimizer step over all workers; more workers take a smaller share each."""
    bucketing: Literal["pooled", "exact"] = "pooled"
    """``pooled``: nearly equal lengths; ``exact``: equal lengths, as in the tutorial."""
    drop_last: bool = False
    """Leave out a batch that is not full, as the tutorial does."""


class TrainSettings(Settings):
    """Encoded Parquet -> a model package."""

    prepared_uri: str = ""
    """The prepared data; what ``prepare`` left by default."""
    output_uri: str = ""
    """Where the model goes; ``<output_uri>/trained`` by default."""
    model: ModelSettings = ModelSettings()
    batching: BatchingSettings = BatchingSettings()
    num_epochs: int = Field(default=5, ge=1)
    """Passes over the train split."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Adam's step size; the highest one under ``one_cycle``."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    """Learning rate over the steps: up and down again once (Smith 2018), or constant."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null: as it is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 autocast on a GPU, fp32 on a CPU."""
    num_workers: Annotated[int | str, BeforeValidator(_check_workers)] = "auto"
    """Data-parallel workers; ``auto``: one for each GPU, else one for each node."""
    seed: int = Field(default=0, ge=0)
    """Decides the first weights, the order of the rows and the dropout."""


class ScoreSettings(Settings):
    """Corpus + model package -> predictions."""

    corpus: Strings = Field(default=("prepared",), min_length=1)
    """``prepared``: the prepared tweets of all splits; or files, CSV or Parquet with a ``text``."""
    prepared_uri: str = ""
    """The prepared data; what ``prepare`` left by default."""
    model_uri: str | None = None
    """A model package; what ``train`` left by default."""
    output_uri: str = ""
    """Where the predictions go; ``<output_uri>/scored`` by default."""
    format: FormatSettings | None = None
    """What a scored CSV looks like; the top level's ``format`` by default."""
    keep_columns: Strings = ()
    """Columns of the corpus to repeat beside the predictions, such as ``text``."""
    rows_per_file: int = Field(default=100_000, ge=1)
    """Rows in one part, the unit of work."""
    batch_size: int = Field(default=512, ge=1)
    """Rows in one padded batch; it changes the speed, never a prediction beyond rounding."""


class EvaluateSettings(Settings):
    """Predictions -> figures and a report."""

    scored_uri: str = ""
    """The predictions; what ``score`` left by default."""
    output_uri: str = ""
    """Where the report goes; ``<output_uri>/report`` by default."""


class TrackingSettings(Settings):
    """Where MLflow keeps the runs."""

    uri: str | None = None
    """A server or ``sqlite:////absolute/path.db``; else ``MLFLOW_TRACKING_URI``, or ``mlflow.db``
    in the working directory."""
    required: bool = True
    """Stop when the store cannot be reached, rather than go on without a record."""


class Config(Settings):
    """One whole experiment; each job reads its own section."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The MLflow experiment."""
    output_uri: str = Field(min_length=1)
    """Below it lie ``prepared``, ``trained``, ``scored`` and ``report``."""
    format: FormatSettings = FormatSettings()
    prepare: PrepareSettings
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tracking: TrackingSettings = TrackingSettings()
