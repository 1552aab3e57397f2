"""Directory of a model package -> its settings, words and weights, checked against its manifest.

This module does not import torch, so reading only words and vectors stays fast.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from sentiflow.data import manifest, other_versions, schema
from sentiflow.data.manifest_types import FileEntry, Manifest, ModelInput
from sentiflow.errors import UserError, printable
from sentiflow.models import golden_texts, package_settings, vocabulary
from sentiflow.models.earlier_formats import convert_settings
from sentiflow.models.golden_texts import GOLDEN, GoldenTexts
from sentiflow.models.package_settings import PackageSettings
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

MEMBERS = "members"
"""Key of the members of an average in the settings and inputs of its manifest, and the folder of
their packages."""
COPY_AGAIN = "the model package is damaged; copy it again"
"""Hint of errors about files that do not fit together."""
_OF_FINDER = ".DS_Store"
"""File that the Finder of macOS writes into each folder that it shows."""
_MAX_HEADER = 1 << 16
"""Maximum size of the header of the weights, in bytes: it has about 100 for each tensor."""


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
    settings = package_settings.read(join(uri, SETTINGS), content[SETTINGS], made_by=made_by)
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
    claimed = package_settings.read(
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


def is_average(model: ModelInput) -> bool:
    """Whether a model is the average of several models."""
    return "members" in model


def reject_average(model: ModelInput, *, setting: str) -> None:
    """Reject a model that is an average.

    Raises:
        UserError: The model is the average of several models.
    """
    if not is_average(model):
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
    of_members = settings.pop(MEMBERS, [])
    if not isinstance(of_members, list):
        of_members = [of_members]  # damaged; checked like a member
    made_by = other_versions.compare(record)
    for each in [settings, *of_members]:
        package_settings.read(join(uri, manifest.MANIFEST), json.dumps(each), made_by=made_by)
    settings = convert_settings(settings)
    if of_members:
        settings[MEMBERS] = [convert_settings(each) for each in of_members]
    model: ModelInput = {
        "uri": uri,
        "fingerprint": record["fingerprint"],
        "reference": record.get("reference"),
        "calibration": record.get("calibration"),
        "settings": settings,
        "training": record["inputs"].get("training"),
    }
    members = record["inputs"].get(MEMBERS, {}).get("models")
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
