"""Row counts of a scoring -> lines for the user, metrics of the run, and the drift."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentiflow.data import row_checks
from sentiflow.data.manifest_types import ModelInput
from sentiflow.data.schema import BINARY, POSITIVE
from sentiflow.metrics.predicted_shares import compare_unseen
from sentiflow.models.profile import Profile
from sentiflow.progress import say
from sentiflow.scoring import drift
from sentiflow.scoring.score_plan import STAGE
from sentiflow.scoring.tasks import RowCounts
from sentiflow.storage.uris import display_uri

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder

_MAX_UNKNOWN_NAMED = 5
"""Unknown labels that a line lists: the most frequent ones."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one run has scored."""

    new: RowCounts
    """Rows of this run; if it was resumed, also the rows before that."""
    total: RowCounts
    """All rows of the corpus, earlier runs included."""
    num_scored: int
    """Rows that this process has scored."""
    seconds: float
    """How long this process took."""
    drift: dict[str, Any]
    """Drift from the validation texts of the model, see :func:`drift.compare`; empty if it is not
    measured."""

    @property
    def rows_per_second(self) -> float:
        """Rows that this process has scored in a second."""
        return self.num_scored / self.seconds


def find_drift(total: RowCounts, model: ModelInput) -> dict[str, Any]:
    """Compare all texts with the model's validation texts; an average of models has none."""
    reference = model["reference"]
    if not reference:
        return {}
    return drift.compare(total.profile, Profile.from_json(reference))


def tell(summary: Summary, model: ModelInput, *, uri: str) -> None:
    """Tell the user what was scored, rejected and unknown, and how the texts have drifted.

    Args:
        summary: What was scored.
        model: The model.
        uri: The output.
    """
    _tell_scored(summary)
    _tell_rejected(summary.new, uri)
    _tell_unknown_labels(summary)
    for line in summary.drift.get("warnings", []):
        say(STAGE, f"drift from the validation texts: {line}")
    for share, meaning in compare_unseen(summary.total.profile.confusion, model):
        say(STAGE, f"{share} {meaning}")


def _tell_scored(summary: Summary) -> None:
    total = summary.total
    num_before = total.accepted - summary.num_scored
    line = f"{summary.num_scored:,} rows scored, "
    if num_before:
        line += f"{num_before:,} before; of all "
    line += total.brief
    if total.unsure:
        line += f"{total.unsure / total.accepted:.1%} unsure, "
    line += f"{total.prior_only:,} without a known word "
    line += f"({summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s)"
    say(STAGE, line)


def _tell_rejected(new: RowCounts, uri: str) -> None:
    if new.rejected:
        rows = "row" if new.rejected == 1 else "rows"
        reasons = row_checks.list_reasons(new.rejected_by_reason)
        place = f"{display_uri(uri)}/rejected"
        say(STAGE, f"{new.rejected:,} {rows} rejected ({reasons}): see {place}")


def _tell_unknown_labels(summary: Summary) -> None:
    number = summary.total.unknown_labels
    if number:
        become = "label becomes" if number == 1 else "labels become"
        line = f"{number:,} unknown {become} null"
        frequent = Counter(summary.new.unknown_values).most_common(_MAX_UNKNOWN_NAMED)
        if frequent:
            line += ": " + ", ".join(f"{rows:,} {value!r}" for value, rows in frequent)
        say(STAGE, line)


def log_metrics(summary: Summary, recorder: Recorder) -> None:
    """Log counts, shares of the classes and drift as ``score/NAME``."""
    total = summary.total
    metrics: dict[str, float | None] = {}
    for name, number in total.counts.items():
        if name != "predicted":  # a table by class: logged as shares
            metrics[name] = number
    metrics["rows_per_second"] = summary.rows_per_second
    for name, share in total.fractions.items():
        metrics[f"predicted_{name}"] = share
    metrics["positive_fraction"] = total.fractions.get(BINARY[POSITIVE])
    for name, value in summary.drift.items():
        if name.endswith("_psi"):
            metrics[f"drift/{name}"] = value
    for name, value in summary.drift.get("corpus", {}).items():
        metrics[f"drift/{name}"] = value
    recorder.log_metrics({f"score/{name}": value for name, value in metrics.items()})
