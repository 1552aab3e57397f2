"""The keys of a manifest with their types and meanings; pydantic validates manifests by them."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Required

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from sentiflow.config.class_names import check_names
from sentiflow.storage.filesystem import FileEntry as FileEntry

FORMAT_VERSION = 3
"""Version of the format of manifests, of their files and of their fingerprints."""

ClassNames = Annotated[list[str], AfterValidator(check_names)]
"""Valid names of classes, in order."""
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""A number of things, 0 or more, in 64 bits."""
Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""

Name = Annotated[str, Field(max_length=500)]
"""A short text: the name of a stage, or a fingerprint."""
Settings = dict[str, Any]
"""A section of the settings as JSON; nested sections are dictionaries."""
Counts = dict[str, Any]
"""Integers by name; tables, such as rows by split and label, are nested dictionaries."""


class InputFile(TypedDict, total=False):
    """An input file of a stage."""

    uri: Required[str]
    bytes: Required[Count]
    """Stored size; of a member of an archive, the size of the archive."""
    modified_ns: Required[int]
    """Time of the last change, in nanoseconds since 1970."""
    tree_sha256: Required[str]
    """Hash of the content, see ``hashes.tree_sha256``; empty if the file was not read yet."""
    rows: Count
    """Rows or records, rejected ones included; 0 of a copy, which is not read. Missing if the file
    was not cut, and in the manifests of earlier versions."""
    read_as: str
    """URI from which the file was read, if it was moved since: parts written then have this URI."""


class Input(TypedDict, total=False):
    """Input of a stage: a finished directory, or files."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    fingerprint: Required[Name]
    uri: str
    """The directory."""
    files: list[InputFile]
    """The files, in the order of their rows."""
    manifest_state: list[int]
    """Size and time of the directory's manifest, see ``input_files.watch``; only in tasks."""


class RepeatCounts(TypedDict):
    """How often texts repeat."""

    repeated_texts: int
    """Number of texts that occur in more than one row."""
    surplus_rows: int
    """Rows other than the first row of each text."""


class TextCounts(RepeatCounts):
    """Repeated texts within splits and across them."""

    within: dict[str, RepeatCounts]
    """Repeated texts by split; only rows of the same split are compared."""
    leaked_rows: dict[str, int]
    """Rows whose text is also in an earlier split. ``validation_in_train`` counts validation rows;
    ``test_in_train`` and ``test_in_validation`` count test rows; both may count the same row."""


class DuplicateCounts(TypedDict):
    """Repeated, leaking and contradicting texts, before any row is left out."""

    rows: dict[str, int]
    """All rows by split."""
    normalized: TextCounts
    """Texts without differences in case, compatibility forms and white space."""
    contradicting: Counts
    """Normalized texts with more than one label: ``texts`` is their number, ``rows`` counts their
    rows by split, unlabelled ones included."""
    dropped: dict[str, dict[str, int]]
    """Rows to leave out, by reason and split."""


class RepeatedText(TypedDict):
    """A text with many rows: texts with the same key, see ``prepare.duplicate_key``."""

    rows: Count
    """Rows, before any is left out."""
    row_id: Count
    """The row whose text is shown."""
    text: str
    """Its beginning."""
    users: NotRequired[Count]
    """Different users of the rows, if users are read."""
    first_day: NotRequired[str]
    """The first day in UTC, ISO 8601, if times are read."""
    last_day: NotRequired[str]


class VocabularyReport(TypedDict):
    """How many tokens of the corpus are in the vocabulary, and how many words have a vector."""

    words: int
    """Number of words in the vocabulary."""
    words_with_vector: int
    """Number of them that have a pretrained vector."""
    tokens: dict[str, Counts]
    """By split: the number of ``tokens``, or of characters if the network reads them; how many of
    them are ``unknown`` to the vocabulary; and their share ``unknown_fraction``."""


