"""Models and a scored corpus -> the rows and texts that the models have learned.

A model has learned its train rows, and the validation rows by which its best state was chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data import followed_inputs, lineage, manifest, prepared_data
from sentiflow.data.arrays import find_sorted, hash_texts, one_array
from sentiflow.data.manifest_types import InputFile, Manifest
from sentiflow.data.schema import SPLITS, TRAIN, VALIDATION
from sentiflow.errors import UserError
from sentiflow.storage.uris import join
from sentiflow.tracking import refits
from sentiflow.tracking.model_sources import TEACHER


def has_seen_test(record: Mapping[str, Any]) -> bool:
    """Say whether a model or training is a refit that was trained on the test rows of its data.

    Args:
        record: Manifest of a model package or of a training, or a model as an input.
    """
    return "refit" in record and refits.has_seen_test(record["refit"])


def refuse_refit(scored: Manifest, *, name: str) -> None:
    """Refuse predictions of a refit for its own corpus: they do not show how good the model is.

    Args:
        scored: Manifest of the predictions.
        name: What to call the model in a message.

    Raises:
        UserError: The model was trained on the test rows of this corpus.
    """
    model = scored["inputs"]["model"]
    if not has_seen_test(model):
        return
    refit = model["refit"]
    if refit["prepared"]["fingerprint"] == scored["inputs"]["corpus"]["fingerprint"]:
        raise UserError(
            f"{name}: the model is a refit, which was trained on all labelled rows of this corpus; "
            f"{refits.describe_figures(refit)}",
            hint="score another labelled corpus with it",
        )


def name_learned_folders(training: Manifest) -> tuple[str, ...]:
    """Name the folders of prepared rows that a model has learned."""
    splits = SPLITS if has_seen_test(training) else (TRAIN, VALIDATION)
    return lineage.name_folders(splits)


# By text


def find_text_hashes(
    models: Sequence[Mapping[str, Any]], *, other_than: str = ""
) -> tuple[np.ndarray, list[bool]]:
    """Hash the texts that models have learned.

    Rows are found by text: a corpus that has grown, or a copy of a file, has other row numbers.

    Args:
        models: Models, as inputs of a stage.
        other_than: Fingerprint of prepared data whose texts do not count.

    Returns:
        Hashes of the normalized texts of all models, and for each model whether all its trainings
        could be read.

    Raises:
        UserError: Prepared rows are damaged.
    """
    hashes = [np.empty(0, np.uint64)]
    sources_read: set[tuple[str, tuple[str, ...], bool]] = set()
    is_known = [True] * len(models)
    for number, model in enumerate(models):
        for training in _find_trainings(model):
            prepared = _prepared_of(training)
            if not training or not prepared:
                is_known[number] = False
                continue
            uri = training["inputs"]["prepared"]["uri"]
            source = (uri, name_learned_folders(training), _is_taught(training))
            if prepared["fingerprint"] == other_than or source in sources_read:
                continue
            sources_read.add(source)
            for table in _read_learned(training, prepared, "text"):
                hashes.append(hash_texts(one_array(table["text"])))
    return np.unique(np.concatenate(hashes)), is_known


def are_learned(texts: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Say which texts are among the texts that models have learned; both are hashes."""
    is_learned, _ = find_sorted(learned, texts)
    return is_learned


# By row number


def find_row_ids(
    scored: Manifest, *, name: str, by_splits: bool = True, only_labelled: bool = False
) -> tuple[np.ndarray, bool]:
    """Find the rows of a scored corpus that its models have learned.

    Args:
        scored: Manifest of the scored directory.
        name: What to call the model in a message.
        by_splits: Include the rows that the column ``split`` of the predictions marks, too. They
            are marked if the scored corpus is the prepared data of a training. If the prepared
            data are gone, they are left to that column in any case.
        only_labelled: Leave out the rows that a distillation has learned without a label.

    Returns:
        Row numbers, and whether every training that led to the model could be read. Rows are
        identified by file and number, not by text, so rows of other files do not count.

    Raises:
        UserError: The model was trained on files of the corpus, but with other row numbers; or it
            is a refit, which was trained on all labelled rows; or prepared rows are damaged.
    """
    refuse_refit(scored, name=name)
    row_ids = [np.empty(0, np.int64)]
    is_known = True
    for model in lineage.models_of(scored).values():
        for training in _find_trainings(model):
            if not by_splits and _are_marked(scored, training):
                continue
            rows = _find_rows_of(training, scored, name, only_labelled=only_labelled)
            if rows is None:
                is_known = False
            else:
                row_ids += rows
    return np.unique(np.concatenate(row_ids)), is_known


def _are_marked(scored: Manifest, training: Manifest | None) -> bool:
    """Say whether the column ``split`` of the predictions marks the rows of a training."""
    if training is None or has_seen_test(training):
        return False
    return lineage.is_of_training(scored, training)


