"""Trained network + validation rows -> model package, calibrated, with a profile of the rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.text_units import find_cut, find_unit
from sentiflow.data.arrays import hash_texts
from sentiflow.data.manifest_types import Manifest, Unsure
from sentiflow.metrics import abstention, classification, confidence
from sentiflow.metrics.predicted import Predicted
from sentiflow.models.array_networks import ArrayNetwork
from sentiflow.models.linear import LinearModel
from sentiflow.models.networks import Network
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_settings import PackageSettings, UnsureThreshold
from sentiflow.models.profile import Profile
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import parquet
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.linear_choice import LinearChoice
from sentiflow.training.reports import EpochResult
from sentiflow.training.train_job import TrainJob

_SAMPLE_ROWS = 20_000
"""Maximum number of validation rows for the calibration and for the profile, which drift is
measured from."""
_SAMPLE_FILES = 64
"""Maximum number of files from which these rows are read."""
_LINEAR_KEYS = ("linear_weight", "linear_strength", "linear_neighbor_weight")
"""Keys of a calibration that choose the linear model."""


def save(
    job: TrainJob,
    *,
    network: Network,
    words: Vocabulary,
    epoch: EpochResult | None,
    classes: LearnedClasses,
    linear: Mapping[LinearChoice, LinearModel],
) -> Manifest:
    """Publish the package of a trained network; return its manifest.

    Args:
        job: The training.
        network: The network with the weights of the chosen epoch.
        words: Its vocabulary.
        epoch: The chosen epoch; None if the network was not trained.
        classes: The classes that were learned.
        linear: Linear models to choose from.
    """
    package = _pack(job, network, words, classes)
    validation = list(job.list_files("tweets", job.validation_splits))
    label, text = _read_sample(validation, classes)
    calibration: dict[str, Any] = {}
    if linear:  # their choice is the first part of the calibration
        package, calibration = _add_linear(package, linear, label, text, job.calibration or {})
    calibration |= _find_calibration(job, package, label, text)
    package = _apply_calibration(package, calibration)
    reference = Profile.from_json(job.reference) if job.reference else None
    metrics = _list_validation_metrics(epoch) if epoch else {}
    if validation:
        scores = package.score(text)
        reference = scores.profile(label, classes.names)
        if job.settings.unsure and "unsure" not in calibration:
            unsure = choose_unsure(
                scores, label, job.settings.unsure.max_error, text_hash=hash_texts(text)
            )
            calibration["unsure"] = unsure
            package = _apply_calibration(package, {"unsure": unsure})
        # The metrics of the epoch are of the network alone, whose predictions these may change.
        if linear or calibration.get("bias"):
            metrics |= _measure_validation(scores, label)
    return package.save(
        job.model_uri,
        lineage=job.lineage,
        metrics=metrics,
        reference=reference,
        calibration=calibration or None,
        refit=job.refit.record if job.refit else None,
    )


def _pack(
    job: TrainJob, network: Network, words: Vocabulary, classes: LearnedClasses
) -> ModelPackage:
    """Put a network and its words together, without a linear model and a calibration."""
    prepared = job.prepared["settings"]
    settings = PackageSettings(
        model=job.settings.model,
        vocabulary_size=len(words),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=prepared["tokenizer"],
        tokenizer_version=TOKENIZERS[prepared["tokenizer"]].version,
        unit=find_unit(prepared),
        max_length=prepared["max_length"],
        cut=find_cut(prepared),
        classes=classes.names,
        class_values=classes.values,
        priors=classes.priors,
        left_out=classes.left_out,
    )
    return ModelPackage(network=network.eval(), vocabulary=words, settings=settings)


def _find_calibration(
    job: TrainJob, package: ModelPackage, label: np.ndarray, text: pa.Array
) -> dict[str, Any]:
    """Take the calibration of the job (from folds or a refit), or fit one to validation rows.

    With a split by time, the bias aims at the shares of the classes in the train rows, since the
    shares in validation rows are from another time.
    """
    if job.calibration is not None:
        return dict(job.calibration)
    priors = None
    if job.prepared["settings"]["split"]["kind"] == "time":
        priors = np.array(package.settings.priors)
    return calibrate(package.score(text), label, priors=priors)


def _list_validation_metrics(epoch: EpochResult) -> dict[str, float]:
    """List the metrics of an epoch on validation rows, which are measured on the network alone."""
    metrics = {}
    for name, value in epoch.to_metrics().items():
        if name.startswith("validation/") and value is not None:
            metrics[name] = value
    return metrics


def _measure_validation(scores: Scores, label: np.ndarray) -> dict[str, float]:
    """Measure the validation metrics on rows with a label of the model."""
    predicted = _select_learned(scores, label)
    if not len(predicted.label):
        return {}
    values = classification.measure(predicted).values
    metrics = {}
    for name in ("accuracy", "f1_macro"):
        value = values[name]
        if value is not None:
            metrics[f"validation/{name}"] = value
    return metrics


def _is_learned(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Say which rows are labelled with a class of the model."""
    return (label >= 0) & (label < num_classes)


