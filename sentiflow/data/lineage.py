"""Manifest of predictions -> their models and trainings, their corpus and its prepared data.

An input that cannot be read counts as gone (:mod:`followed_inputs`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.text_units import find_unit
from sentiflow.config.train_sections import ModelSettings
from sentiflow.data import csv_format, followed_inputs, manifest, prepared_data, result_columns
from sentiflow.data.manifest_types import FileEntry, Input, Manifest, ModelInput, Settings
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import is_local, join

_MODEL: TypeAdapter[ModelSettings] = TypeAdapter(ModelSettings)
_DAMAGED_HINT = "it is damaged, or of another version: run its stages again"
"""Hint for a manifest that lacks a key, or has a wrong value."""
_MAX_NAMED = 3
"""Maximum number of input files that are named; the others are counted."""


# Models


def models_of(scored: Manifest) -> dict[str, ModelInput]:
    """List the models that made the predictions, by version; the last used model comes first.

    If the manifest does not list the models of its scorings, ``inputs.model`` is the only one, and
    its version is empty.
    """
    newest_first = reversed(scored.get("scorings", []))
    versions = dict.fromkeys(scoring["model_version"] for scoring in newest_first)
    models = {name: scored["models"][name] for name in versions if name in scored["models"]}
    return models or {"": scored["inputs"]["model"]}


def of_version(scored: Manifest, version: str) -> Manifest:
    """Make a manifest that names only one of the models; its files and counts are unchanged."""
    model = models_of(scored)[version]
    scorings = []
    for scoring in scored.get("scorings", ()):
        if scoring["model_version"] == version:
            scorings.append(scoring)
    return {
        **scored,
        "inputs": {**scored["inputs"], "model": model},
        "models": {version: model},
        "scorings": scorings,
    }


def is_one_of_several(scored: Manifest) -> bool:
    """Say whether other models, too, scored rows of a manifest that :func:`of_version` made.

    It has only the scorings of its own model: their rows are then fewer than all scored rows.
    """
    num_rows = sum(scoring["rows"] for scoring in scored.get("scorings", ()))
    return 0 < num_rows < scored["counts"]["accepted"]


def members_of(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """List the models that a model averages; only the model itself if it is not an average.

    Args:
        model: A :class:`ModelInput`; an average has ``members``.
    """
    return model.get("members") or [model]


def classes_of_model(scored: Manifest) -> tuple[str, ...]:
    """Name the classes of the model that made predictions, in their order."""
    return tuple(scored["inputs"]["model"]["settings"]["classes"])


def class_values_of(scored: Manifest) -> dict[str, float] | None:
    """Return the known numbers of the ordered classes of predictions; None without an order."""
    values = manifest.find_class_values(scored)
    if values is None:
        return None
    by_class = zip(manifest.find_classes(scored), values, strict=True)
    return {name: value for name, value in by_class if value is not None}


def left_out_of(model: Mapping[str, Any]) -> set[str]:
    """Name the classes that the training of a model left out; for an average, of any of them."""
    names: set[str] = set()
    for settings in _settings_of_members(model["settings"]):
        names.update(settings.get("left_out", ()))
    return names


def describe_model(settings: Settings) -> str:
    """Describe a model in one line, given the settings of its package."""
    members = _settings_of_members(settings)
    different = dict.fromkeys(_describe_member(member) for member in members)
    described = " and ".join(different)
    if len(members) > 1:
        return f"average of {len(members)} models: {described}"
    return described


def _settings_of_members(settings: Settings) -> Sequence[Settings]:
    """List the settings of each averaged model; only the given settings if it is not an average.

    Args:
        settings: Settings of a package; of an average, they have the settings of its ``members``.
    """
    members: Sequence[Settings] = settings.get("members") or [settings]
    return members


def _describe_member(settings: Settings) -> str:
    """Describe a model that is not an average, in one line.

    Raises:
        UserError: The settings lack a key, or have a wrong value.
    """
    try:
        network = _MODEL.validate_python(settings["model"]).summary
        if settings.get("earlier_layers"):
            network += ", with layers of an earlier version"
        if settings.get("linear_weight"):
            network += ", beside a linear model"
        num_units = f"{settings['vocabulary_size']:,} {find_unit(settings)}"
        return f"{network}; tokenizer {settings['tokenizer']}, {num_units}"
    except (KeyError, ValueError) as error:  # ValueError: also a ValidationError
        raise UserError(
            "a manifest has no valid settings of its model", hint=_DAMAGED_HINT
        ) from error


# Trainings


def training_of(model: Mapping[str, Any]) -> Manifest | None:
    """Find the manifest of the training that made a model; None if it is gone or was redone.

    Gone is also a training that cannot be read.

    For an average of several models, it is the training of the first.

    Args:
        model: ``fingerprint`` of its package, and its ``training``.
    """
    first = members_of(model)[0]
    training = followed_inputs.follow(first, "training")
    if training and training.get("model_fingerprint") == first["fingerprint"]:
        return training
    return None


def is_of_training(scored: Manifest, training: Manifest | None) -> bool:
    """Say whether a scored corpus is the prepared data of a training."""
    if training is None:
        return False
    corpus = scored["inputs"]["corpus"]
    return training["inputs"]["prepared"]["fingerprint"] == corpus["fingerprint"]


# Corpora


@dataclass(frozen=True)
class ScoredCorpus:
    """The corpus that was scored: prepared data, or files."""

    described: Input
    """The corpus as the predictions name it: prepared data by location, or a list of files."""
    prepared: Manifest | None
    """Manifest of the prepared data; None if files were scored, or if the prepared data are gone or
    were replaced."""

    @property
    def input_files(self) -> Input | None:
        """Return the input files to which the row ids refer; None if they are unknown."""
        if "files" in self.described:
            return self.described
        return self.prepared["inputs"]["csv"] if self.prepared else None

    @property
    def given_test_files(self) -> list[str]:
        """Identify the files of given test rows by content, in their order."""
        if not self.prepared:
            return []
        pairs = prepared_data.given_splits(self.prepared)
        return [manifest.identify_file(file) for file, split in pairs if split == "test"]

    @property
    def name(self) -> str:
        """Name the input files, or the location of the prepared data if the files are unknown."""
        files = self.input_files
        uris = [item["uri"] for item in files["files"]] if files else []
        return name_files(uris or [self.described["uri"]])


def corpus_of(scored: Manifest) -> ScoredCorpus:
    """Look up the corpus that was scored."""
    return ScoredCorpus(described=scored["inputs"]["corpus"], prepared=prepared_of(scored))


def prepared_of(scored: Manifest) -> Manifest | None:
    """Read the manifest of the scored prepared data.

    Returns:
        None if files were scored, or if the prepared data are gone or were replaced.
    """
    return followed_inputs.follow(scored["inputs"], "corpus")


def input_files_of(scored: Manifest) -> Input | None:
    """Find the input files to which the row ids of a scored corpus refer; None if unknown."""
    return corpus_of(scored).input_files


def name_files(uris: Sequence[str]) -> str:
    """Name the first few files without their directories, and count the others.

    Example:
        >>> name_files(["data/a.csv", "data/b.csv", "data/c.csv", "data/d.csv", "data/e.csv"])
        'a.csv, b.csv, c.csv and 2 more files'
    """
    names = [uri.rpartition("/")[2] for uri in uris]
    text = ", ".join(names[:_MAX_NAMED])
    if len(names) > _MAX_NAMED:
        text += f" and {len(names) - _MAX_NAMED} more files"
    return text


def format_of(scored: Manifest) -> FormatSettings:
    """Return the format of the input files of a scored corpus.

    If prepared data were scored, it is the format of their files. If these data are gone, it is the
    format in the settings of the scoring.
    """
    described_by = prepared_of(scored) or scored
    try:
        return FormatSettings.model_validate(described_by["settings"].get("format") or {})
    except ValidationError as error:
        raise UserError(
            f"the manifest of {described_by['stage']} has no valid settings.format",
            hint=_DAMAGED_HINT,
        ) from error


def label_values(scored: Manifest) -> dict[str, int]:
    """List the labels as files write them, each with the position of its class in the corpus."""
    form = format_of(scored)
    classes_of_format = form.classes or ()
    classes_of_corpus = manifest.find_classes(scored)
    values = {}
    for value, code in csv_format.written_labels(form):
        if code is None:
            continue
        name = classes_of_format[code]
        if name in classes_of_corpus:
            values[value] = classes_of_corpus.index(name)
    return values


# Rows


def name_folders(splits: Sequence[str] = SPLITS) -> tuple[str, ...]:
    """Name the folders of prepared data with the rows of some splits, for :func:`read_tables`.

    Example:
        >>> name_folders(["train", "test"])
        ('tweets/split=train/', 'tweets/split=test/')
    """
    return tuple(f"tweets/split={split}/" for split in splits)


def read_prepared(
    scored: Manifest,
    prepared: Manifest,
    row_ids: np.ndarray,
    columns: Sequence[str],
    splits: Sequence[str] = SPLITS,
) -> pa.Table:
    """Read columns of some rows of the prepared data behind predictions.

    Args:
        scored: Manifest of the predictions.
        prepared: Manifest of the prepared data.
        row_ids: The rows.
        columns: The columns.
        splits: The splits to which the rows belong.

    Returns:
        ``row_id`` and the columns; row i belongs to ``row_ids[i]``.

    Raises:
        UserError: The prepared data lack a row, or a file is gone or damaged.
    """
    uri = scored["inputs"]["corpus"]["uri"]
    tables = read_tables(uri, prepared, name_folders(splits), ["row_id", *columns])
    found = []
    for table in tables:
        is_wanted = np.isin(table["row_id"].to_numpy(), row_ids)
        found.append(table.filter(is_wanted))
    rows = pa.concat_tables(found)
    place = pc.index_in(pa.array(row_ids), value_set=rows["row_id"].combine_chunks())
    if place.null_count:
        raise UserError(
            f"{uri} lacks {place.null_count:,} of {len(row_ids):,} rows of the predictions",
            hint="sentiflow score CONFIG --overwrite scores it again",
        )
    return rows.take(place)


def read_tables(
    uri: str, record: Manifest, folders: tuple[str, ...], columns: list[str]
) -> Iterator[pa.Table]:
    """Read columns of the Parquet files in some folders of a finished directory, part by part.

    Args:
        uri: The directory.
        record: Its manifest.
        folders: Paths with a slash at the end.
        columns: The columns.

    Raises:
        UserError: A file is gone or damaged.
        ReplacedError: A job has replaced the directory meanwhile.
    """
    with manifest.naming_replacement(uri, record):
        yield from _read_tables(uri, record, folders, columns)


def _read_tables(
    uri: str, record: Manifest, folders: tuple[str, ...], columns: list[str]
) -> Iterator[pa.Table]:
    """Read as :func:`read_tables` does; a replaced file is an error like any other."""
    sizes = filesystem.sizes(uri)
    chosen = [item for item in record["files"] if item["path"].startswith(folders)]
    if is_local(uri):
        for item in chosen:
            yield from read_file(uri, record, item, columns, sizes)
        return
    hint = f"sentiflow {record['stage']} CONFIG --overwrite makes it again"
    files = [join(uri, item["path"]) for item in chosen]
    for file, item in zip(files, chosen, strict=True):
        if sizes.get(item["path"]) != item["bytes"]:
            raise UserError(f"{file} is gone or damaged", hint=hint)
    tables = parquet.read_ahead(files, columns=columns)
    for file, wait in zip(files, tables, strict=True):
        with errors.as_fault_of(file, f"{file} is gone or damaged", hint=hint):
            table = wait()
        result_columns.check(table, record, file)
        yield table


def read_file(
    uri: str, record: Manifest, item: FileEntry, columns: list[str], sizes: Mapping[str, int]
) -> Iterator[pa.Table]:
    """Read columns of one Parquet file of a finished directory, batch by batch.

    Args:
        uri: The directory.
        record: Its manifest.
        item: The file, as the manifest lists it.
        columns: The columns.
        sizes: The sizes of all files that are there, by path.

    Raises:
        UserError: The file is gone or damaged.
    """
    file = join(uri, item["path"])
    problem = f"{file} is gone or damaged"
    hint = f"sentiflow {record['stage']} CONFIG --overwrite makes it again"
    if sizes.get(item["path"]) != item["bytes"]:
        raise UserError(problem, hint=hint)
    with errors.as_fault_of(file, problem, hint=hint):
        for table in parquet.read_batches(file, columns=columns):
            result_columns.check(table, record, file)
            yield table
