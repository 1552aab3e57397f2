"""Candidate and champion of a registered model -> the better one on the test rows as champion."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from sentiflow import __version__
from sentiflow.config.sections import Config
from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY, SPLITS
from sentiflow.errors import UserError, list_worst
from sentiflow.evaluation import comparison
from sentiflow.evaluation.evaluated_rows import find_common_classes
from sentiflow.evaluation.page_templates import open_template
from sentiflow.metrics import paired
from sentiflow.metrics.predicted import Predicted, macro_f1
from sentiflow.models import package_files
from sentiflow.tracking import mlflow_store, model_registry, model_sources, training_rows

if TYPE_CHECKING:
    from sentiflow.models.model import Model

MAX_P_VALUE = 0.05
"""Limit for the p-value of McNemar's test that both are right equally often. A candidate that is no
better is promoted in at most 1 of 40 cases."""

_TEST_DATA = "sentiflow.test_data"
"""Tag of a version: fingerprint of the prepared data that it was last judged on."""
_COMPARISON = "sentiflow.comparison"
"""Tag of a version: key and outcome of the last comparison in which it was the candidate."""
_MAX_TAG_LENGTH = 5000
"""Characters in a tag of a version; MLflow refuses longer ones."""


@dataclass(frozen=True)
class ChampionTest:
    """Candidate and champion on the same test rows."""

    num_rows: int
    """Rows that neither was trained on or chosen by, as far as that is known."""
    candidate_accuracy: float
    champion_accuracy: float | None
    """None if there is no champion yet."""
    only_candidate_right: int
    """Rows on which only the candidate is right."""
    only_champion_right: int
    p_value: float | None = None
    """The p-value of McNemar's test that both are right equally often."""
    candidate_f1_macro: float | None = None
    champion_f1_macro: float | None = None
    f1_macro_difference: paired.Difference | None = None
    """The candidate's macro F1 minus the champion's; None without a champion, or if undefined."""
    classes: tuple[str, ...] = ()
    """Classes that the models have."""
    other_classes: tuple[str, ...] = ()
    """Classes that only one of the two models has; rows with their labels are mistakes of the
    other."""
    unknown_classes: tuple[str, ...] = ()
    """Labels that neither model has: their rows are mistakes of both."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows by class that the settings of a training leave out; they are not compared."""
    difference: paired.Difference | None = None
    """The candidate's accuracy minus the champion's; None without a champion."""
    num_seen: int = 0
    """Test rows that are left out: their text was used to train or choose one of the models."""
    unknown: tuple[str, ...] = ()
    """Models whose training texts are unknown, by URI."""
    num_judged: int = 1
    """Versions that were compared on this test split so far, candidate and champion included."""


