"""Model + texts -> how it behaves, how it answers to groups, and what its word vectors hold."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import Config
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import behavior, group_bias
from sentiflow.evaluation.results import Findings
from sentiflow.progress import say
from sentiflow.tracking import model_sources
from sentiflow.words import word_bias
from sentiflow.words.word_vectors import WordVectors

_NUM_CHANGED, _LONGEST_CHANGED = 400, 1000
"""Texts of the corpus that are changed a little, to see whether the answer changes; the most
characters of one."""


def ask(config: Config, scored: Manifest, rows: pa.Table) -> Findings:
    """Let the model answer made-up texts, and changed ones.

    Args:
        config: Of the evaluation.
        scored: The manifest of the predictions.
        rows: Texts of the corpus.

    Returns:
        ``behavior`` and ``group_bias``; ``word_bias``, what its word vectors hold, None if it is
        not asked; and ``not_asked``, the reason.

    Raises:
        JobError: MLflow, which has the model, cannot be reached.
    """
    found: Findings = {"behavior": [], "group_bias": [], "word_bias": None, "not_asked": ""}
    if not config.evaluate.behavior:
        return found | {"not_asked": "evaluate.behavior is false"}
    try:
        score, knows, vectors = _load_model(scored, config)
        results = behavior.check_behavior(score, texts=_some_texts(rows))
        biases = group_bias.measure_group_bias(score, knows=knows)
    except UserError as error:
        say("evaluate", f"the model is not asked how it behaves: {error}")
        return found | {"not_asked": str(error)}
    if not config.evaluate.num_examples:
        results = [dataclasses.replace(result, failures=()) for result in results]
    found["behavior"] = [dataclasses.asdict(result) for result in results]
    found["group_bias"] = [dataclasses.asdict(bias) for bias in biases]
    found["word_bias"] = _measure_words(vectors)
    return found


def _load_model(
    scored: Manifest, config: Config
) -> tuple[behavior.Score, Callable[[str], bool], WordVectors]:
    """Make what scores texts with the model of the predictions, and what tells the words it knows.

    The third are the vectors of these words, as training left them.

    Raises:
        UserError: It is gone, or another is in its place.
        JobError: MLflow cannot be reached.
    """
    model, tracking = scored["inputs"]["model"], config.tracking.uri
    if (
        model_sources.describe(model["uri"], tracking=tracking)["fingerprint"]
        != (model["fingerprint"])
    ):
        raise UserError(f"{model['uri']} has another model now")
    package = model_sources.load(model["uri"], tracking=tracking)

    def score(texts: Sequence[str]) -> np.ndarray:
        with _one_thread():
            probability = package.score(pa.array(texts, pa.string())).probability
        if not np.isfinite(probability).all():
            raise UserError("for some made-up text it gives no number")
        return probability

    def knows(words: str) -> bool:
        return not package.score(pa.array([words], pa.string())).num_unknown.any()

    return score, knows, _take_vectors(package)


def _take_vectors(package: Any) -> WordVectors:
    """Take the vectors of a package's words, and not those of padding and unknown ones."""
    first = package.vocabulary.num_special
    weights = package.network.embedding.weight.detach().numpy()
    return WordVectors(package.vocabulary.words[first:], weights[first:])


def _measure_words(vectors: WordVectors) -> dict[str, Any]:
    """Measure word bias; where too few words are known for a direction, go without, and say so."""
    try:
        return dataclasses.asdict(word_bias.measure_word_bias(vectors)) | {"no_direction": ""}
    except UserError as error:
        found = word_bias.measure_word_bias(vectors, pairs=())
        return dataclasses.asdict(found) | {"no_direction": str(error)}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Answer on one core: of so few texts, a second thread makes more waits than work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _some_texts(rows: pa.Table) -> list[str]:
    """Choose texts from all over the corpus."""
    if "text" not in rows.column_names:
        return []
    rows = rows.filter(pc.less_equal(pc.utf8_length(rows["text"]), _LONGEST_CHANGED))
    order = np.argsort(rows["row_id"].to_numpy(), kind="stable")
    chosen = np.linspace(0, len(order) - 1, min(_NUM_CHANGED, len(order))).astype(int)
    return rows["text"].take(pa.array(order[chosen])).to_pylist()
