"""Versions of a registered model -> their accuracies on test rows that neither has learned."""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from sentiflow import __version__
from sentiflow.data import authors, lineage, manifest
from sentiflow.data.arrays import hash_texts, one_array, put_columns
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import TEST
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation import comparison
from sentiflow.evaluation.evaluated_classes import find_common_classes
from sentiflow.evaluation.evaluated_rows import AUTHOR
from sentiflow.metrics import paired, selection
from sentiflow.metrics.dependence import AuthorGroups
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.predicted import Predicted
from sentiflow.models import package_files
from sentiflow.progress import Progress, Steps
from sentiflow.tracking import model_registry, model_sources, training_rows

if TYPE_CHECKING:
    from sentiflow.models.model import Model

_TEST_DATA = "sentiflow.test_data"
"""Tag of a version: fingerprint of the prepared data that it was last judged on."""
_COMPARISON = "sentiflow.comparison"
"""Tag of a version: key and outcome of the last comparison in which it was the candidate. The file
``COMPARISON_FILE`` has the whole comparison."""
COMPARISON_FILE = "comparison.json"
"""File of a model: the last comparison in which it was the candidate, with its key."""
_STEPS = Steps(
    "promote",
    load="loading the models",
    read="reading the test rows, and the texts that the models have seen",
    predict="predicting the test rows",
    compare="comparing the predictions",
)
_ROWS_AT_ONCE = 1 << 18
"""Texts that are predicted between two messages: whole pieces for each thread, so that the
predictions are those of a single call."""


@dataclass(frozen=True)
class ChampionTest:
    """Candidate and champion on the same test rows."""

    num_rows: int
    """Test rows whose texts neither model was trained on or chosen by, as far as is known."""
    candidate_accuracy: float
    champion_accuracy: float | None
    """None if there is no champion yet."""
    only_candidate_right: int
    """Rows on which only the candidate is right; 0 without a champion."""
    only_champion_right: int
    p_value: float | None = None
    """The p-value of McNemar's test that both are right equally often; None without a champion."""
    candidate_f1_macro: float | None = None
    champion_f1_macro: float | None = None
    f1_macro_difference: paired.Difference | None = None
    """The candidate's macro F1 minus the champion's; None without a champion, or if undefined."""
    classes: tuple[str, ...] = ()
    """Classes that both models have."""
    other_classes: tuple[str, ...] = ()
    """Classes that only one of the two models has: rows with these labels are mistakes of the model
    that does not have them."""
    unknown_classes: tuple[str, ...] = ()
    """Labels that neither model has: their rows are mistakes of both."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows by class that the settings of a training leave out; they are not compared."""
    difference: paired.Difference | None = None
    """The candidate's accuracy minus the champion's; None without a champion."""
    num_seen: int = 0
    """Test rows that are left out: their text was used to train or choose one of the models."""
    unknown: tuple[str, ...] = ()
    """URIs of the versions whose training texts are not all known."""
    num_authors: int = 0
    """Authors of the rows, where the split is by user and the users were kept: intervals and tests
    are by author. Otherwise 0."""
    num_judged: int = 1
    """Versions that were judged on this test split so far, candidate and champion included."""
    num_compared: int = 0
    """Versions that were compared with a champion on this test split so far, this one included."""
    selection_bias: float = 0
    """If so many versions were equally accurate, the best of them would look better than it is by
    this much, on average: see ``metrics.selection``."""


_ADAPTER = TypeAdapter(ChampionTest)
"""Writes a comparison as the JSON in a tag, and reads it again."""


class Contender(NamedTuple):
    """The candidate or the champion."""

    version: model_registry.Version
    record: Manifest
    """Manifest of its package."""

    @property
    def has_seen_test(self) -> bool:
        """Say whether it is a refit that was trained on the test rows."""
        return training_rows.has_seen_test(self.record)


def resolve(name: str, number: int, tracking_uri: str, *, near: str) -> Contender:
    """Find a version in the registry and read its manifest.

    Args:
        name: Name of the registered model.
        number: Number of the version.
        tracking_uri: The store.
        near: Directory of the user's data, as for :func:`model_registry.resolve`.
    """
    version = model_registry.Version(name, number)
    resolved = model_registry.resolve(str(version), tracking_uri=tracking_uri, near=near)
    return Contender(version, resolved.record)


class _JudgedModel(NamedTuple):
    """The model by which a version is judged."""

    model: "Model"
    input: Mapping[str, Any]
    """The model as an input of a stage, as manifests describe it."""


