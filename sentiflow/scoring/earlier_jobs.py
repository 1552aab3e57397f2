"""Manifest of a scored directory -> the results of earlier jobs, which a new job extends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sentiflow.data import lineage
from sentiflow.data.manifest_types import FileEntry, Manifest, ModelInput, PartPlace, Scoring
from sentiflow.scoring.score_plan import REGISTRY_URI
from sentiflow.scoring.tasks import RowCounts


@dataclass(frozen=True, kw_only=True)
class EarlierJobs:
    """Results of earlier jobs; by default there are none."""

    counts: RowCounts = field(default_factory=RowCounts)
    """Counts of the rows that were scored."""
    num_files: int = 0
    """Files of the corpus that were scored."""
    num_parts: int = 0
    """Parts that were scored; the next part has this number."""
    precision: str = ""
    """``fp32`` or ``bf16``; empty without an earlier job."""
    models: Mapping[str, ModelInput] = field(default_factory=dict)
    """The models that have scored, by version."""
    scorings: Sequence[Scoring] = ()
    """For each job the parts that it has added."""
    places: Sequence[PartPlace] = ()
    """Which rows the parts hold."""

    @classmethod
    def of(cls, previous: Manifest | None, model: ModelInput) -> EarlierJobs:
        """Take the results from the manifest of the previous job, if there is one."""
        if previous is None:
            return cls()
        return cls(
            counts=RowCounts.of(previous, model),
            num_files=len(previous["inputs"]["corpus"]["files"]),
            num_parts=previous["num_parts"],
            precision=previous["precision"],
            models=previous["models"],
            scorings=previous["scorings"],
            places=previous.get("parts", ()),
        )

    def with_files(self, files: Sequence[FileEntry]) -> EarlierJobs:
        """Return the same results with another description of their files."""
        return replace(self, counts=replace(self.counts, files=list(files)))

    def name_version(self, model: ModelInput) -> str:
        """Name a model in the column ``model_version`` of predictions.

        The name is the model's number in the registry, or else its fingerprint. A model that has
        scored some of the rows keeps its name, and so do predictions of another program. A
        recreated registry reuses numbers: a number that another model has is not used again.
        """
        for name, other in self.models.items():
            if other["fingerprint"] == model["fingerprint"]:
                return name
            if lineage.is_of_others(other) and lineage.is_of_others(model):
                return name
        version = REGISTRY_URI.fullmatch(model["uri"])
        if version and version["number"] not in self.models:
            return version["number"]
        return model["fingerprint"]
