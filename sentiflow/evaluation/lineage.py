"""Manifest of predictions -> the data and training behind it, and the rows that it trained on."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.train_sections import ModelSettings
from sentiflow.data import csv_format, manifest
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.manifest_types import Input, Manifest, ModelInput, Settings
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem, parquet
from sentiflow.storage.uris import join
from sentiflow.tracking import refits
from sentiflow.tracking.model_sources import TEACHER

_MODEL: TypeAdapter[ModelSettings] = TypeAdapter(ModelSettings)
TWEETS = tuple(f"tweets/split={split}/" for split in SPLITS)


def classes_of_model(scored: Manifest) -> tuple[str, ...]:
    """Name the classes of the model that made predictions, in their order."""
    return tuple(scored["inputs"]["model"]["settings"]["classes"])


def models_of(scored: Manifest) -> dict[str, ModelInput]:
    """List the models that have made predictions by version, that of the newest files first."""
    newest = dict.fromkeys(each["model_version"] for each in reversed(scored.get("scorings", [])))
    models = {name: scored["models"][name] for name in newest if name in scored["models"]}
    return models or {"": scored["inputs"]["model"]}


def of_version(scored: Manifest, version: str) -> Manifest:
    """Describe the predictions of one model as if there were no others; files and rows stay."""
    model = models_of(scored)[version]
    scorings = [s for s in scored.get("scorings", ()) if s["model_version"] == version]
    return {
        **scored,
        "inputs": {**scored["inputs"], "model": model},
        "models": {version: model},
        "scorings": scorings,
    }


def is_one_of_several(scored: Manifest) -> bool:
    """Say whether a manifest is that of :func:`of_version`, and other models have scored rows."""
    return 0 < sum(s["rows"] for s in scored.get("scorings", ())) < scored["counts"]["accepted"]


def left_out_of(model: Mapping[str, Any]) -> set[str]:
    """Name the classes that the settings of a model's training leave out, or of any averaged."""
    settings = model["settings"]
    return {
        name for each in settings.get("members", [settings]) for name in each.get("left_out", ())
    }


def describe_model(settings: Settings) -> str:
    """Describe a model in a line, by the settings of its package, or of each of an average."""
    members = settings.get("members", [settings])
    described = dict.fromkeys(
        f"{_MODEL.validate_python(each['model']).summary}"
        f"{', beside a linear model' if each.get('linear_weight') else ''}; "
        f"tokenizer {each['tokenizer']}, {each['vocabulary_size']:,} words"
        for each in members
    )
    average = f"average of {len(members)} models: " if members[1:] else ""
    return average + " and ".join(described)


def corpus_of(scored: Manifest) -> Manifest | None:
    """Find the manifest of the prepared data; None if files were scored, or they are gone."""
    return manifest.read_input(scored["inputs"], "corpus")


def training_of(model: Mapping[str, Any]) -> Manifest | None:
    """Find the manifest of the training that made a model; None if it is gone or was redone.

    For an average of several models that is the training of the first.

    Args:
        model: ``fingerprint`` of its package, and its ``training``.
    """
    first = members_of(model)[0]
    training = manifest.read_input(first, "training")
    is_same = training and training.get("model_fingerprint") == first["fingerprint"]
    return training if is_same else None


def is_of_training(scored: Manifest, training: Manifest | None) -> bool:
    """Say whether a scored corpus is the prepared data of a training."""
    corpus = scored["inputs"]["corpus"]["fingerprint"]
    return training is not None and training["inputs"]["prepared"]["fingerprint"] == corpus


