"""The tasks of scoring: their arguments, their steps and their results, which add up to row counts.

A task scores the table of a part and writes its files. Ray is not imported, and torch only by the
step that needs it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster import loaded_models, memory
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config.class_names import set_apart
from sentiflow.data import parts, row_ids, schema
from sentiflow.data.arrays import one_array
from sentiflow.data.manifest_types import Counts, FileEntry, Manifest, ModelInput
from sentiflow.data.merged_counts import merge_counts
from sentiflow.data.row_checks import count_unknown, count_values
from sentiflow.data.schema import BINARY, POSITIVE
from sentiflow.data.table_files import TableFormat
from sentiflow.data.table_plans import TablePlan
from sentiflow.errors import UserError
from sentiflow.models.profile import Profile
from sentiflow.models.scores import Scores
from sentiflow.scoring import given_predictions
from sentiflow.scoring.given_predictions import Given
from sentiflow.storage import parquet

IDS_HINT = "give the new rows consecutive numbers, or score all into another directory"
"""What to do if scored rows have ids, and the ids of new rows cannot be used."""
_POSITIVE = BINARY[POSITIVE]
_MAX_NAMED = 4
"""Classes up to which a line names all."""
_NUM_FREQUENT = 3
"""Classes that a line names if there are more: the most frequent ones."""

_COUNTS = (
    "rows_read",
    "accepted",
    "rejected",
    "prior_only",
    "labelled",
    "unknown_labels",
    "predicted",
)
"""Fields of :class:`RowCounts` that every manifest has among its counts."""


@dataclass(frozen=True)
class ScoreJob:
    """Arguments of every task of one scoring."""

    keep_columns: tuple[str, ...]
    """Columns of the corpus that predictions repeat."""
    classes: tuple[str, ...]
    """Classes of the model, then classes that only the corpus has."""
    labels: tuple[int, ...]
    """Position in ``classes`` of each label of the corpus."""
    precision: str
    """``fp32`` or ``bf16``."""
    on_gpu: bool
    """Whether tasks have a share of a GPU."""
    model_uri: str
    """Directory of the model package."""
    model_fingerprint: str
    """Fingerprint that the package must still have."""
    model_version: str
    """Name of the model in the predictions."""
    first_part: int
    """Number of the first part in file names."""
    writes_id_ranges: bool
    """Whether the range of ids is found for each file of rows: if the corpus is Parquet files with
    their own ``row_id``."""
    root: str
    """Directory to write to."""
    given: Given | None = None
    """Predictions of another program, in place of the model."""


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """Row counts by outcome, of a part or of several parts."""

    rows_read: int = 0
    accepted: int = 0
    """Rows with a prediction."""
    rejected: int = 0
    """Rows without a readable text."""
    prior_only: int = 0
    """Rows without a known word; their prediction is the class prior."""
    unsure: int = 0
    """Rows that the model leaves to people."""
    labelled: int = 0
    """Rows with a label that is known."""
    unknown_labels: int = 0
    """Rows with an unknown label, which becomes null."""
    predicted: dict[str, int] = field(default_factory=dict)
    """Rows predicted to be of each class of the model."""
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    """Rejected rows by reason."""
    unknown_values: dict[str, int] = field(default_factory=dict)
    """Rows with each of the most frequent unknown labels, as written."""
    profile: Profile = field(default_factory=Profile)
    """Statistics of the texts and their predictions."""
    peak_memory_bytes: int = 0
    """Most memory that one process has taken, up to the end of its part."""
    files: list[FileEntry] = field(default_factory=list)
    """Files of predictions and of rejected rows."""

    @classmethod
    def sum(cls, parts: Sequence["RowCounts"]) -> "RowCounts":
        """Add up the counts of parts; without parts all counts are 0."""
        total = merge_counts([vars(part) for part in (cls(), *parts)])
        total["peak_memory_bytes"] = max((part.peak_memory_bytes for part in parts), default=0)
        return cls(**total)

    @classmethod
    def of(cls, record: Manifest, model: ModelInput) -> "RowCounts":
        """Take the results of a complete scoring from its manifest.

        A profile describes the predictions of one model: it is empty if another model than
        ``model`` has scored.
        """
        values = {name: record["counts"].get(name, 0) for name in (*_COUNTS, "unsure")}
        values["profile"] = asdict(Profile())
        if record["inputs"]["model"]["fingerprint"] == model["fingerprint"]:
            values["profile"] = record["profile"]
        values["files"] = record["files"]
        values["unknown_values"] = record.get("unknown_values", {})
        return cls.from_json(values)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RowCounts":
        """Convert from the JSON of ``asdict``, as in a completion marker.

        Counts that only an earlier version of sentiflow has are ignored.
        """
        known = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        return cls(**known | {"profile": Profile.from_json(value["profile"])})

    @property
    def counts(self) -> Counts:
        """The counts for the manifest; ``positive`` only if the model has that class."""
        numbers: Counts = {name: getattr(self, name) for name in _COUNTS}
        if self.unsure:
            numbers["unsure"] = self.unsure
        if _POSITIVE in self.predicted:
            numbers[_POSITIVE] = self.predicted[_POSITIVE]
        return numbers

    @property
    def brief(self) -> str:
        """List the shares of the classes for a line, each with a comma after it.

        Of negative and positive only the share of positive is listed; of many classes only the
        most frequent are.
        """
        shares = self.fractions
        chosen = list(shares)
        if tuple(shares) == BINARY:
            chosen = [_POSITIVE]
        elif len(shares) > _MAX_NAMED:
            chosen = sorted(shares, key=lambda name: -shares[name])[:_NUM_FREQUENT]
        return "".join(f"{shares[name]:.1%} {set_apart(name)}, " for name in chosen)

    @property
    def fractions(self) -> dict[str, float]:
        """Share of the predictions of each class; empty without predictions."""
        if not self.accepted:
            return {}
        return {name: number / self.accepted for name, number in self.predicted.items()}


def choose_precision(setting: str, *, earlier: str, on_gpu: bool) -> str:
    """Choose the precision, ``fp32`` or ``bf16``.

    The cluster may have lost or gained GPUs since the previous run: its precision is kept.

    Args:
        setting: ``score.precision``.
        earlier: Precision of the previous run, with the same setting; empty if there is none.
        on_gpu: Whether GPUs score.
    """
    if setting != "auto":
        return setting
    if earlier:
        return earlier
    return "bf16" if on_gpu else "fp32"


def check_compatible(previous: Manifest, plan: TablePlan) -> None:
    """Check that predictions for new files can be added to the previous ones.

    Raises:
        UserError: The new files have no row ids, or other types of the kept columns.
    """
    if previous["has_row_ids"] and not plan.table_format.has_row_ids:
        problem = plan.id_fault or f"{plan.files[0]['uri']} has no row_id"
        raise UserError(problem, hint=IDS_HINT)
    before = previous["kept_types"]
    now = kept_types(plan.table_format)
    for name in before.keys() & now.keys():
        if now[name] != before[name]:
            raise UserError(
                f"score.keep_columns: {name} is {now[name]} in the new files, but {before[name]} "
                "in the previous predictions",
                hint="convert the column to that type, or score all into another directory",
            )


def kept_types(table_format: TableFormat) -> dict[str, str]:
    """List the Arrow types of the kept columns, for the manifest."""
    return {name: str(kind) for name, kind in table_format.kept}


def list_kept(keep_columns: Sequence[str]) -> list[str]:
    """List the columns to keep besides the columns of all tweets."""
    return [name for name in keep_columns if name not in schema.TWEETS.names]


def score(table: pa.Table, part: PartId, *, job: ScoreJob) -> dict[str, Any]:
    """Score the accepted rows of a part; write their predictions, and the rejected rows.

    A worker process keeps the model for its next part.

    Args:
        table: The rows, as :func:`parts.read` returns them.
        part: What the task knows of the part.
        job: Arguments of all tasks of the scoring.

    Returns:
        A :class:`RowCounts` as JSON. With predictions of another program it also has ``used``, see
        :func:`given_predictions.count_unused`.

    Raises:
        JobError: A probability is not a number, or the model was replaced since the job began.
        UserError: Predictions of another program are of other texts.
    """
    if job.given is not None:
        found = given_predictions.find(table, job.given)
        return asdict(_write_scored(found.table, found.scores, part, job)) | {"used": found.used}
    (package,) = loaded_models.load_models(
        (job.model_uri, job.model_fingerprint), on_gpu=job.on_gpu
    )
    accepted = parts.accepted(table)
    scores = package.score(
        one_array(accepted["text"]),
        row_ids=accepted["row_id"].to_numpy(),
        bf16=job.precision == "bf16",
    )
    return asdict(_write_scored(table, scores, part, job))


def _write_scored(table: pa.Table, scores: Scores, part: PartId, job: ScoreJob) -> RowCounts:
    """Write the predictions of the accepted rows of a part, and its rejected rows; count them."""
    accepted = parts.accepted(table)
    rejected = parts.take_rejected(table)
    tweets = parts.take_accepted(accepted, keep=list_kept(job.keep_columns))
    predictions = tabulate(tweets, scores, job)
    name = part.name_file(first=job.first_part)
    files = [
        *_write(f"predictions/{name}", predictions, job),
        *_write(f"rejected/{name}", rejected, job),
    ]
    return RowCounts(
        rows_read=len(table),
        accepted=len(accepted),
        rejected=len(rejected),
        rejected_by_reason=count_values(rejected["reason"]),
        labelled=len(accepted) - accepted["label"].null_count,
        unknown_labels=len(accepted) - accepted["unknown_label"].null_count,
        unknown_values=count_unknown(accepted),
        prior_only=int((scores.num_tokens == 0).sum()),
        unsure=0 if scores.unsure is None else int(scores.unsure.sum()),
        predicted=scores.predicted,
        profile=describe_unseen(accepted, scores, job),
        peak_memory_bytes=memory.peak_bytes(),
        files=files,
    )


def _write(path: str, rows: pa.Table, job: ScoreJob) -> list[FileEntry]:
    """Write rows unless there are none; list the file, with the range of ids from the corpus."""
    files = parquet.write_part(job.root, path, rows)
    if job.writes_id_ranges:
        for item in files:
            item["row_id_range"] = row_ids.find_range(rows["row_id"])
    return files


def describe_unseen(scored: pa.Table, scores: Scores, job: ScoreJob) -> Profile:
    """Describe rows outside of the train and validation splits.

    A model is surer of rows that it has learned, and was chosen by validation rows.
    """
    # The first two splits are train and validation.
    is_seen = pc.is_in(scored["split"], pa.array(schema.SPLITS[:2])).combine_chunks()
    if pc.any(is_seen).as_py():
        is_unseen = pc.invert(is_seen)
        scored = scored.filter(is_unseen)
        scores = scores.take(np.asarray(is_unseen))
    names = scores.classes if scores.classes == BINARY else job.classes
    label = _number_labels(scored, job)
    return scores.profile(pc.fill_null(label, -1).to_numpy(), names)


def tabulate(tweets: pa.Table, scores: Scores, job: ScoreJob) -> pa.Table:
    """Join scores and the columns of the corpus that predictions repeat."""
    columns = {
        "row_id": tweets["row_id"],
        "tweet_id": tweets["tweet_id"],
        "split": tweets["split"],
        "label": _number_labels(tweets, job),
        "prediction": scores.prediction,
        **scores.columns,
        "model_version": pa.repeat(pa.scalar(job.model_version), len(tweets)),
    }
    form = schema.predictions(
        scores.classes,
        has_unsure=scores.unsure is not None,
        is_ordered=scores.class_values is not None,
    )
    predictions = pa.table({name: columns[name] for name in form.names}, schema=form)
    for name in job.keep_columns:
        if name not in columns:
            predictions = predictions.append_column(name, tweets[name])
    return predictions


def _number_labels(rows: pa.Table, job: ScoreJob) -> pa.ChunkedArray:
    """Number labels of the corpus by the classes of the predictions."""
    return pa.array(job.labels, pa.int8()).take(rows["label"])
