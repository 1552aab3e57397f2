"""Trained network + validation rows -> model package, calibrated, with a profile of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.data.manifest_types import Manifest, Unsure
from sentiflow.metrics import classification, confidence
from sentiflow.metrics.predicted import Predicted
from sentiflow.models.drift import Profile
from sentiflow.models.linear import LinearModel
from sentiflow.models.networks import Network
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import PackageSettings, UnsureThreshold
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import parquet
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.reports import EpochResult
from sentiflow.training.train_job import TrainJob

_SAMPLE_ROWS, _SAMPLE_FILES = 20_000, 64
"""Size of the validation sample for calibration and for the profile that drift is measured from."""
_LINEAR = ("linear_weight", "linear_strength")


def save(
    job: TrainJob,
    *,
    network: Network,
    words: Vocabulary,
    epoch: EpochResult,
    classes: LearnedClasses,
    linear: Mapping[float, LinearModel],
) -> Manifest:
    """Publish the package of a trained network; return its manifest.

    Args:
        job: The training.
        network: The network with the weights of the chosen epoch.
        words: Its vocabulary.
        epoch: The chosen epoch.
        classes: The classes that were learned.
        linear: Linear models to choose from, by the strength of their regularization.
    """
    prepared, calibration, unsure = job.prepared["settings"], job.calibration, job.settings.unsure
    settings = PackageSettings(
        model=job.settings.model,
        vocabulary_size=len(words),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=prepared["tokenizer"],
        tokenizer_version=TOKENIZERS[prepared["tokenizer"]][0],
        max_length=prepared["max_length"],
        classes=classes.names,
        priors=classes.priors,
        left_out=classes.left_out,
    )
    package = ModelPackage(network.eval(), words, settings)
    validation = list(job.list_files("tweets", job.validation_splits))
    label, text = _read_sample(validation, classes)
    effect: dict[str, Any] = {}
    if linear:
        package, effect = _add_linear(package, linear, label, text, calibration or {})
    if calibration is None:
        priors = np.array(classes.priors) if prepared["split"]["kind"] == "time" else None
        calibration = calibrate(package.score(text), label, priors=priors)
    calibration = effect | dict(calibration)
    package = _apply(package, calibration)
    profile = Profile.from_json(job.reference) if job.reference else None
    metrics = {
        name: value
        for name, value in epoch.to_metrics().items()
        if name.startswith("validation/") and value is not None
    }
    if validation:
        scores = package.score(text)
        profile = scores.profile(label, classes.names)
        if unsure and "unsure" not in calibration:
            calibration["unsure"] = choose_unsure(scores, label, unsure.max_error)
            package = _apply(package, {"unsure": calibration["unsure"]})
        if effect or calibration.get("bias"):  # predictions are others than the network's
            metrics |= _measure(scores, label)
    return package.save(
        job.model_uri,
        lineage=job.lineage,
        metrics=metrics,
        reference=profile,
        calibration=calibration or None,
        refit=job.refit.record if job.refit else None,
    )


def _measure(scores: Scores, label: np.ndarray) -> dict[str, float]:
    """Measure the validation metrics on rows with a label of the model."""
    predicted = _predicted(scores, label)
    if not len(predicted.label):
        return {}
    values = classification.measure(predicted).values
    named = {f"validation/{name}": values[name] for name in ("accuracy", "f1_macro")}
    return {name: value for name, value in named.items() if value is not None}


def _predicted(scores: Scores, label: np.ndarray) -> Predicted:
    """Take the rows that are labelled with a class of the model."""
    chosen = (label >= 0) & (label < len(scores.classes))
    return Predicted(
        scores.classes, label[chosen], scores.prediction[chosen], scores.probabilities[chosen]
    )


def _add_linear(
    package: ModelPackage,
    models: Mapping[float, LinearModel],
    label: np.ndarray,
    text: pa.Array,
    calibration: Mapping[str, Any],
) -> tuple[ModelPackage, dict[str, Any]]:
    """Add the best of several linear models to a network; return what was decided, too."""
    decided = {name: calibration[name] for name in _LINEAR if name in calibration}
    if not decided:
        chosen = (label >= 0) & (label < len(package.settings.classes))
        of_network, *logits = package.component_logits(text.filter(pa.array(chosen)), models)
        decided = choose_linear(label[chosen], of_network, dict(zip(models, logits, strict=True)))
    weight = decided["linear_weight"]
    settings = package.settings.model_copy(update={"linear_weight": weight})
    linear = models[decided["linear_strength"]] if weight else None
    linear = linear and linear.scale(weight, np.zeros(len(settings.classes)))
    return replace(package, settings=settings, linear=linear), decided


def choose_linear(
    label: np.ndarray, of_network: np.ndarray, of_models: Mapping[float, np.ndarray]
) -> dict[str, float]:
    """Choose a linear model and its share in the logits: those of the lowest log loss of both.

    Args:
        label: N positions among the classes; without a row the choice is the middle model.
        of_network: ``(N, C)`` logits of the network.
        of_models: The same of each linear model, by the strength of its regularization.
    """
    fits = {
        strength: confidence.fit_weight(label=label, first=of_network, second=logits)
        for strength, logits in of_models.items()
    }
    strength = min(fits, key=lambda each: fits[each][1]) if len(label) else [*fits][len(fits) // 2]
    return {"linear_weight": fits[strength][0], "linear_strength": strength}


def _apply(package: ModelPackage, effect: Mapping[str, Any]) -> ModelPackage:
    """Give a package the temperature, the bias and the threshold of a calibration.

    The bias becomes part of that of the output layer, or of the linear model: what computes the
    logits needs no other rule.
    """
    if unsure := effect.get("unsure"):
        rule = UnsureThreshold(max_error=unsure["max_error"], threshold=unsure["threshold"])
        settings = package.settings.model_copy(update={"unsure": rule})
        package = replace(package, settings=settings)
    fitted = confidence.Calibration.read(effect, package.settings.classes)
    if fitted is None:
        return package
    bias = fitted.temperature * np.array(fitted.bias or [0.0] * len(package.settings.classes))
    linear = package.linear and package.linear.scale(1.0, bias)
    if linear is None:
        with torch.no_grad():
            output = package.network.output.bias
            output += torch.from_numpy(bias.astype(np.float32)).to(output.device)
    settings = package.settings.model_copy(update={"temperature": fitted.temperature})
    return replace(package, settings=settings, linear=linear)


def _read_sample(files: Sequence[str], classes: LearnedClasses) -> tuple[np.ndarray, pa.Array]:
    """Read rows spread over all files: labels of the model, -1 where there is none, and texts."""
    labels, texts = [np.zeros(0, np.int64)], [pa.array([], pa.string())]
    chosen = files[:: max(1, -(-len(files) // _SAMPLE_FILES))]
    quota = -(-_SAMPLE_ROWS // max(1, len(chosen)))
    for uri in chosen:
        table = parquet.read(uri, columns=["text", "label"]).combine_chunks()
        rows = pa.array(np.arange(0, len(table), max(1, -(-len(table) // quota))))
        labels.append(pc.fill_null(table["label"], -1).take(rows).to_numpy())
        texts.append(table["text"].combine_chunks().take(rows))
    code, text = np.concatenate(labels), pa.concat_arrays(texts)
    return np.where(code >= 0, classes.positions[code], -1), text


def calibrate(
    scores: Scores, label: np.ndarray, *, priors: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit the calibration.

    Args:
        scores: Of texts that the model has not seen.
        label: Their labels.
        priors: Shares of the C classes that the probabilities are to have. Default: those of the
            labels, which are no guide where they are of another time than the texts to come.

    Returns:
        What changes: a ``manifest_types.Calibration``; nothing without a row labelled with a class.
    """
    has_token = scores.num_tokens > 0  # other rows get the class priors as they are
    before = _predicted(scores, label)
    if not len(before.label):
        return {}
    fitted = confidence.fit_calibration(
        label=label[has_token], probabilities=scores.probabilities[has_token]
    )
    if priors is not None and fitted.bias:
        share = (np.bincount(before.label, minlength=len(priors)) + 1) / len(before.label)
        bias = fitted.bias + np.log(priors / share)
        fitted = fitted._replace(bias=tuple((bias - bias.mean()).round(3).tolist()))
    changed = confidence.calibrate(scores.probabilities, fitted)
    probabilities = np.where(has_token[:, None], changed, scores.probabilities)
    calibrated = replace(scores, probabilities=probabilities.astype(np.float32))
    return confidence.describe(fitted, before, _predicted(calibrated, label))


def choose_unsure(scores: Scores, label: np.ndarray, max_error: float) -> Unsure:
    """Choose the threshold on rows that the model has not seen, those of its classes."""
    chosen = (label >= 0) & (label < len(scores.classes))
    sure = np.where(scores.num_tokens > 0, scores.confidence, 0)[chosen]
    threshold = confidence.choose_threshold(
        right=(scores.prediction == label)[chosen], confidence=sure, max_error=max_error
    )
    return {
        "max_error": max_error,
        "threshold": threshold,
        "num_rows": len(sure),
        "answered_fraction": float((sure > threshold).mean()) if len(sure) else 0.0,
    }
