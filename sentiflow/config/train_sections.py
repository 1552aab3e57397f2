"""The section ``train`` of the settings, and its sections, such as ``model`` and ``batching``."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from sentiflow.config import decisive
from sentiflow.config.class_names import check_names
from sentiflow.config.types import (
    ADDED,
    LOCATION,
    CountOrAuto,
    Fraction,
    Location,
    Locations,
    Settings,
)
from sentiflow.storage.uris import names_encoder


class NetworkSettings(Settings):
    """Settings that all kinds of networks have."""

    kind: str
    vectors: Literal["tuned", "frozen"] = "tuned"
    """Whether the word vectors are trained (``tuned``) or do not change (``frozen``)."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout of the word vectors and between layers, with one mask for all tokens of a text
    (variational dropout)."""
    output_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the output layer. Default: same as ``dropout``."""


class RnnSettings(NetworkSettings):
    """The recurrent network."""

    kind: Literal["rnn"] = "rnn"
    """``rnn``: the recurrent network."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """With ``kind: rnn``: the recurrent cell. ``rnn`` is an Elman RNN."""
    hidden_size: int = Field(default=128, ge=1)
    """With ``kind: rnn``: size of the hidden state of each direction."""
    bidirectional: bool = True
    """With ``kind: rnn``: whether a second recurrent layer reads each text backwards."""
    pooling: Literal["last", "mean_max", "attention"] = "attention"
    """With ``kind: rnn``: how the hidden states of a text are combined: the last valid one, mean
    and maximum, or attention."""

    @property
    def brief(self) -> str:
        """Name the network in a word, such as ``gru(128)``."""
        return f"{self.cell}({self.hidden_size})"

    @property
    def summary(self) -> str:
        """Describe the network in a few words."""
        direction = "bidirectional" if self.bidirectional else "unidirectional"
        return f"{self.brief}, {direction}, {self.pooling}"


class BagSettings(NetworkSettings):
    """The bag-of-embeddings network, which ignores the order of words."""

    kind: Literal["bag_of_embeddings"] = "bag_of_embeddings"
    """``bag_of_embeddings``: fully connected layers over the sum of the word vectors."""
    hidden_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=16)] = (
        30,
        10,
    )
    """With ``kind: bag_of_embeddings``: sizes of the hidden layers. ``[]``: no hidden layer, which
    is logistic regression; then ``dropout`` and ``output_dropout`` both apply to its input."""
    pooling: Literal["sum", "mean"] = "sum"
    """With ``kind: bag_of_embeddings``: how the word vectors of a text are combined. Default:
    ``sum``."""

    @property
    def brief(self) -> str:
        """Name the network in a word, such as ``bag(30-10)``."""
        sizes = "-".join(str(size) for size in self.hidden_sizes)
        return f"bag({sizes or 'linear'})"

    @property
    def summary(self) -> str:
        """Describe the network in a few words."""
        return f"{self.brief}, {self.pooling} of the word vectors"


KINDS: dict[str, type[Settings]] = {"rnn": RnnSettings, "bag_of_embeddings": BagSettings}
"""Settings of a network by ``train.model.kind``."""


def _kind_of(model: Any) -> Any:
    """Return the kind of a ``train.model`` section, as written or already checked."""
    if isinstance(model, dict):
        return model.get("kind", "rnn")
    return getattr(model, "kind", None)


ModelSettings = Annotated[
    Annotated[RnnSettings, Tag("rnn")] | Annotated[BagSettings, Tag("bag_of_embeddings")],
    Discriminator(
        _kind_of,
        custom_error_type="kind_unknown",
        custom_error_message=f"must be a section whose kind is {' or '.join(KINDS)}",
    ),
]
"""A ``train.model`` section: without ``kind`` it is a recurrent network."""


DEFAULT_NUM_SHARDS = 8
"""Default of ``train.batching.num_shards``."""


class BatchingSettings(Settings):
    """How encoded tweets are grouped into padded batches."""

    global_batch_size: int = Field(default=256, ge=1)
    """Rows in one optimizer step, divided among all workers."""
    bucketing: Literal["pooled", "exact"] = "pooled"
    """How batches are formed. ``pooled``: texts of nearly equal length. ``exact``: texts of equal
    length, as in the tutorial."""
    num_shards: int = Field(default=DEFAULT_NUM_SHARDS, ge=1, le=255)
    """Number of shards that the rows are divided into, however many workers there are; a worker
    reads one or more. So it is also the maximum number of workers. A different number gives
    different batches."""
    drop_last: bool = False
    """With ``exact``: leave out the incomplete batch of each length, as in the tutorial."""

    @model_validator(mode="after")
    def _check_drop_last(self) -> "BatchingSettings":
        if self.drop_last and self.bucketing != "exact":
            raise ValueError(
                "drop_last is for bucketing: exact, where each length has a last batch"
            )
        return self


class PretrainSettings(Settings):
    """Pretraining of the first recurrent layer on the texts of the train split, without labels."""

    num_epochs: int = Field(default=0, ge=0)
    """Pretrain the first recurrent layer by next-word prediction, in both directions, for this
    number of epochs. 0: no pretraining."""


class DistillSettings(Settings):
    """Knowledge distillation (Hinton et al. 2015): the network learns from teachers."""

    teachers: Locations = ()
    """Teachers: the network learns their mean probabilities on train rows and on
    ``prepare.unlabelled``. A teacher is one of: a model, named as in ``score.model_uri``; a Parquet
    file with the column ``text`` and ``probability_<class>`` columns; or
    ``encoder:use-multilingual``, a sentence encoder. ``[]``: no distillation."""
    hard_weight: Fraction = 0.0
    """Weight of a train row's label in the target; the teachers' probabilities have the remaining
    weight. 1: only the label."""


class RefitSettings(Settings):
    """A refit: a finished training, repeated on all labelled rows."""

    of: Location = Field(min_length=1)
    """For a refit: the run to repeat on the labelled rows of all splits, by its ``output_uri``, its
    model package, or ``models:/…``. The refit uses the settings of that run, and ends after the
    epoch whose weights that run kept. If the network of that run has no share in the logits, the
    refit trains the linear model alone. Only workers, checkpoints and locations come from this
    config; other settings that differ are refused."""


class UnsureSettings(Settings):
    """Which texts are left to people."""

    max_error: float = Field(gt=0, lt=1)
    """Maximum share of wrong labels among the texts that the model answers. It holds for new texts
    of the same kind with 95% certainty. Texts that the model does not answer are marked ``unsure``
    in the predictions. The required confidence is determined on rows that the model was not trained
    on: the folds if there are any, otherwise the validation rows. ``unsure: null``: off."""


class CheckpointSettings(Settings):
    """When checkpoints of a training are written, in addition to the end of each epoch."""

    every_minutes: float | None = Field(default=5.0, gt=0)
    """Minutes between checkpoints. null: off."""


class SelectionSettings(Settings):
    """Model selection."""

    metric: Literal["accuracy", "loss", "macro_f1"] = "accuracy"
    """Validation metric that compares epochs: highest ``accuracy``, lowest ``loss``, or highest
    ``macro_f1``, the mean of the F1 scores of the classes."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights the model gets: the ``best`` or the ``last`` one."""

    @property
    def metric_name(self) -> str:
        """Name of the metric after ``validation/``; macro F1 is ``f1_macro`` in all metrics."""
        return "f1_macro" if self.metric == "macro_f1" else self.metric

    def order(self, value: float | None) -> float:
        """Convert a value of the metric to a number that is lower for better values."""
        if value is None:
            return math.inf
        if self.metric == "loss":
            return value
        return -value