def _load(contender: Contender, tracking_uri: str) -> _JudgedModel:
    """Load the model that a version is judged by: itself, or the run that it repeats.

    Raises:
        UserError: The version is a refit, and the run that it repeats is gone.
    """
    # slow to import: a champion without a comparison needs no model
    from sentiflow.models import device
    from sentiflow.models.model import Model
    from sentiflow.tracking import packages

    uri = str(contender.version)
    record = contender.record
    if contender.has_seen_test:
        uri, record = _find_repeated(contender, tracking_uri)
    package = packages.load(uri, tracking=tracking_uri).to(device.choose())
    return _JudgedModel(Model(package, uri), package_files.to_input(uri, record))


def _find_repeated(refit: Contender, tracking_uri: str) -> tuple[str, Manifest]:
    """Find the model that a refit repeats: its location and its manifest.

    Raises:
        UserError: The model is gone, or another one is in its place.
    """
    name = refit.version.name
    repeated = refit.record["refit"]["of"]
    description = f"the run that {refit.version} repeats"
    version = model_registry.find(name, repeated["fingerprint"], tracking_uri=tracking_uri)
    location = str(version) if version else repeated["uri"]
    uri, record = model_sources.find(location, tracking=tracking_uri, setting=description)
    if record["fingerprint"] != repeated["fingerprint"]:
        raise UserError(
            f"{description} is gone: {uri} holds another model",
            hint=f"promote another version of {name}",
        )
    return uri, record


def compare_contenders(
    uri: str, contenders: Sequence[Contender], tracking_uri: str
) -> ChampionTest:
    """Compare candidate and champion on the test rows, and tag the comparison on the candidate.

    A comparison that was made before is read from the files of the candidate. Only the same release
    of sentiflow reads it, because another release may judge differently.

    Args:
        uri: The prepared data.
        contenders: The candidate, and the champion if there is one.
        tracking_uri: The store.
    """
    candidate = contenders[0].version
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    fingerprints = [each.record["fingerprint"] for each in contenders]
    key = " ".join([__version__, prepared["fingerprint"], *fingerprints])
    tags_of_judged = model_registry.find_tagged(
        candidate.name, _TEST_DATA, prepared["fingerprint"], tracking_uri=tracking_uri
    )
    earlier = tags_of_judged.get(candidate.number, {}).get(_COMPARISON, "")
    test = None
    if f"{earlier} ".startswith(f"{key} "):
        test = _read_comparison(candidate, key, tracking_uri)
    if test is None:
        test = _measure_contenders(uri, prepared, contenders, tracking_uri)
        content = {"key": key, "comparison": _ADAPTER.dump_python(test, mode="json")}
        tags = {_COMPARISON: key + _write_outcome(test)}
        model_registry.describe(candidate, tags=tags, tracking_uri=tracking_uri)
        files = {COMPARISON_FILE: json.dumps(content, indent=2).encode()}
        with suppress(JobError, UserError):  # without the file it is made again, and counted once
            model_registry.describe(candidate, tags={}, files=files, tracking_uri=tracking_uri)
    judged = {*tags_of_judged, *(each.version.number for each in contenders)}
    compared = _find_compared(tags_of_judged, prepared["fingerprint"])
    if len(contenders) > 1:
        compared.add(candidate.number)
    return replace(
        test,
        num_judged=len(judged),
        num_compared=len(compared),
        selection_bias=_find_bias(test, len(judged)),
    )


def _read_comparison(
    candidate: model_registry.Version, key: str, tracking_uri: str
) -> ChampionTest | None:
    """Read the last comparison of a candidate; None if its file is gone or has another key."""
    try:
        content = model_registry.read_file(candidate, COMPARISON_FILE, tracking_uri=tracking_uri)
        found = json.loads(content or b"{}")
        return _ADAPTER.validate_python(found["comparison"]) if found.get("key") == key else None
    except (JobError, UserError, KeyError, AttributeError, ValueError):  # not readable, or changed
        return None


def _write_outcome(test: ChampionTest) -> str:
    """Write the outcome of a comparison for people who read the tag; empty without a champion."""
    if test.difference is None or test.p_value is None:
        return ""
    return f" accuracy {test.difference.value:+.4f}, {paired.write_p(test.p_value)}"


def _find_compared(tags: Mapping[int, Mapping[str, str]], fingerprint: str) -> set[int]:
    """Find the versions that were compared with a champion on some prepared data.

    Args:
        tags: For each version all its tags.
        fingerprint: The prepared data.
    """
    compared = set()
    for number, of_version in tags.items():
        # The release, the prepared data, the candidate, and the champion if there was one.
        words = of_version.get(_COMPARISON, "").split(" ", 4)
        has_champion = len(words) > 3 and not words[3].startswith("{")
        if has_champion and words[1] == fingerprint:
            compared.add(number)
    return compared