def _select_learned(scores: Scores, label: np.ndarray) -> Predicted:
    """Select the rows that are labelled with a class of the model."""
    chosen = _is_learned(label, len(scores.classes))
    return Predicted(
        classes=scores.classes,
        label=label[chosen],
        prediction=scores.prediction[chosen],
        probabilities=scores.probabilities[chosen],
    )


def _add_linear(
    package: ModelPackage,
    models: Mapping[LinearChoice, LinearModel],
    label: np.ndarray,
    text: pa.Array,
    calibration: Mapping[str, Any],
) -> tuple[ModelPackage, dict[str, Any]]:
    """Add the best of several linear models to a package.

    Args:
        package: A network without a linear model.
        models: The linear models.
        label: Labels of the model for N validation rows, -1 for no label.
        text: Their texts.
        calibration: Its values of ``_LINEAR_KEYS`` choose the model; without them the rows do.

    Returns:
        The package, and the values of ``_LINEAR_KEYS``.
    """
    decided = {name: calibration[name] for name in _LINEAR_KEYS if name in calibration}
    num_classes = len(package.settings.classes)
    if not decided:
        chosen = _is_learned(label, num_classes)
        of_network, *logits = package.component_logits(
            text.filter(pa.array(chosen)), models.values()
        )
        of_models = dict(zip(models, logits, strict=True))
        decided = choose_linear(label[chosen], of_network, of_models)
    weight = decided["linear_weight"]
    linear = None
    if weight:
        linear = models[LinearChoice.of(decided)].scale(weight, np.zeros(num_classes))
    settings = package.settings.model_copy(update={"linear_weight": weight})
    return replace(package, settings=settings, linear=linear), decided


