"""Sections of the settings: the name, default, bounds and meaning of each setting.

The sections ``format``, ``prepare`` and ``train`` have modules of their own.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from sentiflow.config import submitter
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.run_tags import Tags
from sentiflow.config.train_sections import TrainSettings
from sentiflow.config.types import (
    ADDED,
    LOCATION,
    CountOrAuto,
    Distinct,
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