class RefitRecord(TypedDict):
    """The first run of a refit. A refit repeats it on all labelled rows except given test rows."""

    splits: list[str]
    """The splits that the refit was trained on."""
    of: Input
    """The model package of the first run."""
    prepared: Input
    """The prepared data of both."""
    metrics: dict[str, float]
    """Metrics of the first run, not of the refit, as MLflow names them: ``test/accuracy``."""


class ProfileCounts(TypedDict):
    """A ``profile.Profile`` as JSON."""

    rows: Count
    tokens: Count
    unknown_tokens: Count
    positive: Count
    lengths: list[Count]
    probabilities: list[Count]
    predicted: NotRequired[dict[str, Count]]
    confusion: NotRequired[dict[str, dict[str, Count]]]


class Unsure(TypedDict):
    """When a model is unsure, and the rows from which the threshold was chosen."""

    max_error: Annotated[float, Field(gt=0, lt=1)]
    """``train.unsure.max_error``."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    """A prediction is unsure unless its confidence is above this."""
    num_rows: Count
    """Rows from which the threshold was chosen: the model has not seen them in training."""
    answered_fraction: Annotated[float, Field(ge=0, le=1)]
    """Share of these rows whose confidence is above the threshold."""


class CalibrationRecord(TypedDict, total=False):
    """The calibration of a model; an average has none."""

    temperature: Annotated[float, Field(ge=0.01, le=100)]
    """The logits are divided by the temperature."""
    bias: dict[str, Annotated[float, Field(ge=-100, le=100)]]
    """Added to the logit of each class after the division by the temperature; empty if there is
    none. The bias of the network's output layer includes it."""
    linear_weight: Annotated[float, Field(ge=0, le=1)]
    """Share of the linear model in the logits, if there is one."""
    linear_strength: Number
    """``C`` of the regularization of the linear model."""
    linear_neighbor_weight: Number
    """Weight of each neighboring class in the targets of the linear model; missing if it is 0."""
    network_gain: Number
    """By how much the network lowers the log loss of a row, on the rows that have decided the share
    of the linear model, in nats."""
    num_rows: Count
    """Rows that the calibration was fitted to."""
    before: dict[str, Number | None]
    """Log loss, Brier score and calibration error without temperature and bias."""
    after: dict[str, Number | None]
    """The same metrics with temperature and bias."""
    unsure: Unsure
    """Present if ``train.unsure`` is set."""


class ModelInput(Input, total=False):
    """A model as an input, with keys of its package's manifest; None: the manifest lacks it."""

    members: list["ModelInput"]
    """Only for an average of models: the models, each with its ``training`` and ``settings``. The
    ``settings`` of the average are the settings of the first model."""
    models: list["ModelInput"]
    """The same, in the manifest of the average itself."""
    training: Input | None
    reference: ProfileCounts | None
    calibration: CalibrationRecord | None
    settings: Settings | None
    refit: RefitRecord
    """Only for a refit."""
    given: Literal["labels", "probabilities"]
    """Only for predictions of another program: what its files have. The other keys describe these
    files; there is no package."""


class GivenCounts(TypedDict):
    """Counts of predictions of another program, in a manifest of predictions."""

    predictions: Count
    """Predictions in the files; of equal ones for a text only one counts."""
    unused: Count
    """Those for no row of the corpus. 0 if files of the corpus were added later."""
    rows_without: Count
    """Rows of the corpus without a prediction, which are rejected."""


class Scoring(TypedDict):
    """The parts that one job has added to predictions: consecutive parts of consecutive files."""

    model_version: str
    """The model, a key of ``models``."""
    first_part: Count
    first_file: Count
    num_files: Count
    """Number of files of ``inputs.corpus``, starting with ``first_file``; 0 for prepared data."""
    rows: Count
    """Rows with a prediction."""


