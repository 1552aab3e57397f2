"""Directory of a model package -> its settings, words and weights, checked against its manifest.

This module does not import torch, so reading only words and vectors stays fast.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from pydantic import Field, ValidationError, model_validator

from sentiflow.config.class_names import check_names
from sentiflow.config.text_units import Cut, Unit
from sentiflow.config.train_sections import ModelSettings, UnsureSettings
from sentiflow.config.types import ADDED, Fraction, Settings
from sentiflow.data import json_faults, manifest, other_versions, schema
from sentiflow.data.manifest_types import FileEntry, Manifest, ModelInput
from sentiflow.errors import UserError, few, printable, shorten
from sentiflow.models import golden_texts, tokenizer, vocabulary
from sentiflow.models.earlier_formats import EarlierLayers, convert_settings
from sentiflow.models.golden_texts import GOLDEN, GoldenTexts
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join

WEIGHTS = "weights.safetensors"
VOCABULARY = "vocabulary.parquet"
SETTINGS = "settings.json"
FILES = (WEIGHTS, VOCABULARY, SETTINGS)
"""Files that decide the answers of a package, in the order in which they are fingerprinted. The
golden texts are one more file: they follow from these, and an earlier version has not written any.
"""

COPY_AGAIN = "the model package is damaged; copy it again"
"""Hint of errors about files that do not fit together."""
_OF_FINDER = ".DS_Store"
"""File that the Finder of macOS writes into each folder that it shows."""
_MAX_HEADER = 1 << 16
"""Maximum size of the header of the weights, in bytes: it has about 100 for each tensor."""
_LARGE = 1 << 31
"""Maximum of the sizes in the settings of a package."""
_MAY_DIFFER = {"dropout", "output_dropout", "vectors"}
"""Settings of a network in which a model may differ from the one that it starts from."""


class UnsureThreshold(UnsureSettings):
    """The promise of a model about its errors, and the threshold that keeps the promise."""

    threshold: Fraction
    """A prediction is unsure if its confidence is at most this, or the text has no known word.
    1: all predictions are unsure."""


class PackageSettings(Settings):
    """The settings of a package, as ``settings.json`` has them."""

    model: ModelSettings
    """The ``train.model`` section."""
    vocabulary_size: int = Field(ge=1, le=_LARGE)
    """Number of word vectors, including padding and, if the vocabulary has it, the unknown word."""
    embedding_dim: int = Field(ge=1, le=_LARGE)
    """Number of features of a word vector."""
    tokenizer: str
    """Name of the tokenizer, one of ``TOKENIZERS``."""
    tokenizer_version: int
    """Version of the tokenizer that the model was trained with."""
    unit: Annotated[Unit, ADDED] = "words"
    """What the network reads, see :mod:`models.units`."""
    max_length: int = Field(ge=1, le=_LARGE)
    """Maximum number of units of a text; the network does not see the others."""
    cut: Annotated[Cut, ADDED] = "end"
    """Which units of a longer text are left out, see :func:`models.tokens.find_kept`."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    class_values: Annotated[tuple[float, ...] | None, ADDED] = None
    """The numbers of ordered classes, such as 1 to 5 stars, in the order of the logits. None: the
    classes have no order."""
    priors: tuple[Fraction, ...]
    """Share of each class in training: the prediction for texts without a known word."""
    left_out: tuple[str, ...] = ()
    """Classes of the data that the training left out, by ``train.classes`` or by
    ``kind: sentiment140``. Evaluations skip rows with these labels; rows with other unknown labels
    count as mistakes."""
    linear_weight: Fraction = 0.0
    """Share of the linear model in the logits; the network has the rest. 0: no linear model."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Logits are divided by it (Guo et al. 2017); 1 leaves them as trained."""
    unsure: UnsureThreshold | None = None
    """None: no prediction is unsure."""
    earlier_layers: Annotated[EarlierLayers | None, ADDED] = None
    """Layers that only packages of earlier versions have."""

    def tokenizes_as(self, other: "PackageSettings") -> bool:
        """Whether two packages have the same tokenizer, so split every text into equal tokens."""
        mine = (self.tokenizer, self.tokenizer_version)
        return mine == (other.tokenizer, other.tokenizer_version)

    @model_validator(mode="before")
    @classmethod
    def _convert_earlier(cls, value: Any) -> Any:
        return convert_settings(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_classes(self) -> "PackageSettings":
        check_names(self.classes)
        if len(self.priors) != len(self.classes):
            raise ValueError("priors: must have a number for each class")
        if self.class_values is not None and len(self.class_values) != len(self.classes):
            raise ValueError("class_values: must have a number for each class")
        return self


class PackageContent(NamedTuple):
    """The content of a package, checked against its manifest."""

    settings: PackageSettings
    vocabulary: Vocabulary
    weights: bytes
    """Content of a safetensors file, whose tensors are not checked yet."""
    golden: GoldenTexts | None
    """None: an earlier version made the package."""


def read(uri: str, *, setting: str = "the model") -> PackageContent:
    """Read each file of a package once, and check that it is the file that was saved.

    Args:
        uri: The directory.
        setting: The setting that names ``uri``, for error messages.

    Raises:
        UserError: The directory is no finished package, its files were changed or do not fit
            together, or it needs a newer sentiflow.
    """
    record = manifest.require(uri, stage="model", setting=setting)
    reject_average(to_input(uri, record), setting=setting)
    content = _read_files(uri, record)
    made_by = other_versions.compare(record)
    settings = read_settings(join(uri, SETTINGS), content[SETTINGS], made_by=made_by)
    words = _read_vocabulary(
        join(uri, VOCABULARY), content[VOCABULARY], max_words=settings.vocabulary_size
    )
    _check_header(join(uri, WEIGHTS), content[WEIGHTS])
    if len(words) != settings.vocabulary_size:
        raise UserError(
            f"{uri} has a vocabulary of {len(words):,} words for a network of "
            f"{settings.vocabulary_size:,}",
            hint=COPY_AGAIN,
        )
    claimed = read_settings(
        join(uri, manifest.MANIFEST), json.dumps(record["settings"]), made_by=made_by
    )
    if settings != claimed:
        raise UserError(f"{uri} has other settings than its manifest says", hint=COPY_AGAIN)
    golden = None
    if GOLDEN in content:
        golden = golden_texts.from_json(
            join(uri, GOLDEN), content[GOLDEN], classes=settings.classes, hint=COPY_AGAIN
        )
    return PackageContent(settings, words, content[WEIGHTS], golden)


def reject_average(model: ModelInput, *, setting: str) -> None:
    """Reject a model that is an average.

    Raises:
        UserError: The model is the average of several models.
    """
    if "members" not in model:
        return
    members = model["members"]
    uris = ", ".join(member["uri"] for member in members)
    raise UserError(
        f"{setting}: {model['uri']} is an average of {len(members)} models",
        hint=f"name one of them: {uris}",
    )


def read_vectors(uri: str, *, setting: str = "the model") -> tuple[pa.Array, np.ndarray]:
    """Read the words of a model and their trained vectors.

    Args:
        uri: The directory of the model package.
        setting: The setting that names ``uri``, for error messages.

    Returns:
        V strings, without the entries for padding and unknown words, and (V, D) float32.

    Raises:
        UserError: As in :func:`read`, or the weights have no such vectors.
    """
    settings, words, content, _ = read(uri, setting=setting)
    path = join(uri, WEIGHTS)
    shape = (settings.vocabulary_size, settings.embedding_dim)
    try:
        vectors = safetensors.numpy.load(content)["embedding.weight"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"{path} holds no word vectors", hint=COPY_AGAIN) from error
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise UserError(
            f"{path} holds no vectors of {settings.vocabulary_size} words", hint=COPY_AGAIN
        )
    if not np.isfinite(vectors).all():
        raise UserError(f"{path} holds vectors that are not finite", hint="train the model again")
    return words.words[words.num_special :], vectors[words.num_special :]


def to_input(uri: str, record: Manifest) -> ModelInput:
    """Describe a model as an input of a stage, given the manifest of its package.

    Its settings are as this version has them, also if an earlier version made the package.

    ``reference``, ``calibration`` and ``training`` are None if the manifest does not have them;
    ``members`` and ``refit`` are then left out.

    Raises:
        UserError: The settings of the model or of a member of an average are damaged, or need
            another version of sentiflow.
    """
    settings = dict(record["settings"])
    of_members = settings.pop("members", [])
    if not isinstance(of_members, list):
        of_members = [of_members]  # damaged; checked like a member
    made_by = other_versions.compare(record)
    for each in [settings, *of_members]:
        read_settings(join(uri, manifest.MANIFEST), json.dumps(each), made_by=made_by)
    settings = convert_settings(settings)
    if of_members:
        settings["members"] = [convert_settings(each) for each in of_members]
    model: ModelInput = {
        "uri": uri,
        "fingerprint": record["fingerprint"],
        "reference": record.get("reference"),
        "calibration": record.get("calibration"),
        "settings": settings,
        "training": record["inputs"].get("training"),
    }
    members = record["inputs"].get("members", {}).get("models")
    if members:
        model["members"] = members
    if "refit" in record:
        model["refit"] = record["refit"]
    return model


def classes_of(model: ModelInput) -> tuple[str, ...]:
    """Name the classes of a model."""
    assert model["settings"] is not None, "a package has settings"
    return tuple(model["settings"]["classes"])


def class_values_of(model: ModelInput) -> tuple[float, ...] | None:
    """Return the numbers of the classes of a model; None if they have no order."""
    assert model["settings"] is not None, "a package has settings"
    values = model["settings"].get("class_values")
    return None if values is None else tuple(values)


def fingerprint(files: Sequence[FileEntry]) -> str:
    """Compute a model's fingerprint from its files."""
    hashes = {item["path"]: item["sha256"] for item in files}
    return manifest.fingerprint([hashes[name] for name in FILES])


def _read_files(uri: str, record: Manifest) -> dict[str, bytes]:
    """Read each file once, and check its checksum, the list of files and the fingerprint.

    Raises:
        UserError: A file was changed, is missing, or does not belong to the package.
    """
    listed = {item["path"] for item in record["files"]}
    names = list_files(record)
    if listed != set(names):
        raise UserError(
            f"the manifest of {uri} lists {', '.join(sorted(listed))}",
            hint=f"a package has {', '.join(FILES)}",
        )
    present = filesystem.sizes(uri).keys()
    others = sorted(present - listed - {manifest.MANIFEST, _OF_FINDER})
    if others:
        raise UserError(
            f"{join(uri, printable(others[0]))} is not part of a model package",
            hint="move it away",
        )
    contents = filesystem.map_files(lambda name: manifest.read_file(uri, record, name), names)
    content = record["inputs"].get("content", {}).get("fingerprint")
    expected = manifest.identify(
        "model", record["settings"], record["inputs"], format_version=record["format_version"]
    )
    if content != fingerprint(record["files"]) or record["fingerprint"] != expected:
        raise UserError(f"{uri} has the fingerprint of another model", hint=COPY_AGAIN)
    return dict(zip(names, contents, strict=True))


def list_files(record: Manifest, *, folder: str = "") -> list[str]:
    """List the files that a package must have in addition to its manifest.

    Args:
        record: The manifest that lists the files.
        folder: The folder of the package in the directory of the manifest; empty: the directory
            itself.
    """
    names = [join(folder, name) if folder else name for name in FILES]
    golden = join(folder, GOLDEN) if folder else GOLDEN
    is_listed = any(item["path"] == golden for item in record["files"])
    return [*names, golden] if is_listed else names


def read_settings(path: str, content: bytes | str, *, made_by: str = "") -> PackageSettings:
    """Read the settings of a package from JSON.

    Args:
        path: The file of the settings, for error messages.
        content: The JSON.
        made_by: The version that made the package, if it is another one: the text of
            :func:`other_versions.compare`.

    Raises:
        UserError: The settings are damaged, or need another version of sentiflow.
    """
    try:
        settings = PackageSettings.model_validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{path} cannot be read: {json_faults.find_first(error)}",
            hint=_explain(made_by) or "it is damaged, or needs a newer sentiflow",
        ) from error
    if tokenizer.find_rule(settings.tokenizer, settings.tokenizer_version) is None:
        known = tokenizer.list_versions(settings.tokenizer)
        versions = ", ".join(str(version) for version in known) or "none"
        raise UserError(
            f"{path} needs tokenizer {shorten(ascii(settings.tokenizer), 40)} version "
            f"{settings.tokenizer_version}",
            hint=_explain(made_by) or f"{other_versions.THIS} has these versions: {versions}",
        )
    return settings


