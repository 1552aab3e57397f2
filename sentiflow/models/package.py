"""Weights + vocabulary + tokenizer + settings -> one directory that can score text.

A package holds weights, words and settings as safetensors, Parquet and JSON. Loading it executes
and unpickles nothing, and a package that does not match its manifest is refused. On a CPU it scores
in numpy; this module imports torch only for a GPU.
"""

import concurrent.futures
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.manifest_types import Input, Manifest, RefitRecord
from sentiflow.errors import JobError
from sentiflow.models import (
    average_files,
    golden_texts,
    package_files,
    package_weights,
    package_writer,
    units,
)
from sentiflow.models.array_networks import ArrayNetwork
from sentiflow.models.cpu import count_cores
from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.golden_texts import GoldenTexts
from sentiflow.models.linear import LinearModel
from sentiflow.models.package_files import PackageContent
from sentiflow.models.package_settings import PackageSettings
from sentiflow.models.profile import Profile
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import find_after_blanks, tokenize
from sentiflow.models.tokens import Tokens
from sentiflow.models.vocabulary import Encoded, Vocabulary
from sentiflow.storage.uris import join

if TYPE_CHECKING:
    from sentiflow.models.networks import Network

PIECE = 1 << 15
"""Texts scored at a time by one thread."""
_MAX_THREADS = 8
"""Maximum number of threads that score on a CPU."""
_THREADS_ON_GPU = 2
"""Number of threads that score on a GPU: while one waits for the GPU, the other tokenizes."""
_SHOWN_CHARACTERS = 60
"""Maximum length of the part of a text that an error message shows, in characters."""


class ReadTexts(NamedTuple):
    """N texts as the two models of a package read them."""

    encoded: Encoded
    """The ids of their units, for the network."""
    tokens: Tokens
    """Their tokens, for the linear model."""
    lengths: np.ndarray
    """Number of units of each text, known or not, before it is cut."""