def _find_bias(test: ChampionTest, num_judged: int) -> float:
    """Return by how much the best of the judged versions looks too good, if all are equal."""
    accuracy = test.candidate_accuracy
    disagreement = 2 * accuracy * (1 - accuracy)  # of models whose mistakes are independent
    if test.champion_accuracy is not None:
        num_apart = test.only_candidate_right + test.only_champion_right
        disagreement = num_apart / test.num_rows
    return selection.selection_bias(num_judged, disagreement=disagreement, num_rows=test.num_rows)


def _measure_contenders(
    uri: str, prepared: Manifest, contenders: Sequence[Contender], tracking_uri: str
) -> ChampionTest:
    """Measure one or two models on the test rows, and tag their accuracies on the versions."""
    with _STEPS.show("load"):
        models = [_load(contender, tracking_uri) for contender in contenders]
    inputs = [each.input for each in models]
    classes = _compare_classes(models)
    with _STEPS.show("read"):
        rows, left_out = _read_test_rows(uri, prepared, classes.excluded)
        seen, is_known = training_rows.find_text_hashes(inputs)
    is_seen = _find_seen(rows, seen, uri)
    rows = rows.filter(pa.array(~is_seen))
    names = manifest.find_classes(prepared)
    all_classes = tuple(dict.fromkeys([*classes.common, *classes.others, *names]))
    label = _number_labels(rows, names, all_classes)
    groups = AuthorGroups(rows[AUTHOR].to_numpy()) if AUTHOR in rows.column_names else None
    predicted = []
    with _STEPS.show("predict") as progress:
        progress.count(len(models) * len(rows), "texts")
        for each in models:
            answers = _predict(each.model, rows["text"], label, all_classes, progress)
            predicted.append(replace(answers, groups=groups))
    with Progress("promote", what="tagging the versions"):
        _tag_accuracies(contenders, predicted, prepared, tracking_uri)
    candidate = predicted[0]
    labels = [all_classes[code] for code in np.unique(label)]
    known_classes = {*classes.common, *classes.others}
    test = ChampionTest(
        num_rows=len(label),
        candidate_accuracy=_measure_accuracy(candidate),
        champion_accuracy=None,
        only_candidate_right=0,
        only_champion_right=0,
        candidate_f1_macro=macro_f1(candidate.confusion),
        classes=classes.common,
        other_classes=tuple(name for name in classes.others if name not in classes.excluded),
        unknown_classes=tuple(name for name in labels if name not in known_classes),
        left_out=left_out,
        num_seen=int(is_seen.sum()),
        unknown=_list_unknown(contenders, is_known),
        num_authors=len(groups.sizes) if groups else 0,
    )
    if len(predicted) == 1:
        return test
    with _STEPS.show("compare"):
        return _add_champion(test, candidate=candidate, champion=predicted[1])


class _ComparedClasses(NamedTuple):
    """Classes of one or two models."""

    common: tuple[str, ...]
    """Classes that every model has."""
    others: tuple[str, ...]
    """Classes that only one of two models has."""
    excluded: set[str]
    """Classes that the settings of a model's training leave out: test rows with these labels are
    not compared."""


def _compare_classes(models: Sequence[_JudgedModel]) -> _ComparedClasses:
    """Compare the classes of candidate and champion.

    Raises:
        UserError: Fewer than two classes are common.
    """
    roles = ("the candidate", "the champion")
    of_roles = {role: each.model.classes for role, each in zip(roles, models, strict=False)}
    common, others = find_common_classes(of_roles)
    excluded: set[str] = set()
    for each in models:
        excluded |= lineage.left_out_of(each.input)
    return _ComparedClasses(common, others, excluded)


def _add_champion(test: ChampionTest, *, candidate: Predicted, champion: Predicted) -> ChampionTest:
    """Add the figures of the champion, and the differences of the candidate from it."""
    found = comparison.compare_predictions(champion, candidate, has_probabilities=False)
    return replace(
        test,
        champion_accuracy=_measure_accuracy(champion),
        only_candidate_right=found.mcnemar.only_second_right,
        only_champion_right=found.mcnemar.only_first_right,
        p_value=found.mcnemar.p_value,
        champion_f1_macro=macro_f1(champion.confusion),
        f1_macro_difference=found.differences["f1_macro"],
        difference=found.accuracy,
    )


def _list_unknown(contenders: Sequence[Contender], is_known: Sequence[bool]) -> tuple[str, ...]:
    """List the versions whose training texts are not all known."""
    pairs = zip(contenders, is_known, strict=True)
    return tuple(str(contender.version) for contender, all_read in pairs if not all_read)


