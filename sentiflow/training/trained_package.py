"""Trained network + validation rows -> model package, calibrated, with a profile of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.model_sections import ModelSettings
from sentiflow.data.manifest import find_classes
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.schema import BINARY, LABEL_NAMES, POSITIVE
from sentiflow.metrics import classification, confidence
from sentiflow.metrics.confidence import Calibration
from sentiflow.metrics.predicted import Predicted
from sentiflow.models.drift import Profile
from sentiflow.models.networks import Network
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import PackageSettings
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import parquet
from sentiflow.tracking.refits import Refit
from sentiflow.training.classes import LearnedClasses
from sentiflow.training.results import EpochResult

_SAMPLE_ROWS, _SAMPLE_FILES = 20_000, 64
"""Size of the validation sample for calibration and for the profile that drift is measured from."""


def save(
    uri: str,
    *,
    network: Network,
    words: Vocabulary,
    model: ModelSettings,
    epoch: EpochResult,
    classes: LearnedClasses,
    prepared: Manifest,
    validation: Sequence[str],
    lineage: dict[str, Input],
    refit: Refit | None = None,
) -> Manifest:
    """Publish the package of a trained network; return its manifest.

    Args:
        uri: The directory.
        network: The network with the weights of the chosen epoch.
        words: Its vocabulary.
        model: Its settings.
        epoch: The chosen epoch.
        classes: The classes that were learned.
        prepared: Manifest of the prepared data.
        validation: Files of the validation tweets.
        lineage: Inputs of the model.
        refit: The run that was repeated. Its calibration and profile are taken, as no row is left
            to measure them on.
    """
    tokenizer = prepared["settings"]["tokenizer"]
    settings = PackageSettings(
        model=model,
        vocabulary_size=len(words),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=tokenizer,
        tokenizer_version=TOKENIZERS[tokenizer][0],
        max_length=prepared["settings"]["max_length"],
        classes=classes.names,
        priors=classes.priors,
        left_out=classes.left_out,
    )
    package = ModelPackage(network.eval(), words, settings)
    if refit is not None:
        of_run, profile = refit.package, refit.package.get("reference")
        return _apply(package, of_run.get("calibration") or {}).save(
            uri,
            lineage=lineage,
            reference=Profile.from_json(profile) if profile else None,
            calibration=of_run.get("calibration"),
            refit=refit.record,
        )
    metrics_of_epoch = {
        name: value
        for name, value in epoch.to_metrics().items()
        if name.startswith("validation/") and value is not None
    }
    if not validation:
        return package.save(uri, lineage=lineage, metrics=metrics_of_epoch)
    code, scores = _score_sample(package, validation)
    if classes.names == BINARY:
        names = find_classes(prepared)[: len(LABEL_NAMES)]  # a third class may not be neutral
        label = np.where(code < (3 if names == LABEL_NAMES else 2), code, -1)
    else:
        label = np.where(code >= 0, classes.positions[code], -1)
    scores, after, effect = _calibrate(scores, label)
    if after and effect["bias"]:  # it may change predictions
        metrics = classification.measure(after)
        metrics_of_epoch |= {"validation/accuracy": metrics.accuracy}
        metrics_of_epoch |= (
            {"validation/f1_macro": metrics.f1_macro} if metrics.f1_macro is not None else {}
        )
    return _apply(package, effect).save(
        uri,
        lineage=lineage,
        metrics=metrics_of_epoch,
        reference=scores.profile(label, classes.names),
        calibration=effect or None,
    )


def _apply(package: ModelPackage, effect: Mapping[str, Any]) -> ModelPackage:
    """Give a package the temperature and the bias of a calibration.

    The bias becomes part of that of the output layer: what computes the logits needs no other rule.
    """
    fitted = Calibration.read(effect, package.settings.classes)
    if fitted is None:
        return package
    with torch.no_grad():
        output = package.network.output.bias
        output += fitted.temperature * torch.tensor(fitted.bias or 0.0, device=output.device)
    settings = package.settings.model_copy(update={"temperature": fitted.temperature})
    return replace(package, settings=settings)


def _score_sample(package: ModelPackage, files: Sequence[str]) -> tuple[np.ndarray, Scores]:
    """Score rows spread over all files; return their labels too, -1 where there is none."""
    chosen = files[:: -(-len(files) // _SAMPLE_FILES)]
    quota = -(-_SAMPLE_ROWS // len(chosen))
    labels, scores = [], []
    for uri in chosen:
        table = parquet.read(uri, columns=["text", "label"]).combine_chunks()
        rows = pa.array(np.arange(0, len(table), -(-len(table) // quota)))
        labels.append(pc.fill_null(table["label"], -1).take(rows).to_numpy())
        scores.append(package.score(table["text"].combine_chunks().take(rows)))
    return np.concatenate(labels), Scores.join(scores)


def _calibrate(
    scores: Scores, label: np.ndarray
) -> tuple[Scores, Predicted | None, dict[str, Any]]:
    """Fit the calibration, and choose the margin of neutral predictions if classes are two.

    Returns:
        The calibrated scores, those of rows labelled with a class, and what changes: a
        ``manifest_types.Calibration``. Without such a row the scores as they are, None, and
        nothing.
    """
    is_known = (label >= 0) & (label < len(scores.classes))
    if not is_known.any():
        return scores, None, {}
    has_token = scores.num_tokens > 0  # other rows get the class priors as they are
    fitted = confidence.fit_calibration(
        label=label[has_token], probabilities=scores.probabilities[has_token]
    )
    changed = confidence.calibrate(scores.probabilities, fitted)
    probabilities = np.where(has_token[:, None], changed, scores.probabilities)
    calibrated = replace(scores, probabilities=probabilities.astype(np.float32))
    before, after = (
        Predicted(
            each.classes, label[is_known], each.prediction[is_known], each.probabilities[is_known]
        )
        for each in (scores, calibrated)
    )
    effect: dict[str, Any] = {**confidence.describe(fitted, before, after)}
    if scores.classes == BINARY:
        labelled, positive = label >= 0, calibrated.probabilities[:, POSITIVE]
        effect["neutral_margin"] = confidence.choose_margin(
            label=label[labelled], probability=positive[labelled]
        )
    return calibrated, after, effect