class PartPlace(TypedDict):
    """Where the rows of a part begin. They go on to the end of the file, then in the next files.

    Rows are numbered over all files in their order, rejected rows included.
    """

    part: Count
    """Number of the part in the names of its files."""
    file: Count
    """The file of its first row: a position in the files of the corpus."""
    start: Count
    """Place of its first row in this file: a row of Parquet, or the first byte of a CSV record,
    after decompression; UTF-16 counts as UTF-8."""
    first_row: Count
    """Number of its first row, which is its ``row_id`` unless the files have their own ids."""
    rows: Count
    """Number of its rows."""


if TYPE_CHECKING:
    Inputs = dict[str, Any]
else:
    Inputs = dict[str, ModelInput]  # pydantic checks the keys of every kind of input


class RunPart(TypedDict):
    """Metrics and tags that a stage adds to an MLflow run."""

    metrics: dict[str, float]
    """Metrics of the whole stage. The metrics of single epochs are in ``Manifest.history``."""
    tags: dict[str, str]


class RunRecord(RunPart):
    """The MLflow run of a stage: the manifest alone is enough to rebuild the run.

    Lineage, datasets, the output's location and its fingerprint follow from other keys of the
    manifest.
    """

    experiment: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=250)]
    """The config's ``name``, which is also the name of a registered model."""
    group: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    """Eight hexadecimal digits, the same for all stages of one command."""
    name: str
    start: str
    """ISO 8601 in UTC."""
    end: str
    """ISO 8601 in UTC."""
    params: dict[str, str]
    """The resolved settings of the stage's sections, as MLflow has them."""
    artifacts: list[str]
    """Files of the directory that are also in the run, with the same path."""
    registers_model: bool
    """Whether the stage should register a model: a training registers its own, an evaluation the
    model whose predictions it measures."""
    mlflow_run_id: str
    """Empty if MLflow did not answer."""
    training: NotRequired[RunPart]
    """evaluate: metrics and tags of the training's own test rows, for the run of the training."""
    config: NotRequired[str]
    """The settings as the user wrote them, with the changes of the command, as YAML."""
    profiles: NotRequired[dict[str, dict[str, Any]]]
    """Rows and shares of classes of inputs that are directories, by the name of the input."""


