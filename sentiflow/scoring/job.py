"""Arguments and results of the tasks of scoring."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sentiflow.config.sections import ScoreSettings
from sentiflow.data.corpus import Corpus
from sentiflow.data.manifest_types import FileEntry
from sentiflow.models.drift import Profile


@dataclass(frozen=True)
class Job:
    """Arguments of every task of one scoring."""

    source: Corpus
    """The corpus, or the new files of an extended one."""
    settings: ScoreSettings
    precision: str
    """``fp32`` or ``bf16``."""
    on_gpu: bool
    """Whether tasks have a share of a GPU."""
    model_uri: str
    """Directory of the model package."""
    model_fingerprint: str
    """Fingerprint that the package must still have."""
    first_part: int
    """Number of the first part in file names."""
    max_failed: int
    """Rows for which the model may fail in the whole corpus."""
    run_key: str
    """Key of the run; a task writes only while the directory belongs to this run."""


@dataclass(frozen=True)
class ScoreCounts:
    """Rows of a corpus by outcome."""

    rows_read: int = 0
    accepted: int = 0
    """Rows with a prediction."""
    rejected: int = 0
    """Rows without a readable text."""
    failed: int = 0
    """Rows for which the model failed."""
    prior_only: int = 0
    """Rows without a known word; their prediction is the class prior."""
    positive: int = 0
    """Rows predicted to be positive."""
    unknown_labels: int = 0
    """Rows with an unknown label, which becomes null."""

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        names = [item.name for item in fields(ScoreCounts)]
        return ScoreCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def positive_fraction(self) -> float | None:
        """Share of the predictions that are positive; None without predictions."""
        return self.positive / self.accepted if self.accepted else None


@dataclass(frozen=True, kw_only=True)
class ScoredPart(ScoreCounts):
    """A part that was scored."""

    rejected_by_reason: dict[str, int]
    profile: Profile
    """Statistics of the texts and their predictions."""
    peak_memory_bytes: int
    """Most memory that the process of the task has taken so far."""
    files: list[FileEntry]

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON, for the completion marker."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ScoredPart":
        """Convert from JSON."""
        return cls(**value | {"profile": Profile.from_json(value["profile"])})


def sum_reasons(parts: Iterable[ScoredPart]) -> Counter[str]:
    """Count the rejected rows of parts by reason."""
    return sum((Counter(part.rejected_by_reason) for part in parts), Counter())