NeighborWeight = Annotated[float, Field(ge=0, lt=1 / 3)] | Literal["auto"]
"""Weight of each neighboring class; below a third, the label itself has the largest weight."""

Classes = Annotated[tuple[str, ...], AfterValidator(check_names)] | None


class TrainSettings(Settings):
    """Encoded Parquet -> a model package."""

    NOT_DECISIVE: ClassVar = (
        "prepared_uri",
        "output_uri",
        "checkpoints",
        "preset",
        "num_workers",
        "min_workers",
        "cpus_per_worker",
        "gpus_per_worker",
        "max_failures",
        "init_from",
        "refit",
    )
    """Settings that are not compared between trainings.

    They do not change the model, or their effect is compared otherwise: ``preset`` by the settings
    that it fills in; ``prepared_uri``, ``init_from`` and ``refit`` as inputs.
    """

    prepared_uri: Location = ""
    """Directory of the prepared data. Default: ``prepare.output_uri``."""
    output_uri: Location = ""
    """Directory of the model and its checkpoints. Default: ``<output_uri>/trained``."""
    classes: Classes = None
    """Classes that the model learns; rows of other classes are left out. Default: every class with
    at least 10 labelled rows."""
    class_weights: Literal["sqrt", "balanced"] | None = None
    """Weight of the rows of each class in the loss. ``balanced``: the inverse of the class's
    frequency. ``sqrt``: the square root of this inverse. The weights are scaled to a mean of 1 over
    the training rows. Default: equal weights."""
    neighbor_weight: Annotated[NeighborWeight, ADDED] = "auto"
    """Of ordered classes (``format.ordered``): the weight of a label that each neighboring class
    gets in the target of a text. ``auto``: 0.15 for the network; the linear model is fitted with
    0.15 and with 0, and the validation rows or the folds choose one by log loss. Classes without an
    order have none. 0: off."""
    preset: Literal["fast", "balanced", "best"] | None = None
    """Defaults for many settings of a recurrent network: model, batches, epochs, pretraining and
    learning rate. Settings that the config names take precedence. Default: no preset."""
    model: ModelSettings = RnnSettings()
    batching: BatchingSettings = BatchingSettings()
    pretrain: PretrainSettings = PretrainSettings()
    distill: DistillSettings = DistillSettings()
    num_epochs: int = Field(default=5, ge=1)
    """Number of passes over the train split."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Learning rate of Adam; with ``one_cycle`` the maximum."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """Learning rate schedule: ``one_cycle`` (Smith 2018), ``cosine`` decay, or ``constant``."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Maximum norm of the gradient; larger gradients are scaled down. null: no clipping."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Floating-point precision. ``auto``: bf16 autocast on a GPU, fp32 on a CPU. Recurrent layers
    on a GPU are always fp32 with TF32 products."""
    num_workers: CountOrAuto = "auto"
    """Number of data-parallel workers. ``auto``: at most one for each GPU, or without GPUs one for
    each node; fewer if more would be slower, by an estimate that the job logs."""
    min_workers: int = Field(default=1, ge=1)
    """Minimum number of workers. If nodes are lost, training resumes with as many workers as fit,
    down to this number; the model stays the same."""
    cpus_per_worker: CountOrAuto = "auto"
    """Cores reserved for a worker. It computes on all but one, which is left for reading and for
    Ray; with a single core, on that one. ``auto``: an equal share of the cores of a node."""
    gpus_per_worker: Literal["auto", 0, 1] = "auto"
    """GPUs of a worker. ``auto``: one if the cluster has GPUs, or its autoscaler can add some. 1:
    wait for nodes with a GPU."""
    max_failures: int = Field(default=3, ge=0)
    """Maximum number of restarts after a worker has died. Each resumes from the last
    checkpoint."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Seed of the initial weights, the order of the rows and the dropout masks."""
    init_from: Annotated[str | None, LOCATION] = None
    """Model with the same network whose weights the training starts from: a package, the directory
    of a run, or ``models:/…``. Words are matched by spelling; words that only that model knows are
    added. Default: random weights."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    linear: Literal["auto", True, False] = False
    """Whether to train a linear model of n-grams (of words and of characters) besides the network,
    and to mix the logits of both. The linear model's share is determined on the validation rows, or
    on the folds. ``auto``: up to 200,000 train rows."""
    selection: SelectionSettings = SelectionSettings()
    folds: int = Field(default=0, ge=0, le=20)
    """Cross-validation: number of folds of the labelled rows. One model per fold predicts the fold
    it was not trained on. These predictions calibrate the model, and ``evaluate`` measures them
    unless test rows are given: then only the first folds are trained, until they have some 800
    rows. Recommended: 5 below 3,000 rows. 0: off."""
    unsure: UnsureSettings | None = None
    refit: RefitSettings | None = None

    @property
    def min_cpus_per_worker(self) -> int:
        """Cores that a worker needs at least."""
        return 1 if self.cpus_per_worker == "auto" else int(self.cpus_per_worker)

    def dump_decisive(self, *, only_given: bool = False) -> dict[str, Any]:
        """Return the settings that decide the model.

        Args:
            only_given: Only settings that the config names.
        """
        return decisive.dump(self, exclude=self.NOT_DECISIVE, only_given=only_given)

    @model_validator(mode="after")
    def _check_folds(self) -> "TrainSettings":
        if self.folds == 1:
            raise ValueError("folds=1 leaves no row to train on: set 5, or 0 for none")
        has_model_teacher = any(not names_encoder(teacher) for teacher in self.distill.teachers)
        if self.folds and has_model_teacher:
            raise ValueError(
                "folds: the teachers may have learned from the rows of all folds: set "
                "train.folds=0 and prepare.split.validation_fraction=0.1"
            )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> "TrainSettings":
        workers = self.num_workers
        shards = self.batching.num_shards
        if workers != "auto" and int(workers) > shards:
            raise ValueError(
                f"num_workers={workers}, but the rows are divided into {shards} shards: set "
                f"train.batching.num_shards={workers}"
            )
        return self

    @model_validator(mode="after")
    def _check_network(self) -> "TrainSettings":
        if isinstance(self.model, RnnSettings):
            return self
        if self.preset:
            raise ValueError(
                f"preset={self.preset} is a recurrent network, model.kind={self.model.kind} is "
                "not: leave one of them out"
            )
        if self.pretrain.num_epochs:
            raise ValueError(
                f"model.kind={self.model.kind} has no recurrent layer to pretrain: set "
                "pretrain.num_epochs=0"
            )
        return self
