"""Manifest of predictions -> manifests of the data and of the training that they came from."""

from sentiflow.config.sections import FormatSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest


def corpus_of(scored: Manifest) -> Manifest | None:
    """Find the manifest of the prepared data; None if files were scored, or they are gone."""
    return manifest.read_input(scored["inputs"], "corpus")


def training_of(scored: Manifest) -> Manifest | None:
    """Find the manifest of the training that made the model; None if it is gone or was redone."""
    model = scored["inputs"]["model"]
    training = manifest.read_input(model, "training")
    is_it = training and training.get("model_fingerprint") == model["fingerprint"]
    return training if is_it else None


def input_files_of(scored: Manifest) -> Input | None:
    """Find the input files whose rows a scored corpus numbers; None if they are not known."""
    corpus: Input = scored["inputs"]["corpus"]
    if "files" in corpus:
        return corpus
    prepared = corpus_of(scored)
    return prepared["inputs"]["csv"] if prepared else None


def has_header(record: Manifest) -> bool:
    """Say whether the first record of each CSV was taken for a header."""
    form = (corpus_of(record) or record)["settings"].get("format") or {}
    return FormatSettings.model_validate(form).has_header