_TEST = TypeAdapter(ChampionTest)


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion; ``dataclasses.asdict`` of it is JSON."""

    name: str
    candidate: int
    champion: int | None
    """The version before the promotion, if there was one."""
    comparison: ChampionTest | None
    """None if the candidate is the champion already or its refit, or was promoted by force."""
    promoted: bool
    aliases: dict[str, int]
    """Versions by alias, after the promotion."""
    is_forced: bool = False
    """Whether the candidate was promoted by force, without a comparison."""
    objection: str = ""
    """Why the candidate is not better than the champion; empty if it is, or there is none."""
    refits: tuple[int, ...] = ()
    """Versions among the two that are refits: the run that each repeats was judged in its place."""

    @property
    def refused(self) -> bool:
        """Say whether the champion stays because the candidate is not better."""
        return self.comparison is not None and not self.promoted

    def __str__(self) -> str:
        return to_text(self).replace("--force", "force=True")  # as Python writes it


def promote(config: Config, *, version: int | None = None, force: bool = False) -> Promotion:
    """Make a version the champion if there is none, or it is better than the champion.

    Both score the labelled rows of the test split of ``train.prepared_uri`` whose texts neither was
    trained on. The candidate is better by the rules of :func:`find_objection`. Their accuracies and
    the comparison are tagged on the versions, so the same comparison is not made twice.

    For a refit that has learned the test rows, the run that it repeats is judged. If this run is
    the champion, the refit needs no comparison.

    Args:
        config: Names the registered model, the store and the prepared data.
        version: The version to promote. Default: the candidate.
        force: Promote it without a comparison.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row that neither
            was trained on.
        JobError: The store cannot be reached, or refuses the change.
    """
    name = config.name
    tracking_uri = mlflow_store.default_uri(config.tracking.uri)
    aliases = model_registry.read_aliases(name, tracking_uri=tracking_uri)
    present = aliases.get(model_registry.CHAMPION)
    number = _find_candidate(name, aliases) if version is None else version
    if present == number:
        return Promotion(
            name=name,
            candidate=number,
            champion=present,
            comparison=None,
            promoted=False,
            aliases=aliases,
        )
    contenders = [_resolve(name, number, tracking_uri)]
    if present is not None and not force:
        contenders.append(_resolve(name, present, tracking_uri))
    test = None
    if not force and not _repeats_champion(contenders):
        test = _find_or_judge(config.train.prepared_uri, contenders, tracking_uri)
    objection = find_objection(test) if test else ""
    if not objection:
        candidate = contenders[0].version
        model_registry.set_alias(candidate, model_registry.CHAMPION, tracking_uri=tracking_uri)
        aliases[model_registry.CHAMPION] = number
    return Promotion(
        name=name,
        candidate=number,
        champion=present,
        comparison=test,
        promoted=not objection,
        aliases=aliases,
        is_forced=force,
        objection=objection,
        refits=tuple(each.version.number for each in contenders if each.has_seen_test),
    )


def _find_candidate(name: str, aliases: Mapping[str, int]) -> int:
    """Return the version that is the candidate.

    Raises:
        UserError: There is none.
    """
    if model_registry.CANDIDATE not in aliases:
        raise UserError(
            f"{name} has no candidate",
            hint="sentiflow run registers one, if it evaluates on its own test rows; or name a "
            "version: --version N",
        )
    return aliases[model_registry.CANDIDATE]


def find_objection(test: ChampionTest) -> str:
    """Say why a candidate does not replace the champion; empty if it does.

    Its accuracy must be higher, and beyond chance. At a tie the champion stays.
    """
    if test.difference is None:
        return ""
    gain = test.difference.value
    if gain <= 0:
        return "its accuracy is no higher"
    p_value = test.p_value or 0.0
    if p_value > MAX_P_VALUE:
        return (
            f"its gain of {gain:.4f} may be chance: {paired.write_p(p_value)} is above "
            f"{MAX_P_VALUE}"
        )
    return ""


def to_text(promotion: Promotion) -> str:
    """Describe a promotion in a few lines, a refusal in one."""
    template = open_template("promotion.txt.j2", {"worst": list_worst})
    lines = template.render(promotion=promotion, binary=BINARY).splitlines()
    separator = "; " if promotion.refused else "\n  "
    return separator.join(lines)


# Contenders


class _Contender(NamedTuple):
    """The candidate or the champion."""

    version: model_registry.Version
    record: Manifest
    """Manifest of its package."""

    @property
    def has_seen_test(self) -> bool:
        """Say whether it is a refit that was trained on the test rows."""
        return training_rows.has_seen_test(self.record)


def _resolve(name: str, number: int, tracking_uri: str) -> _Contender:
    """Read the manifest of a version."""
    version = model_registry.Version(name, number)
    resolved = model_registry.resolve(str(version), tracking_uri=tracking_uri)
    return _Contender(version, resolved.record)


def _repeats_champion(contenders: Sequence[_Contender]) -> bool:
    """Say whether the candidate is a refit of the champion."""
    candidate, *champions = contenders
    if not candidate.has_seen_test:
        return False
    repeated = candidate.record["refit"]["of"]["fingerprint"]
    return any(champion.record["fingerprint"] == repeated for champion in champions)


class _JudgedModel(NamedTuple):
    """The model by which a version is judged."""

    model: "Model"
    input: Mapping[str, Any]
    """Its description as an input."""


def _load(contender: _Contender, tracking_uri: str) -> _JudgedModel:
    """Load the model that a version is judged by: itself, or the run that it repeats.

    Raises:
        UserError: The run that it repeats is gone.
    """
    import torch  # more than a second to import: a champion without a comparison needs no model

    from sentiflow.models.model import Model

    uri = str(contender.version)
    record = contender.record
    if contender.has_seen_test:
        uri, record = _find_repeated(contender, tracking_uri)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    package = model_sources.load(uri, tracking=tracking_uri).to(device)
    return _JudgedModel(Model(package, uri), package_files.to_input(uri, record))


def _find_repeated(refit: _Contender, tracking_uri: str) -> tuple[str, Manifest]:
    """Find the model that a refit repeats: its location and its manifest.

    Raises:
        UserError: It is gone.
    """
    name = refit.version.name
    of = refit.record["refit"]["of"]
    what = f"the run that {refit.version} repeats"
    version = model_registry.find(name, of["fingerprint"], tracking_uri=tracking_uri)
    place = str(version or of["uri"])
    uri, record = model_sources.find(place, tracking=tracking_uri, setting=what)
    if record["fingerprint"] != of["fingerprint"]:
        raise UserError(
            f"{what} is gone: {uri} holds another model",
            hint=f"promote another version of {name}",
        )
    return uri, record


# Judgement


def _find_or_judge(uri: str, contenders: Sequence[_Contender], tracking_uri: str) -> ChampionTest:
    """Read the comparison from the tags of the candidate, or make it and tag it.

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
    known = tags_of_judged.get(candidate.number, {}).get(_COMPARISON, "")
    if known.startswith(f"{key} "):
        test = _TEST.validate_json(known.removeprefix(key))
    else:
        test = _judge(uri, prepared, contenders, tracking_uri)
        tag = f"{key} {_TEST.dump_json(test).decode()}"
        if len(tag) <= _MAX_TAG_LENGTH:
            model_registry.describe(candidate, tags={_COMPARISON: tag}, tracking_uri=tracking_uri)
    judged = {*tags_of_judged, *(each.version.number for each in contenders)}
    return replace(test, num_judged=len(judged))


