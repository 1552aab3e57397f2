"""An evaluation -> the model in MLflow's registry, described by its figures."""

import logging
from typing import Any

from sentiflow.data.manifest import MODEL
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.results import Measurements
from sentiflow.progress import say
from sentiflow.storage.uris import join, names_model
from sentiflow.tracking import runs
from sentiflow.tracking.recording import Recorder

log = logging.getLogger(__name__)


def describe(
    measured: Measurements, scored: Manifest, trained: Manifest, corpus: str
) -> tuple[str, dict[str, str]]:
    """Describe a model by its figures, its data, its classes and its network.

    Args:
        measured: The evaluation of the test rows.
        scored: The manifest of the predictions.
        trained: The manifest of the training.
        corpus: The name of the data.

    Returns:
        What is said of it where it is listed, in Markdown; and tags for programs.
    """
    metrics, split = measured.metrics, measured.split
    text = (
        f"{metrics.accuracy:.1%} {split} accuracy "
        f"(95% interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%}), "
        f"macro F1 {metrics.f1_macro:.3f}, {metrics.num_rows:,} texts.\n\n"
        f"- data: {corpus}, {trained['counts']['rows']:,} texts for training\n"
        f"- classes: {', '.join(lineage.classes_of_model(scored))}\n"
        f"- model: {lineage.describe_model(scored['inputs']['model']['settings'])}\n"
    )
    tags = {
        f"sentiflow.{split}_accuracy": f"{metrics.accuracy:.6f}",
        f"sentiflow.{split}_f1_macro": f"{metrics.f1_macro:.6f}",
        f"sentiflow.{split}_rows": str(metrics.num_rows),
        f"sentiflow.{split}_data": trained["inputs"]["prepared"]["fingerprint"],
    }
    return text, tags


def register(
    name: str,
    scored: Manifest,
    run_id: str,
    recorder: Recorder,
    *,
    text: str,
    tags: dict[str, str],
    card: bytes,
) -> dict[str, Any] | None:
    """Register the model if this stage is to do so; describe its version, and add the model card.

    Where the store is unavailable, that is done later from the manifest.

    Args:
        name: The name of the registered model.
        scored: The manifest of the predictions.
        run_id: The run of the training; of an average that of the evaluation. Empty: none.
        recorder: The run of the evaluation.
        text: The description.
        tags: The tags.
        card: The model card.

    Returns:
        Name and version for the manifest, if the model was registered now.
    """
    model, uri, registered = scored["inputs"]["model"], recorder.tracking_uri, None
    training = model["training"]
    package = join(training["uri"], MODEL) if training else model["uri"]
    if not run_id or not recorder.run_id or not recorder.flush():
        return None
    from sentiflow.tracking import registry  # a second to import

    try:
        version = registry.find(name, model["fingerprint"], tracking_uri=uri)
        if recorder.registers_model and not names_model(package):
            version = registry.register(package, name=name, tracking_uri=uri, run_id=run_id)
            registered = {"name": version.name, "version": version.number}
            say("evaluate", f"registered: {version} ({registry.CANDIDATE})")
        if version:
            text = runs.add_report(text, recorder.experiment_id, recorder.run_id)
            registry.describe(version, text=text, tags=tags, tracking_uri=uri, card=card)
    except UnavailableError as error:
        recorder.note_unavailable(error)
    except (JobError, UserError) as error:  # the evaluation is complete without it
        log.warning("%s", error)
    return registered