@dataclass(frozen=True)
class ModelPackage:
    """A trained model with the tokenizer and vocabulary that it needs to score text.

    Example:
        >>> package = ModelPackage.load("runs/quickstart/trained/model")  # doctest: +SKIP
        >>> package.score(pa.array(["I love this"])).probabilities  # doctest: +SKIP
        array([[0.03, 0.97]], dtype=float32)
    """

    network: "ArrayNetwork | Network"
    """In numpy as loaded; in torch on a GPU and after a training."""
    vocabulary: Vocabulary
    settings: PackageSettings
    linear: LinearModel | None = None
    """The linear model beside the network; its weights already have its share as a factor."""
    others: "tuple[ModelPackage, ...]" = ()
    """Further packages with the same classes in any order; probabilities are the mean over all
    packages. The order of the classes and the word vectors of a report are from this package."""
    golden: GoldenTexts | None = None
    """Texts with the answers of this package, without those of ``others``, when it was saved. None:
    it was not saved, or by an earlier version."""

    @classmethod
    def load(cls, uri: str, *, setting: str = "the model") -> "ModelPackage":
        """Read a package, or an average of several, on the CPU, ready to score.

        Args:
            uri: The directory.
            setting: The setting that names ``uri``, for error messages.

        Raises:
            UserError: The directory is no finished package, its files were changed or do not fit
                together, it needs a newer sentiflow, or it answers its golden texts differently
                than when it was saved.
        """
        packages = []
        for package in average_files.list_packages(uri, setting=setting):
            settings, words, weights, golden = package_files.read(package, setting=setting)
            network, linear = package_weights.build(
                join(package, package_files.WEIGHTS), weights, settings
            )
            loaded = cls(network, words, settings, linear, golden=golden)
            if golden:
                golden_texts.check(golden, name=package, score=loaded._score_alone)
            packages.append(loaded)
        return replace(packages[0], others=tuple(packages[1:]))

    def save(
        self,
        uri: str,
        *,
        lineage: dict[str, Input],
        metrics: Mapping[str, float] | None = None,
        reference: Profile | None = None,
        calibration: Mapping[str, Any] | None = None,
        refit: RefitRecord | None = None,
    ) -> Manifest:
        """Save the package as a directory; return its manifest.

        An average of several packages is saved by :func:`models.average_files.save`.

        Args:
            uri: The directory. It is in the output of an unfinished stage, so nobody reads it yet.
            lineage: Inputs of the model, for the manifest.
            metrics: Metrics of the chosen epoch, such as ``validation/accuracy``.
            reference: Profile of validation rows, from which drift is measured.
            calibration: Temperature, bias and their effect, and how the threshold of unsure
                predictions was chosen.
            refit: The run that the training repeated, if it was a refit.
        """
        assert not self.others, "average_files.save writes an average"
        assert self.settings.has_linear == (self.linear is not None), (
            "only a linear model has a share"
        )
        content = PackageContent(
            settings=self.settings,
            vocabulary=self.vocabulary,
            weights=package_weights.to_bytes(self.arrays, self.linear),
            golden=self._make_golden(),
        )
        optional: dict[str, Any] = {}
        if refit:
            optional["refit"] = refit
        return package_writer.write(
            uri,
            content,
            lineage=lineage,
            counts={"parameters": package_weights.count(self.arrays, self.linear)},
            metrics=dict(metrics or {}),
            reference=asdict(reference) if reference else None,
            calibration=dict(calibration) if calibration else None,
            **optional,
        )

    def _make_golden(self) -> GoldenTexts:
        """Answer the golden texts on the CPU, as each loader does."""
        special = self.vocabulary.num_special
        return golden_texts.make(
            self.vocabulary.words[special:].to_pylist(),
            joiner="" if self.settings.unit == "characters" else " ",
            classes=self.settings.classes,
            score=self.to("cpu")._score_alone,
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        return not isinstance(self.network, ArrayNetwork) and self.network.on_gpu

    def to(self, device: str) -> "ModelPackage":
        """Move the network to a device: to ``cpu`` as arrays of numpy, else in torch.

        A network of an earlier version stays on the CPU. The golden texts are answered without
        bfloat16.

        Raises:
            UserError: On this device it answers the golden texts differently.
        """
        others = tuple(each.to(device) for each in self.others)
        if device == "cpu":
            return replace(self, network=self._to_numpy(), others=others)
        if self.settings.earlier_layers:
            return replace(self, others=others)
        from sentiflow.models import networks

        network = self.network
        if isinstance(network, ArrayNetwork):
            network = networks.from_arrays(network.settings, network.arrays)
        moved = replace(self, network=network.to(device).eval(), others=others)
        if moved.golden:
            golden_texts.check(
                moved.golden,
                name=f"the model on {device}",
                score=moved._score_alone,
                on_gpu=True,
            )
        return moved

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The weights of the network, by their names in a package."""
        if isinstance(self.network, ArrayNetwork):
            return self.network.arrays
        return self.network.to_arrays()

    def _to_numpy(self) -> ArrayNetwork:
        """Return the network in numpy; it shares the memory of a network in torch on the CPU."""
        if isinstance(self.network, ArrayNetwork):
            return self.network
        return package_weights.build_network(self.settings, self.arrays)

    def _score_alone(self, text: pa.Array) -> np.ndarray:
        """Compute the probability of each class, ``(N, C)``, without the other packages.

        A probability that is not a number raises no error here.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            by_class, _ = self._predict(self.read(text), bf16=False)
        return by_class

    def score(
        self,
        text: pa.Array,
        *,
        row_ids: Sequence[int] | np.ndarray = (),
        bf16: bool = False,
    ) -> Scores:
        """Predict the class of each text; the result has the order of the texts.

        For several packages, the ``num_tokens`` of a text is the largest of all packages, and
        ``lengths`` and ``num_unknown`` are the first package's.

        Args:
            text: N strings, without nulls.
            row_ids: N row numbers, for error messages; empty if the rows have no numbers.
            bf16: Multiply in bfloat16: faster on a GPU, a little less exact. It has no effect on a
                CPU, nor on recurrent layers, see :func:`models.recurrence.encode_on_gpu`.

        Raises:
            JobError: A probability is not a number; the message names the first rows.
        """
        own = self.read(text)
        probabilities = []
        num_tokens = []
        for package in (self, *self.others):
            read = own if package._reads_as(self) else package.read(text)
            # The message below tells about numbers that are not finite, not a warning of numpy.
            with np.errstate(invalid="ignore", over="ignore"):
                by_class, num_known = package._predict(read, bf16=bf16)
            order = [package.settings.classes.index(name) for name in self.settings.classes]
            probabilities.append(by_class[:, order])
            num_tokens.append(num_known)
        mean = np.stack(probabilities).mean(axis=0, dtype=np.float64).astype(np.float32)
        _check_finite(mean, text, row_ids)
        threshold = None
        if self.settings.unsure and not self.others:
            threshold = self.settings.unsure.threshold
        return Scores(
            probabilities=mean,
            classes=self.settings.classes,
            num_tokens=np.max(num_tokens, axis=0),
            lengths=own.lengths,
            num_unknown=own.encoded.num_unknown,
            class_values=self.settings.class_values,
            threshold=threshold,
        )

    def score_pieces(self, pieces: Iterator[pa.Array]) -> Scores:
        """Score pieces of texts, each by one thread, on all cores or on the GPU.

        Args:
            pieces: Arrays of strings without nulls, normally of ``PIECE`` texts.
        """
        first = next(pieces, pa.array([], pa.string()))
        second = next(pieces, None)
        if second is None:  # starting threads would take longer than scoring a text
            return self.score(first)
        with self.start_threads() as pool:
            scores = list(pool.map(self.score, chain([first, second], pieces)))
        return Scores.join(scores)

    @contextlib.contextmanager
    def start_threads(self) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
        """Start threads that ask the network, as many as there are cores; on a GPU, two."""
        num_threads = min(count_cores(), _MAX_THREADS)
        if self.on_gpu:
            num_threads = _THREADS_ON_GPU
        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            yield pool

    def read(self, text: pa.Array) -> ReadTexts:
        """Tokenize and encode N texts."""
        tokens = tokenize(
            _replace_nul(text),
            name=self.settings.tokenizer,
            version=self.settings.tokenizer_version,
        )
        own_units = units.split(tokens, self.settings.unit)
        encoded = self.vocabulary.encode(
            own_units, max_length=self.settings.max_length, cut=self.settings.cut
        )
        return ReadTexts(encoded, tokens, np.diff(own_units.offsets))

    def find_after_blanks(self, text: pa.Array) -> np.ndarray:
        """Say before which of the ``tokens`` of :meth:`read` white space stands, bool."""
        return find_after_blanks(
            _replace_nul(text),
            name=self.settings.tokenizer,
            version=self.settings.tokenizer_version,
        )

    def _reads_as(self, other: "ModelPackage") -> bool:
        """Whether two packages give a text the same ids."""
        mine = self.settings
        theirs = other.settings
        return (
            mine.tokenizes_as(theirs)
            and mine.unit == theirs.unit
            and mine.max_length == theirs.max_length
            and mine.cut == theirs.cut
            and self.vocabulary.words.equals(other.vocabulary.words)
        )

    def _predict(self, read: ReadTexts, *, bf16: bool) -> tuple[np.ndarray, np.ndarray]:
        """Compute the probability of each class for N texts.

        Texts without a known word get the class priors, unless the linear model knows some of
        their n-grams.

        Returns:
            The probabilities, ``(N, C)`` float32; and the known units of each text, at least 1 if
            the linear model knows an n-gram.
        """
        rows = EncodedRows.from_lists(read.encoded.token_ids)
        weight = self.settings.linear_weight
        priors = np.array(self.settings.priors, np.float32)
        logits = np.zeros((len(rows), len(priors)), np.float32)
        if self.settings.has_network:
            logits = self.network_logits(rows, bf16=bf16)
        is_known = rows.lengths > 0
        if self.linear is not None:
            linear_logits, has_ngram = self.linear.answer(read.tokens)
            logits = np.float32(1 - weight) * logits + linear_logits
            is_known = is_known | has_ngram
        by_class = _softmax(logits / np.float32(self.settings.temperature))
        answered = np.where(is_known[:, None], by_class, priors)
        return answered, np.maximum(read.encoded.num_known, is_known)

    def component_logits(self, text: pa.Array, models: Iterable[LinearModel]) -> list[np.ndarray]:
        """Compute the logits ``(N, C)`` of N texts by the network, then by each linear model."""
        read = self.read(text)
        rows = EncodedRows.from_lists(read.encoded.token_ids)
        of_network = self.network_logits(rows)
        return [of_network, *(model.logits(read.tokens) for model in models)]

    def network_logits(self, rows: EncodedRows, *, bf16: bool = False) -> np.ndarray:
        """Compute the network's logits for encoded texts, ``(N, C)`` float32.

        A text without a known word gets the logarithms of the class priors.

        Args:
            rows: N texts.
            bf16: See :meth:`score`.
        """
        if isinstance(self.network, ArrayNetwork) or not self.network.on_gpu:
            logits = self._to_numpy().logits(rows)
        else:
            logits = self.network.logits(rows, bf16=bf16)
        logits[rows.lengths == 0] = self.log_priors
        return logits

    @property
    def log_priors(self) -> np.ndarray:
        """The logarithms of the class priors, C float32: finite, also of a class without a row."""
        smallest = np.finfo(np.float32).tiny
        return np.log(np.maximum(np.array(self.settings.priors, np.float32), smallest))


def _replace_nul(text: pa.Array) -> pa.Array:
    """Replace the character NUL, as :mod:`data.row_checks` does."""
    return pc.replace_substring(text, "\0", "\ufffd")


def _check_finite(
    probabilities: np.ndarray, text: pa.Array, row_ids: Sequence[int] | np.ndarray
) -> None:
    """Check that all probabilities are finite.

    Raises:
        JobError: A probability is not finite; the message names the first text that has one, and
            the ``row_ids`` of the first three such texts.
    """
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if not len(wrong):
        return
    rows = ""
    if len(row_ids):
        numbers = ", ".join(f"row {row_ids[row]:,}" for row in wrong[:3])
        rows = f" ({numbers})"
    shown = text[wrong[0]].as_py()[:_SHOWN_CHARACTERS]
    raise JobError(
        f"the model gives no finite probability for {shown!r}{rows}; such texts: {len(wrong):,}"
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the probability of each class."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)