def _explain(made_by: str) -> str:
    """Say what to do with a package of another version; empty if this version made it."""
    if not made_by:
        return ""
    return f"it was {made_by}; use the version that made it, or train with another output_uri"


def _check_header(path: str, content: bytes) -> None:
    """Check that weights do not list a great many tensors, before these are made.

    Raises:
        UserError: Their header is too long for a model.
    """
    # The first 8 bytes of a safetensors file are the size of its header. What does not fit into the
    # file is refused when the tensors are read.
    size = int.from_bytes(content[:8], "little")
    if _MAX_HEADER < size < len(content):
        raise UserError(f"{path} has a header of {size:,} bytes", hint=COPY_AGAIN)


def _read_vocabulary(path: str, content: bytes, *, max_words: int) -> Vocabulary:
    """Read the words of a package.

    Args:
        path: The file, for messages.
        content: Its content.
        max_words: The number of words that the settings name.

    Raises:
        UserError: The file is damaged, unpacks to too much, or does not begin with padding.
    """
    try:
        # Words stay numbers of distinct words until it is known how long they are. A short file may
        # repeat a long word many times.
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=["word"])
        parquet.check_rows(file, path, stored=len(content), max_rows=max_words)
        # One thread: Python aborts on exit if a thread of Arrow still holds these bytes.
        table = file.read(schema.VOCABULARY.names, use_threads=False)
        parquet.check_texts(table["word"], path, stored=len(content))
        words = vocabulary.from_table(table.cast(schema.VOCABULARY))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a vocabulary", hint=COPY_AGAIN) from error
    if words.words[:1].to_pylist() != [vocabulary.PAD]:
        raise UserError(f"{path} does not begin with {vocabulary.PAD}", hint=COPY_AGAIN)
    return words