def choose_linear(
    label: np.ndarray, of_network: np.ndarray, of_models: Mapping[LinearChoice, np.ndarray]
) -> dict[str, float]:
    """Choose a linear model and its share in the logits by the log loss of the mixed logits.

    The gain of the network is the log loss of the best linear model alone, minus the log loss with
    the network, per row.

    Args:
        label: N positions among the classes; without a row the choice is the middle model.
        of_network: ``(N, C)`` logits of the network.
        of_models: Logits of each linear model.
    """
    weights = dict[LinearChoice, float]()
    losses = dict[LinearChoice, float]()
    alone = dict[LinearChoice, float]()
    for choice, logits in of_models.items():
        _, alone[choice] = confidence.fit_weight(
            label=label, first=np.zeros_like(logits), second=logits
        )
        weight, loss = confidence.fit_weight(label=label, first=of_network, second=logits)
        weights[choice] = weight
        losses[choice] = loss
    choices = sorted(of_models)
    chosen = choices[len(choices) // 2]
    decided = {}
    if len(label):
        chosen = min(of_models, key=lambda choice: losses[choice])
        gain = (min(alone.values()) - losses[chosen]) / len(label)
        decided["network_gain"] = round(gain, 5)
    return decided | {"linear_weight": weights[chosen]} | chosen.to_calibration()


def choose_alone(label: np.ndarray, of_models: Mapping[LinearChoice, np.ndarray]) -> LinearChoice:
    """Choose a linear model that answers alone, by its log loss.

    Args:
        label: N positions among the classes.
        of_models: Logits of each linear model.
    """
    losses = dict[LinearChoice, float]()
    for choice, logits in of_models.items():
        nothing = np.zeros_like(logits)
        _, losses[choice] = confidence.fit_weight(label=label, first=nothing, second=logits)
    return min(losses, key=lambda choice: losses[choice])


def _apply_calibration(package: ModelPackage, calibration: Mapping[str, Any]) -> ModelPackage:
    """Give a package those of temperature, bias and threshold that a calibration has.

    The bias is added to the bias of the linear model, or in place to the network's output layer, so
    that no other code needs to know it.
    """
    unsure = calibration.get("unsure")
    if unsure:
        rule = UnsureThreshold(max_error=unsure["max_error"], threshold=unsure["threshold"])
        settings = package.settings.model_copy(update={"unsure": rule})
        package = replace(package, settings=settings)
    fitted = confidence.Calibration.read(calibration, package.settings.classes)
    if fitted is None:
        return package
    # The bias is added after the logits were divided by the temperature, so here it is multiplied.
    bias = np.zeros(len(package.settings.classes))
    if fitted.bias:
        bias = fitted.temperature * np.array(fitted.bias)
    linear = package.linear
    if linear is not None:
        linear = linear.scale(1.0, bias)
    else:
        assert not isinstance(package.network, ArrayNetwork), "it was trained just now"
        with torch.no_grad():
            output = package.network.output.bias
            output += torch.from_numpy(bias.astype(np.float32)).to(output.device)
    settings = package.settings.model_copy(update={"temperature": fitted.temperature})
    return replace(package, settings=settings, linear=linear)


def _read_sample(files: Sequence[str], classes: LearnedClasses) -> tuple[np.ndarray, pa.Array]:
    """Read rows spread over all files.

    Returns:
        Labels of the model, -1 for no label or a class that is not learned, and texts.
    """
    labels = [np.zeros(0, np.int64)]
    texts = [pa.array([], pa.string())]
    every_file = max(1, math.ceil(len(files) / _SAMPLE_FILES))
    chosen = files[::every_file]
    rows_per_file = math.ceil(_SAMPLE_ROWS / max(1, len(chosen)))
    for uri in chosen:
        table = parquet.read(uri, columns=["text", "label"]).combine_chunks()
        every_row = max(1, math.ceil(len(table) / rows_per_file))
        rows = pa.array(np.arange(0, len(table), every_row))
        labels.append(pc.fill_null(table["label"], -1).take(rows).to_numpy())
        texts.append(table["text"].combine_chunks().take(rows))
    prepared_label = np.concatenate(labels)
    label = np.where(prepared_label >= 0, classes.positions[prepared_label], -1)
    return label, pa.concat_arrays(texts)


def calibrate(
    scores: Scores, label: np.ndarray, *, priors: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit the calibration.

    Args:
        scores: Predictions for texts that the model has not seen.
        label: The labels of these texts.
        priors: Shares of the C classes that the bias aims at. Default: their shares among the
            labels. These are misleading if the labels are from another time than new texts.

    Returns:
        A ``manifest_types.CalibrationRecord``; empty without a row labelled with a class.
    """
    has_token = scores.num_tokens > 0  # other rows have the class priors, which stay unchanged
    before = _select_learned(scores, label)
    if not len(before.label):
        return {}
    fitted = confidence.fit_calibration(
        label=label[has_token], probabilities=scores.probabilities[has_token]
    )
    if priors is not None and fitted.bias:
        counts = np.bincount(before.label, minlength=len(priors))
        share = (counts + 1) / len(before.label)  # + 1: a class may have no row
        bias = fitted.bias + np.log(priors / share)
        centered = (bias - bias.mean()).round(3)
        fitted = fitted._replace(bias=tuple(centered.tolist()))
    changed = confidence.calibrate(scores.probabilities, fitted)
    probabilities = np.where(has_token[:, None], changed, scores.probabilities)
    calibrated = replace(scores, probabilities=probabilities.astype(np.float32))
    after = _select_learned(calibrated, label)
    return confidence.describe(fitted, before, after)


def choose_unsure(
    scores: Scores, label: np.ndarray, max_error: float, *, text_hash: np.ndarray
) -> Unsure:
    """Choose the confidence up to which texts are unsure.

    Copies of a text are right or wrong together, so the first labelled row of each text decides.

    Args:
        scores: Scores of N texts that the model has not seen.
        label: Labels of these texts; rows without a class of the model are left out.
        max_error: Limit of the error of the answered texts, ``train.unsure.max_error``.
        text_hash: Hashes of the N texts; copies have equal ones.
    """
    learned = np.flatnonzero(_is_learned(label, len(scores.classes)))
    _, first = np.unique(text_hash[learned], return_index=True)
    chosen = learned[first]
    # Texts without a known word have the class priors: they are always unsure.
    confidences = np.where(scores.num_tokens > 0, scores.confidence, 0)[chosen]
    is_right = (scores.prediction == label)[chosen]
    threshold = abstention.choose_threshold(
        right=is_right, confidence=confidences, max_error=max_error
    )
    answered_fraction = 0.0
    if len(confidences):
        answered_fraction = float((confidences > threshold).mean())
    return {
        "max_error": max_error,
        "threshold": threshold,
        "num_rows": len(confidences),
        "answered_fraction": answered_fraction,
    }