def _find_rows_of(
    training: Manifest | None, scored: Manifest, name: str, *, only_labelled: bool
) -> list[np.ndarray] | None:
    """Find the rows of one training in the scored corpus; None if they are unknown.

    Raises:
        UserError: The training has read a scored file, but has numbered its rows otherwise.
    """
    if not training:
        return None
    prepared = _prepared_of(training)
    if lineage.is_of_training(scored, training):
        if prepared:
            return _read_row_ids(training, prepared, only_labelled=only_labelled)
        if has_seen_test(training):  # the column split does not mark its test rows
            return None
        return []  # the column split of the predictions marks the rows
    corpus = lineage.input_files_of(scored)
    if corpus is None or not prepared:
        return None
    if _starts_with_prepared(corpus["files"], prepared):
        scored_header = lineage.format_of(scored).has_header
        prepared_header = lineage.format_of(prepared).has_header
        if scored_header != prepared_header:  # the rows may have other numbers
            return None
        return _read_row_ids(training, prepared, only_labelled=only_labelled)
    files = _choose_scored(corpus["files"], scored)
    _refuse_learned(files, training, prepared, name)
    return []


def _starts_with_prepared(files: Sequence[InputFile], prepared: Manifest) -> bool:
    """Say whether a corpus starts with the files of prepared data, so that rows have equal numbers.

    False if two files of the prepared data are equal, as they could not be distinguished.
    """
    learned = [manifest.identify_file(file) for file in prepared["inputs"]["csv"]["files"]]
    if len(set(learned)) < len(learned):
        return False
    first = [manifest.identify_file(file) for file in files[: len(learned)]]
    return first == learned


def _choose_scored(files: list[InputFile], scored: Manifest) -> list[InputFile]:
    """Choose the files of a corpus that the models of a manifest have scored."""
    chosen: list[InputFile] = []
    for scoring in scored.get("scorings", ()):
        first = scoring["first_file"]
        chosen += files[first : first + scoring["num_files"]]
    return chosen or files  # not every manifest counts its files


def _refuse_learned(
    files: Sequence[InputFile], training: Manifest, prepared: Manifest, name: str
) -> None:
    """Check that a training has read none of the scored files.

    Raises:
        UserError: It has read one; in the prepared data the rows have other numbers.
    """
    learned = prepared_data.identify_learned_files(prepared)
    uri = training["inputs"]["prepared"]["uri"]
    folders = tuple(join(uri, folder) for folder in name_learned_folders(training))
    hint = (
        "score the prepared data of its training: the model was not trained on the test rows there"
    )
    if has_seen_test(training):
        hint = "score another labelled corpus"
    for file in files:
        # a file of the corpus it was prepared from, or a table of the prepared data itself
        if manifest.identify_file(file) in learned or file["uri"].startswith(folders):
            raise UserError(
                f"{name} was trained on rows of {file['uri']}, and has scored them with other "
                "row numbers",
                hint=hint,
            )


# Trainings


def _find_trainings(model: Mapping[str, Any]) -> Iterator[Manifest | None]:
    """Find the trainings of a model and of its members, initial models and teachers.

    None stands for a training that is gone or was redone; its initial model and teachers are
    unknown, too.

    Args:
        model: ``fingerprint`` of a model package, and its ``training``.
    """
    for member in lineage.members_of(model):
        training = lineage.training_of(member)
        yield training
        if training is None:
            continue
        for name, item in training["inputs"].items():
            # answers from files have ``files``, a pretrained encoder has ``version``
            is_model_package = item.keys().isdisjoint({"files", "version"})
            if name == "init_from" or (name.startswith(TEACHER) and is_model_package):
                yield from _find_trainings(item)


def _prepared_of(training: Manifest | None) -> Manifest | None:
    """Read the manifest of the prepared data of a training; None if either is gone."""
    if training is None:
        return None
    return followed_inputs.follow(training["inputs"], "prepared")


def _read_row_ids(
    training: Manifest, prepared: Manifest, *, only_labelled: bool
) -> list[np.ndarray]:
    """Read the numbers of the rows that a model has learned."""
    tables = _read_learned(training, prepared, "row_id", only_labelled=only_labelled)
    return [table["row_id"].to_numpy() for table in tables]


def _read_learned(
    training: Manifest, prepared: Manifest, column: str, *, only_labelled: bool = False
) -> Iterator[pa.Table]:
    """Read a column of the rows that a model has learned.

    Unlabelled rows count only in a distillation.
    """
    uri = training["inputs"]["prepared"]["uri"]
    is_taught = _is_taught(training) and not only_labelled
    folders = name_learned_folders(training)
    for table in lineage.read_tables(uri, prepared, folders, [column, "label"]):
        yield table if is_taught else table.filter(table["label"].is_valid())


def _is_taught(training: Manifest) -> bool:
    """Say whether a training has teachers, so that it has learned rows without a label, too."""
    return any(name.startswith(TEACHER) for name in training["inputs"])
