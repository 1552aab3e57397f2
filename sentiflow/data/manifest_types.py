"""The keys of a manifest, and what each means."""

from typing import Any, NotRequired, Required, TypedDict

Settings = dict[str, Any]
"""A section of the settings as JSON has it; nested sections are dictionaries in it."""
Counts = dict[str, Any]
"""Whole numbers by name; a table of them, such as rows by split and label, is nested."""


class FileEntry(TypedDict):
    """A file of a finished directory."""

    path: str
    """Relative to the directory."""
    rows: int | None
    """None where the file is not a table."""
    bytes: int
    sha256: NotRequired[str]
    """In a model package."""


class InputFile(TypedDict, total=False):
    """A file that a stage has read."""

    uri: Required[str]
    bytes: Required[int]
    modified_ns: Required[int]
    tree_sha256: Required[str]
    """Of its content, see ``filesystem.tree_sha256``; empty where nobody has read it yet."""


class Input(TypedDict, total=False):
    """What a stage was made from: a finished directory, or files."""

    fingerprint: Required[str]
    uri: str
    """Of a directory."""
    files: list[InputFile]


class ModelInput(Input, total=False):
    """A model as an input, with what its package's manifest says; None where it says nothing."""

    training: Input | None
    reference: dict[str, Any] | None
    calibration: dict[str, Any] | None
    settings: Settings | None


class RunPart(TypedDict):
    """What a stage adds to an MLflow run."""

    metrics: dict[str, float]
    """Those of the whole stage. The metrics of a training's epochs are in ``history``."""
    tags: dict[str, str]


class RunRecord(RunPart):
    """The MLflow run of a stage: enough to rebuild it from the manifest alone.

    Lineage, datasets, the output's location and its fingerprint are not repeated here: they follow
    from the manifest's other keys.
    """

    experiment: str
    """The config's ``name``, which is also the name of a registered model."""
    group: str
    """Eight hexadecimal digits, the same for all stages of one command."""
    name: str
    start: str
    """ISO 8601 in UTC."""
    end: str
    params: dict[str, str]
    """The resolved settings of the stage's sections, as MLflow has them."""
    artifacts: list[str]
    """Files of the directory that are also in the run, by their paths in both."""
    registers_model: bool
    """Whether the model package is to be registered."""
    mlflow_run_id: str
    """Empty where MLflow had not answered."""
    training: NotRequired[RunPart]
    """evaluate: what it adds to the run of the training, for the training's own test rows."""


class Manifest(TypedDict, total=False):
    """What ``manifest.json`` says. The first eleven keys are in all, the others by stage."""

    stage: Required[str]
    format_version: Required[int]
    fingerprint: Required[str]
    created: Required[str]
    """When it was finished, ISO 8601 in UTC."""
    seconds: Required[float]
    settings: Required[Settings]
    """Those that decide the result."""
    inputs: Required[dict[str, Any]]
    """By name, an :class:`Input` each; a stage may add what it needs to know of one."""
    counts: Required[Counts]
    files: Required[list[FileEntry]]
    versions: Required[dict[str, str]]
    """Of sentiflow and of the libraries."""
    run: RunRecord
    """In every manifest that a command has written, but for a sweep's trials."""

    duplicates: dict[str, Any]
    """prepare: texts that repeat, leak between splits or contradict themselves."""
    vocabulary: dict[str, Any]
    """prepare: words, those with a vector, frequent ones without, tokens by split."""

    history: list[dict[str, Any]]
    """train: a ``trainer.EpochResult`` each."""
    pretraining: list[dict[str, Any]]
    """train: the same of pretraining."""
    chosen_epoch: int
    model_fingerprint: str
    registered: dict[str, Any] | None
    """train: name and version of the registered model."""
    num_workers: int
    device: str
    trials: list[dict[str, Any]]
    """sweep: a trial each, with its settings and metrics."""
    mlflow_run_id: str
    """train and sweep: empty where MLflow had not answered."""

    precision: str
    """train and score: ``fp32`` or ``bf16``."""
    num_parts: int
    has_row_ids: bool
    """score: whether row ids were read from the corpus."""
    kept_types: dict[str, str]
    """score: Arrow types of the kept columns."""
    profile: dict[str, Any]
    """score: what the texts look like to the model."""
    drift: dict[str, Any]
    """score: ``profile`` beside that of the held-out texts."""
    peak_memory_bytes: int

    figures: dict[str, Any]
    """evaluate: metrics by split."""
    conclusions: list[str]
    notes: list[str]

    metrics: dict[str, float]
    """A model package: validation metrics of the chosen epoch."""
    reference: dict[str, Any]
    """A model package: ``profile`` of the held-out texts."""
    calibration: dict[str, Any] | None
    """A model package: the temperature, and what it changes."""