def _measure_accuracy(predicted: Predicted) -> float:
    return float(predicted.right.mean())


def _tag_accuracies(
    contenders: Sequence[Contender],
    predicted: Sequence[Predicted],
    prepared: Manifest,
    tracking_uri: str,
) -> None:
    """Tag each version with the data and its accuracy.

    A refit that has learned the test rows gets no accuracy: it was judged by the run that it
    repeats.
    """
    for contender, each in zip(contenders, predicted, strict=True):
        tags = {_TEST_DATA: prepared["fingerprint"]}
        if not contender.has_seen_test:
            tags["sentiflow.test_accuracy"] = f"{_measure_accuracy(each):.6f}"
            tags["sentiflow.test_rows"] = str(len(each.label))
        model_registry.describe(contender.version, tags=tags, tracking_uri=tracking_uri)


def _read_test_rows(
    uri: str, prepared: Manifest, excluded: Collection[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Read texts, labels and, where the split is by user, authors of the labelled test rows.

    Returns:
        The rows without excluded classes; how many rows of each excluded class were left out.

    Raises:
        UserError: The test split has no labelled row, or only rows of excluded classes.
    """
    folders = lineage.name_folders([TEST])
    columns = ["text", "label"]
    author = _find_author_column(prepared)
    if author:
        columns += ["row_id", author]
    tables = lineage.read_tables(uri, prepared, folders, columns)
    labelled = [table.filter(pc.field("label").is_valid()) for table in tables]
    rows = pa.concat_tables(labelled) if labelled else pa.table({"text": [], "label": []})
    if author and labelled:
        hashes = authors.hash_authors(rows[author], rows["row_id"].to_numpy())
        rows = put_columns(rows, {AUTHOR: pa.array(hashes)})
    names = manifest.find_classes(prepared)
    codes = [code for code, name in enumerate(names) if name in excluded]
    label = rows["label"].to_numpy().astype(np.int64)
    counts = np.bincount(label, minlength=len(names)).tolist()
    if not len(rows):
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    left_out = {names[code]: counts[code] for code in codes if counts[code]}
    rows = rows.filter(~pc.field("label").isin(codes))
    if not len(rows):
        raise UserError(
            f"all {sum(left_out.values()):,} labelled rows in the test split of {uri} have a class "
            f"that a model left out in its training: {', '.join(left_out)}",
            hint="set train.prepared_uri to data with other classes",
        )
    return rows, left_out


def _find_author_column(prepared: Manifest) -> str | None:
    """Name the column with the authors, where the test rows are whole authors and it was kept."""
    if not authors.are_whole(prepared):
        return None
    return authors.find_column(prepared["settings"].get("keep_columns", ()), None)


def _find_seen(rows: pa.Table, seen: np.ndarray, uri: str) -> np.ndarray:
    """Say of each row whether its text was seen in a training.

    Args:
        rows: Test rows.
        seen: Hashes of the texts that were seen.
        uri: The prepared data, for the message.

    Raises:
        UserError: All texts were seen.
    """
    is_seen = training_rows.are_learned(hash_texts(one_array(rows["text"])), seen)
    if is_seen.all():
        raise UserError(
            f"all {len(rows):,} labelled texts in the test split of {uri} were seen in the "
            "training of candidate or champion",
            hint="set train.prepared_uri to data with the same prepare.split for both",
        )
    return is_seen


def _number_labels(rows: pa.Table, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Turn labels, which are positions in ``names``, into positions in ``classes``."""
    code = np.array([classes.index(name) for name in names])
    return np.asarray(code[rows["label"].to_numpy()])


def _predict(
    model: "Model",
    text: pa.ChunkedArray,
    label: np.ndarray,
    classes: tuple[str, ...],
    progress: Progress,
) -> Predicted:
    """Predict the labels of texts.

    Accuracy and macro F1, which are measured here, depend on the labels alone. So no probabilities
    are kept: the probability of each predicted label is 1.

    Args:
        model: The model.
        text: N texts.
        label: N positions in ``classes``.
        classes: Names of classes, among them all classes of the model.
        progress: Counts the texts.
    """
    predicted_labels = []
    for start in range(0, len(text), _ROWS_AT_ONCE):
        some = text.slice(start, _ROWS_AT_ONCE)
        predicted_labels.append(model.predict(some)["predicted_label"])
        progress.advance(len(some))
    prediction = pd.Index(classes).get_indexer(pd.Index(pd.concat(predicted_labels)))
    probabilities = np.eye(len(classes), dtype=np.float32)[prediction]
    return Predicted(classes, label, prediction, probabilities)