def check_first(
    first: ModelInput, ours: ModelSettings, classes: tuple[str, ...], *, unit: Unit | None
) -> list[str]:
    """Check that a training can start from a model.

    Args:
        first: The model.
        ours: The network of the training.
        classes: The classes of the training.
        unit: What its network reads, see :mod:`models.units`. None: it is not known yet.

    Returns:
        A list with one line, about the output layer, if the classes differ and it is therefore
        reinitialized; otherwise an empty list.

    Raises:
        UserError: The networks differ in other settings than ``_MAY_DIFFER``, the model is an
            average, or it reads other units.
    """
    reject_average(first, setting="train.init_from")
    theirs = read_settings(first["uri"], json.dumps(first["settings"]))
    if theirs.earlier_layers:
        raise UserError(
            f"train.init_from: {first['uri']} is of an earlier version "
            f"({theirs.earlier_layers.summary})",
            hint="networks no longer have these layers; the model can be a teacher: "
            "train.distill.teachers",
        )
    if theirs.model.model_dump(exclude=_MAY_DIFFER) != ours.model_dump(exclude=_MAY_DIFFER):
        raise UserError(
            f"train.init_from: {first['uri']} is of another network ({theirs.model.summary})",
            hint=f"train.model is {ours.summary}; only dropout and vectors may differ",
        )
    if unit and theirs.unit != unit:
        raise UserError(
            f"train.init_from: {first['uri']} reads {theirs.unit}",
            hint=f"prepare with unit={theirs.unit}, or leave train.init_from out",
        )
    if theirs.classes != classes:
        named = ", ".join(few(theirs.classes))
        return [f"the first model has other classes ({named}): the output layer is reinitialized"]
    return []