class Manifest(TypedDict, total=False):
    """The content of ``manifest.json``: keys of all stages, then keys of some stages."""

    stage: Required[Name]
    format_version: Required[Annotated[int, Field(ge=1, le=FORMAT_VERSION)]]
    """``FORMAT_VERSION``; 1 or 2 only of a model package, see ``data.other_versions``."""
    fingerprint: Required[Name]
    created: Required[str]
    """Time of completion, ISO 8601 in UTC."""
    seconds: Required[float]
    settings: Required[Settings]
    """Settings that decide the result."""
    inputs: Required[Inputs]
    """An :class:`Input` for each name; a stage may add further keys to it."""
    counts: Required[Counts]
    files: Required[list[FileEntry]]
    versions: Required[dict[str, str]]
    """Versions of sentiflow, which made the result, and of libraries."""
    run: RunRecord | None
    """Written by every command, except for the trials of a sweep."""

    classes: ClassNames
    """prepare: the names of all classes; a label is a position in this list. score: the classes of
    the model, then classes that only the corpus has; labels and predictions are positions in it."""
    class_values: list[Number | None]
    """prepare, score: the numbers of ordered classes, in the order of ``classes``; in predictions
    null for a class that only the corpus has, if its number is unknown. Missing unless
    ``format.ordered`` is set."""
    fixed_splits: list[str]
    """prepare: splits whose rows are given, by files or by a column. No model, not even a refit, is
    trained or chosen on given test rows."""
    duplicates: DuplicateCounts
    """prepare: repeated, leaking and contradicting texts."""
    most_repeated: list[RepeatedText]
    """prepare: the texts with the most rows, at most ten, each with five rows or more."""
    vocabulary: VocabularyReport
    """prepare: how well the vocabulary fits the corpus."""

    history: list[dict[str, Any]]
    """train: a ``results.EpochResult`` for each epoch."""
    pretraining: list[dict[str, Any]]
    """train: the same for each epoch of pretraining."""
    chosen_epoch: int
    """train: the epoch whose weights became the model, counted from 1."""
    model_fingerprint: Name
    """train, evaluate: the fingerprint of the model package."""
    registered: dict[str, Any] | None
    """train, evaluate: name and version of the model, if the stage has registered it."""
    not_registered: str
    """evaluate: why the stage did not register the model, although it should, and what to do."""
    taught: Input
    """train: ``uri`` and ``fingerprint`` of the answers of the teachers, if there are any, and
    ``counts`` of rows by split."""
    num_workers: int
    device: str
    resources: dict[str, Count]
    """Stages that use Ray: what the machine or the cluster had when the stage began: ``num_cpus``,
    ``num_gpus``, ``num_nodes`` (with cores), ``min_node_cpus`` (of the smallest of these), and
    ``load_percent`` of a single machine by other processes (``machine_load.find``)."""
    resumed: bool
    """Present and true if the run continued the work of a killed one: ``seconds`` are of the last
    run alone."""
    trials: list[dict[str, Any]]
    """sweep: settings and metrics of each trial."""
    mlflow_run_id: str
    """train and sweep: empty if MLflow did not answer."""

    precision: str
    """train and score: ``fp32`` or ``bf16``."""
    num_parts: Count
    parts: list[PartPlace]
    """prepare and score of files: which rows each part holds; without the parts that an earlier
    version has scored."""
    has_row_ids: bool
    """score: whether row ids were read from the corpus."""
    kept_types: dict[str, str]
    """score: Arrow types of the kept columns."""
    profile: ProfileCounts
    """score: statistics of the texts and their predictions, a ``profile.Profile``."""
    drift: dict[str, Any]
    """score: ``profile`` compared with the profile of the held-out texts."""
    peak_memory_bytes: int
    models: dict[str, ModelInput]
    """score: the models of the rows, by the version in the column ``model_version``;
    ``inputs.model`` is the model of the last job."""
    scorings: list[Scoring]
    """score: the jobs that have added parts, in order."""
    given: GivenCounts
    """score: only if another program has made the predictions."""

    figures: dict[str, Any]
    """evaluate: metrics by split."""
    conclusions: list[tuple[str, str, str]]
    """evaluate: the most important results: number, meaning, section of the report."""
    notes: list[str]

    refit: RefitRecord
    """train, a model package: only for a refit."""
    metrics: dict[str, float]
    """A model package: validation metrics of the model, with its linear model and the bias of the
    calibration; empty for a refit. train: the same."""
    costs: dict[str, float]
    """train: a ``reports.TrainingCosts``."""
    reference: ProfileCounts | None
    """A model package: ``profile`` of the held-out texts."""
    calibration: CalibrationRecord | None
    """A model package: temperature and bias, and their effect on the calibration."""
    unknown_values: dict[str, Count]
    """score: rows with each of the most frequent unknown labels, which are null."""


EPOCH_METRICS = {
    "validation/accuracy": "validation_accuracy",
    "validation/f1_macro": "validation_f1_macro",
    "validation/loss": "validation_loss",
    "train/accuracy": "train_accuracy",
    "train/loss": "train_loss",
    "train/learning_rate": "learning_rate",
    "train/gradient_norm": "gradient_norm",
    "train/padding_fraction": "padding_fraction",
    "train/tweets_per_second": "tweets_per_second",
    "train/epoch_seconds": "seconds",
}
"""Metrics of an epoch: MLflow's names, and the keys in ``history``."""
PRETRAINING_METRICS = {
    "pretrain/loss": "train_loss",
    "pretrain/validation_loss": "validation_loss",
    "pretrain/epoch_seconds": "seconds",
}
"""The same for an epoch of pretraining."""