def members_of(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """List the models whose probabilities a model averages: itself, if it is no average."""
    return model.get("members") or [model]


def _trainings_of(model: Mapping[str, Any]) -> Iterator[Manifest | None]:
    """Find the trainings of a model or of each of an average, of first models and of teachers.

    None stands for one that is gone or was redone; those before it are unknown, too.

    Args:
        model: ``fingerprint`` of a model package, and its ``training``.
    """
    for member in members_of(model):
        training = training_of(member)
        yield training
        for name, named in training["inputs"].items() if training else ():
            is_teacher = name.startswith(TEACHER) and not {"files", "version"} & named.keys()
            if name == "init_from" or is_teacher:
                yield from _trainings_of(named)


def folders_of(training: Manifest) -> tuple[str, ...]:
    """List the folders of prepared rows that decide weights, epoch and temperature of a model."""
    return TWEETS if has_seen_test(training) else TWEETS[:2]


def has_seen_test(record: Mapping[str, Any]) -> bool:
    """Say whether a model or its training is that of a refit that has learned the test rows."""
    return "refit" in record and refits.has_seen_test(record["refit"])


def refuse_refit(scored: Manifest, *, name: str) -> None:
    """Make sure that predictions can tell how good a model is.

    Args:
        scored: Manifest of the predictions.
        name: What to call them in a message.

    Raises:
        UserError: The model is a refit, which was trained on the test rows of this corpus.
    """
    model = scored["inputs"]["model"]
    refit = model.get("refit") if has_seen_test(model) else None
    if refit and refit["prepared"]["fingerprint"] == scored["inputs"]["corpus"]["fingerprint"]:
        raise UserError(
            f"{name}: the model is a refit, which was trained on all labelled rows of this corpus; "
            f"{refits.describe_figures(refit)}",
            hint="score another labelled corpus with it",
        )


def find_training_texts(
    models: Sequence[Mapping[str, Any]], *, other_than: str = ""
) -> tuple[np.ndarray, list[bool]]:
    """Hash the texts that models were trained on, or chosen by.

    By text, and not by row: a corpus that has grown, or a copy of a file, has other row numbers.

    Args:
        models: Each as an input of a stage.
        other_than: Fingerprint of prepared data whose texts do not count.

    Returns:
        Hashes of the normalized texts of all models; for each model, whether all of its trainings
        could be read.

    Raises:
        UserError: Prepared rows are damaged.
    """
    hashes: dict[tuple[str, tuple[str, ...]], list[np.ndarray]] = {}
    is_known = [True] * len(models)
    for number, model in enumerate(models):
        for training in _trainings_of(model):
            prepared = manifest.read_input(training["inputs"], "prepared") if training else None
            if not training or not prepared:
                is_known[number] = False
                continue
            uri, folders = training["inputs"]["prepared"]["uri"], folders_of(training)
            if prepared["fingerprint"] != other_than and (uri, folders) not in hashes:
                hashes[uri, folders] = [
                    hash_texts(one_array(table["text"]))
                    for table in _read_learned(training, prepared, "text")
                ]
    every = chain.from_iterable(hashes.values())
    return np.unique(np.concatenate([np.empty(0, np.uint64), *every])), is_known


def input_files_of(scored: Manifest) -> Input | None:
    """Find the input files whose rows a scored corpus numbers; None if they are not known."""
    corpus: Input = scored["inputs"]["corpus"]
    if "files" in corpus:
        return corpus
    prepared = corpus_of(scored)
    return prepared["inputs"]["csv"] if prepared else None


def given_test_files_of(scored: Manifest) -> list[str]:
    """Identify the files of given test rows of a scored corpus, in their order, by content."""
    prepared = corpus_of(scored)
    if not prepared:
        return []
    given = prepared["settings"].get("fixed_files", [])
    files = zip(prepared["inputs"]["csv"]["files"], given, strict=False)
    return [manifest.identify_file(item) for item, split in files if split == SPLITS[2]]


def name_corpus(scored: Manifest) -> str:
    """Name the input files of a scored corpus, or its place where they are not known."""
    files = input_files_of(scored)
    uris = [item["uri"] for item in files["files"]] if files else []
    return name_files(uris or [scored["inputs"]["corpus"]["uri"]])


def name_files(uris: Sequence[str]) -> str:
    """Name the first files of some, without their directories, and count the others."""
    names = [uri.rpartition("/")[2] for uri in uris]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")


def format_of(scored: Manifest) -> FormatSettings:
    """Return the format of the input files of a scored corpus."""
    settings = (corpus_of(scored) or scored)["settings"].get("format") or {}
    return FormatSettings.model_validate(settings)


def label_values(scored: Manifest) -> dict[str, int]:
    """List the written values of labels, with their positions among the classes of a corpus."""
    form, names = format_of(scored), manifest.find_classes(scored)
    classes = form.classes or ()
    return {
        value: names.index(classes[code])
        for value, code in csv_format.meanings(form)
        if code is not None and classes[code] in names
    }


def find_training_rows(
    scored: Manifest, *, name: str, by_splits: bool = True
) -> tuple[np.ndarray, bool]:
    """Find the rows of a scored corpus that a model was trained on, or chosen by.

    Args:
        scored: Manifest of the scored directory.
        name: What to call the model in a message.
        by_splits: Include rows that the predictions' column ``split`` marks, too: those of the
            model's own training, if the scored corpus is its prepared data.

    Returns:
        Row numbers: rows are identified by file and number, not by text, so rows of other files do
        not count. And whether every training that led to the model could be read.

    Raises:
        UserError: The model was trained on some of the corpus's files, where rows have other
            numbers; or on all its labelled rows, as it is a refit; or prepared rows are damaged.
    """
    refuse_refit(scored, name=name)
    row_ids, is_known = [np.empty(0, np.int64)], True
    for training in chain.from_iterable(map(_trainings_of, models_of(scored).values())):
        is_split = training and is_of_training(scored, training) and not has_seen_test(training)
        rows = [] if is_split and not by_splits else _find_in(training, scored, name)
        row_ids, is_known = [*row_ids, *(rows or ())], is_known and rows is not None
    return np.unique(np.concatenate(row_ids)), is_known


def _find_in(training: Manifest | None, scored: Manifest, name: str) -> list[np.ndarray] | None:
    """Find the rows of one training in the scored corpus; None if they are unknown."""
    if not training:
        return None
    named = training["inputs"]["prepared"]
    prepared = manifest.read_input(training["inputs"], "prepared")
    corpus = scored["inputs"]["corpus"]
    if named["fingerprint"] == corpus["fingerprint"]:
        if prepared:
            return _read_row_ids(training, prepared)
        return None if has_seen_test(training) else []  # predictions know the splits
    files = input_files_of(scored)
    if files is None or not prepared:
        return None
    learned, contents = (
        [manifest.identify_file(item) for item in each["files"]]
        for each in (prepared["inputs"]["csv"], files)
    )
    if contents[: len(learned)] == learned == [*dict.fromkeys(learned)]:
        same_numbers = format_of(scored).has_header == format_of(prepared).has_header
        return _read_row_ids(training, prepared) if same_numbers else None
    trained_on = manifest.identify_learned_files(prepared)
    inside = tuple(join(named["uri"], path) for path in folders_of(training))
    own = [files["files"][s["first_file"] :][: s["num_files"]] for s in scored.get("scorings", ())]
    for item in [*chain.from_iterable(own)] or files["files"]:
        if manifest.identify_file(item) in trained_on or item["uri"].startswith(inside):
            raise UserError(
                f"{name} was trained on rows of {item['uri']}, and has scored them with other "
                "row numbers",
                hint="score its prepared data instead: it was not trained on their test rows",
            )
    return []


def _read_row_ids(training: Manifest, prepared: Manifest) -> list[np.ndarray]:
    return [t["row_id"].to_numpy() for t in _read_learned(training, prepared, "row_id")]


def _read_learned(training: Manifest, prepared: Manifest, column: str) -> Iterator[pa.Table]:
    """Read a column of the rows that a training has learned: of all if teachers answered them."""
    uri, folders = training["inputs"]["prepared"]["uri"], folders_of(training)
    is_taught = any(name.startswith(TEACHER) for name in training["inputs"])
    for table in read_tables(uri, prepared, folders, [column, "label"]):
        yield table if is_taught else table.filter(table["label"].is_valid())


def read_prepared(
    scored: Manifest,
    prepared: Manifest,
    row_ids: np.ndarray,
    columns: Sequence[str],
    splits: Sequence[str] = SPLITS,
) -> pa.Table:
    """Read columns of some rows of the prepared data behind predictions, in this order."""
    uri, folders = scored["inputs"]["corpus"]["uri"], tuple(map("tweets/split={}/".format, splits))
    tables = read_tables(uri, prepared, folders, ["row_id", *columns])
    rows = pa.concat_tables(t.filter(np.isin(t["row_id"].to_numpy(), row_ids)) for t in tables)
    return rows.take(pc.index_in(pa.array(row_ids), value_set=rows["row_id"].combine_chunks()))


def read_tables(
    uri: str, record: Manifest, folders: tuple[str, ...], columns: list[str]
) -> Iterator[pa.Table]:
    """Read columns of the Parquet files in some folders of a finished directory, part by part.

    Raises:
        UserError: A file is gone or damaged.
    """
    sizes = filesystem.sizes(uri)
    for item in record["files"]:
        if item["path"].startswith(folders):
            file = join(uri, item["path"])
            hint = f"sentiflow {record['stage']} CONFIG --overwrite makes it again"
            with errors.as_fault_of(file, f"{file} is gone or damaged", hint=hint):
                if sizes.get(item["path"]) != item["bytes"]:
                    raise FileNotFoundError(file)
                yield from parquet.read_batches(file, columns=columns)