def _judge(
    uri: str, prepared: Manifest, contenders: Sequence[_Contender], tracking_uri: str
) -> ChampionTest:
    """Measure one or two models on the test rows, and tag their accuracies."""
    models = [_load(contender, tracking_uri) for contender in contenders]
    inputs = [each.input for each in models]
    classes = _compare_classes(models)
    rows, left_out = _read_test_rows(uri, prepared, classes.excluded)
    seen, is_known = training_rows.find_texts(inputs)
    is_seen = _find_seen(rows, seen, uri)
    rows = rows.filter(pa.array(~is_seen))
    names = manifest.find_classes(prepared)
    all_classes = tuple(dict.fromkeys([*classes.common, *classes.others, *names]))
    label = _number_labels(rows, names, all_classes)
    predicted = [_predict(each.model, rows["text"], label, all_classes) for each in models]
    _tag_accuracies(contenders, predicted, prepared, tracking_uri)
    candidate = predicted[0]
    present = [all_classes[code] for code in np.unique(label)]
    known = {*classes.common, *classes.others}
    test = ChampionTest(
        num_rows=len(label),
        candidate_accuracy=_measure_accuracy(candidate),
        champion_accuracy=None,
        only_candidate_right=0,
        only_champion_right=0,
        candidate_f1_macro=macro_f1(candidate.confusion),
        classes=classes.common,
        other_classes=tuple(name for name in classes.others if name not in classes.excluded),
        unknown_classes=tuple(name for name in present if name not in known),
        left_out=left_out,
        num_seen=int(is_seen.sum()),
        unknown=_name_unknown(contenders, is_known),
    )
    if len(predicted) == 1:
        return test
    return _add_champion(test, candidate=candidate, champion=predicted[1])


class _ComparedClasses(NamedTuple):
    """Classes of one or two models."""

    common: tuple[str, ...]
    """Classes that every model has."""
    others: tuple[str, ...]
    """Classes that only one of two models has."""
    excluded: set[str]
    """Classes that the training of a model leaves out."""


def _compare_classes(models: Sequence[_JudgedModel]) -> _ComparedClasses:
    """Compare the classes of candidate and champion.

    Raises:
        UserError: Fewer than two are common.
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


def _name_unknown(contenders: Sequence[_Contender], is_known: Sequence[bool]) -> tuple[str, ...]:
    """Name the versions whose training texts are not all known."""
    pairs = zip(contenders, is_known, strict=True)
    return tuple(str(contender.version) for contender, all_read in pairs if not all_read)


def _measure_accuracy(predicted: Predicted) -> float:
    return float(predicted.right.mean())


def _tag_accuracies(
    contenders: Sequence[_Contender],
    predicted: Sequence[Predicted],
    prepared: Manifest,
    tracking_uri: str,
) -> None:
    """Tag each version with the data and its accuracy; a refit has no accuracy on learned rows."""
    for contender, each in zip(contenders, predicted, strict=True):
        tags = {_TEST_DATA: prepared["fingerprint"]}
        if not contender.has_seen_test:
            tags["sentiflow.test_accuracy"] = f"{_measure_accuracy(each):.6f}"
            tags["sentiflow.test_rows"] = str(len(each.label))
        model_registry.describe(contender.version, tags=tags, tracking_uri=tracking_uri)


# Test rows


def _read_test_rows(
    uri: str, prepared: Manifest, excluded: Collection[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Read texts and labels of the labelled test rows.

    Returns:
        The rows without excluded classes; how many rows of each excluded class were left out.

    Raises:
        UserError: There is no such row.
    """
    folders = lineage.name_folders([SPLITS[2]])
    tables = lineage.read_tables(uri, prepared, folders, ["text", "label"])
    labelled = [table.filter(pc.field("label").is_valid()) for table in tables]
    rows = pa.concat_tables(labelled) if labelled else pa.table({"text": [], "label": []})
    names = manifest.find_classes(prepared)
    codes = [code for code, name in enumerate(names) if name in excluded]
    label = rows["label"].to_numpy().astype(np.int64)
    counts = np.bincount(label, minlength=len(names)).tolist()
    rows = rows.filter(~pc.field("label").isin(codes))
    if not len(rows):
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    return rows, {names[code]: counts[code] for code in codes if counts[code]}


def _find_seen(rows: pa.Table, seen: np.ndarray, uri: str) -> np.ndarray:
    """Find the rows whose text was seen in a training, as booleans.

    Raises:
        UserError: All were.
    """
    is_seen = np.isin(hash_texts(one_array(rows["text"])), seen)
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
    model: "Model", text: pa.ChunkedArray, label: np.ndarray, classes: tuple[str, ...]
) -> Predicted:
    """Predict the labels of texts.

    Only labels decide a promotion, so the probability of each predicted label is 1.

    Args:
        model: The model.
        text: N texts.
        label: N positions in ``classes``.
        classes: The classes of the model and others.
    """
    predicted_label = pd.Index(model.predict(text)["predicted_label"])
    prediction = pd.Index(classes).get_indexer(predicted_label)
    probabilities = np.eye(len(classes), dtype=np.float32)[prediction]
    return Predicted(classes, label, prediction, probabilities)
