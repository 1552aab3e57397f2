"""Manifest of predictions -> how they came about: files, stages, settings and counts of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sentiflow.data import lineage
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest, RepeatedText, Settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.models import logit_shares

_NUM_DIGITS = 16
"""Digits of a file's hash on the page: as many as a fingerprint has."""
_TITLES = {
    "csv": "input file",
    "corrections": "corrections",
    "unlabelled": "unlabelled",
    "vectors": "word vectors",
}
"""Titles of the inputs of a preparation."""


class LineageStep(NamedTuple):
    """A file or a result that led to the predictions."""

    title: str
    uri: str
    fingerprint: str


@dataclass(frozen=True)
class Origin:
    """How the predictions came about."""

    created: datetime
    """When the page was made, in UTC."""
    model: str
    """The model, in a line."""
    corpus: str
    """The evaluated texts, in a line."""
    counts: Mapping[str, int]
    """Numbers of rows: read, accepted, rejected and so on."""
    settings: Settings
    """Resolved settings of each stage, by its name."""
    lineage: Sequence[LineageStep]
    versions: Mapping[str, str]
    """Versions of libraries, by name."""
    most_repeated: Sequence[RepeatedText] = ()
    """The texts of the prepared data with the most rows."""
    logit_shares: str = ""
    """What the network and the linear model decide; empty without a linear model."""
    model_accuracy: float | None = None
    """Validation accuracy of the model, with its linear model; None if it is not known, or if it is
    the accuracy of the network in the chosen epoch."""


def describe_origin(
    scored: Manifest, corpus: ScoredCorpus, trained: Manifest | None, spec: OutputSpec
) -> Origin:
    """Describe for the report how the predictions came about.

    Args:
        scored: Manifest of the predictions.
        corpus: The corpus that was scored.
        trained: Manifest of the training; None if it is gone, or if the model is an average.
        spec: The output of the evaluation.
    """
    records = [record for record in (corpus.prepared, trained, scored) if record]
    settings = {record["stage"]: record["settings"] for record in records}
    return Origin(
        created=datetime.now(UTC).replace(microsecond=0),
        model=lineage.describe_model(scored["inputs"]["model"]["settings"]),
        corpus=corpus.name,
        counts=_count_rows(corpus.prepared or scored, scored),
        settings=settings | {spec.stage: spec.settings},
        lineage=_list_steps(scored, corpus, spec),
        versions=scored["versions"],
        most_repeated=corpus.prepared.get("most_repeated", ()) if corpus.prepared else (),
        logit_shares=logit_shares.describe_model(scored["inputs"]["model"], trained),
        model_accuracy=_find_model_accuracy(trained),
    )


def _find_model_accuracy(trained: Manifest | None) -> float | None:
    """Find the validation accuracy of the model, if its network has another one."""
    if trained is None or not trained["history"]:
        return None
    accuracy = trained.get("metrics", {}).get("validation/accuracy")
    of_network = trained["history"][trained["chosen_epoch"] - 1].get("validation_accuracy")
    return None if accuracy == of_network else accuracy


def _count_rows(of_files: Manifest, scored: Manifest) -> dict[str, int]:
    """List the numbers of rows under the titles that the page shows.

    Args:
        of_files: Manifest of the stage that has read the files: prepare, or else score.
        scored: Manifest of the predictions.
    """
    counts = of_files["counts"]
    rows = {
        "rows read": counts["rows_read"],
        "accepted": counts["accepted"],
        "rejected": counts["rejected"],
        "scored": scored["counts"]["accepted"],
        "scored without a known word": scored["counts"]["prior_only"],
    }
    if counts.get("encoded_cut"):
        rows["cut at the maximum length"] = counts["encoded_cut"]
    return rows


def _list_steps(scored: Manifest, corpus: ScoredCorpus, spec: OutputSpec) -> list[LineageStep]:
    """List the input files and word vectors, then the results of the stages."""
    inputs: Mapping[str, Any] = {}
    if corpus.prepared:
        inputs = corpus.prepared["inputs"]
    elif corpus.input_files:
        inputs = {"csv": corpus.input_files}
    steps = []
    for name, title in _TITLES.items():
        for file in inputs.get(name, {}).get("files", ()):
            steps.append(LineageStep(title, file["uri"], file["tree_sha256"][:_NUM_DIGITS]))
    vectors = inputs.get("vectors", {})
    if "uri" in vectors:  # a model package, not a file
        steps.append(LineageStep(_TITLES["vectors"], vectors["uri"], vectors["fingerprint"]))
    model = scored["inputs"]["model"]
    results = [("averaged model", each) for each in model.get("members", ())]
    results += [("model", model), ("predictions", spec.inputs["scored"])]
    if corpus.prepared:
        results.insert(0, ("prepared data", scored["inputs"]["corpus"]))
    for title, each in results:
        steps.append(LineageStep(title, each["uri"], each["fingerprint"]))
    return steps
