"""Candidate and champion of a registered model -> the better one on the test rows as champion."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from sentiflow import __version__
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.arrays import hash_texts, one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError, list_worst
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import find_common_classes
from sentiflow.evaluation.report import open_template
from sentiflow.metrics import paired
from sentiflow.metrics.predicted import count_confusion, macro_f1
from sentiflow.models import package_files
from sentiflow.tracking import mlflow_store, model_registry, model_sources

if TYPE_CHECKING:
    from sentiflow.models.model import Model

_TEST_DATA = "sentiflow.test_data"
"""Tag of a version: fingerprint of the prepared data that it was last judged on."""
_COMPARISON = "sentiflow.comparison"
"""Tag of a version: what decides the comparison that it was last a candidate in; its outcome."""


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
    """Classes that only one of the two has. Rows with such a label are mistakes of the other."""
    unknown_classes: tuple[str, ...] = ()
    """Labels that none has: their rows are mistakes of both."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows by class that the settings of a training leave out; they are not compared."""
    difference: paired.Difference | None = None
    """The candidate's accuracy minus the champion's; None without a champion."""
    num_seen: int = 0
    """Test rows that are left out: one of the models was trained on their text, or chosen by it."""
    unknown: tuple[str, ...] = ()
    """Models whose training texts are unknown, by URI."""
    num_judged: int = 1
    """Versions that this test split has judged by now, with these."""


_TEST = TypeAdapter(ChampionTest)
_Models = Mapping[model_registry.Version, Manifest]
"""Candidate and champion, if there is one: the manifests of their packages."""

MAX_P_VALUE = 0.05
"""Of McNemar's test that both are right equally often: a candidate that is no better is promoted in
at most 1 of 40 cases."""


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion; ``dataclasses.asdict`` of it is JSON."""

    name: str
    candidate: int
    champion: int | None
    """The version before the promotion, if there was one."""
    comparison: ChampionTest | None
    """None: the candidate is the champion already, or its refit; or it is forced."""
    promoted: bool
    aliases: dict[str, int]
    """Versions by alias, after the promotion."""
    is_forced: bool = False
    """Whether the candidate was promoted without a comparison."""
    objection: str = ""
    """Why the candidate is not better than the champion; empty if it is, or there is none."""
    refits: tuple[int, ...] = ()
    """Of candidate and champion those that are refits: the run that each repeats was judged."""

    @property
    def refused(self) -> bool:
        """Say whether the champion stays because the candidate is not better."""
        return self.comparison is not None and not self.promoted

    def __str__(self) -> str:
        return to_text(self).replace("--force", "force=True")


def promote(config: Config, *, version: int | None = None, force: bool = False) -> Promotion:
    """Make a version the champion if there is none, or it is better than the champion.

    Both score the labelled rows of the test split of ``train.prepared_uri`` whose texts neither was
    trained on. The candidate is better by the rules of :func:`find_objection`. Their accuracies and
    the comparison are tagged on the versions: no two are compared twice on the same rows. A refit
    that has learned the test rows is judged by the run that it repeats; if this is the champion, it
    has passed already.

    Args:
        config: Names the registered model, the store and the prepared data.
        version: The version to promote. Default: the candidate.
        force: Promote it without a comparison.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row that neither
            was trained on.
        JobError: The store cannot be reached, or refuses the change.
    """
    uri, name = mlflow_store.default_uri(config.tracking.uri), config.name
    aliases = model_registry.read_aliases(name, tracking_uri=uri)
    number = aliases.get(model_registry.CANDIDATE) if version is None else version
    present = aliases.get(model_registry.CHAMPION)
    if number is None:
        raise UserError(
            f"{name} has no candidate",
            hint="sentiflow run registers one, on its own test rows; or --version N",
        )
    if present == number:
        return Promotion(name, number, present, None, promoted=False, aliases=aliases)
    versions = [
        model_registry.Version(name, each) for each in (number, present) if each is not None
    ]
    models = {
        each: model_registry.resolve(str(each), tracking_uri=uri).record
        for each in (versions[:1] if force else versions)
    }
    seen = tuple(each.number for each in models if lineage.has_seen_test(models[each]))
    candidate, champion = models[versions[0]], [*models.values()][-1]
    is_refit = number in seen and (
        candidate["refit"]["of"]["fingerprint"] == champion["fingerprint"]
    )
    test = None if force or is_refit else _find_or_judge(config.train.prepared_uri, models, uri)
    objection = find_objection(test) if test else ""
    if not objection:
        model_registry.set_alias(versions[0], model_registry.CHAMPION, tracking_uri=uri)
        aliases[model_registry.CHAMPION] = number
    return Promotion(
        name, number, present, test, not objection, aliases=aliases, is_forced=force,
        objection=objection, refits=seen,
    )  # fmt: skip


def find_objection(test: ChampionTest) -> str:
    """Say why a candidate does not replace the champion; empty if it does.

    Its accuracy is to be higher, and beyond chance. At a tie the champion stays.
    """
    if test.difference is None:
        return ""
    gain, p_value = test.difference.value, test.p_value or 0.0
    if gain <= 0:
        return "its accuracy is no higher"
    if p_value > MAX_P_VALUE:
        return (
            f"its gain of {gain:.4f} may be chance: {paired.write_p(p_value)} is above "
            f"{MAX_P_VALUE}"
        )
    return ""


def to_text(promotion: Promotion) -> str:
    """Describe a promotion in a few lines, a refusal in one."""
    template = open_template("promotion.txt.j2", {"worst": list_worst})
    text = template.render(promotion=promotion, binary=BINARY)
    return ("; " if promotion.refused else "\n  ").join(text.splitlines())


def _find_or_judge(uri: str, models: _Models, tracking_uri: str) -> ChampionTest:
    """Read the comparison of one or two models from the tags of the first, or make it."""
    version = next(iter(models))
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    fingerprints = [prepared["fingerprint"], *(each["fingerprint"] for each in models.values())]
    key = " ".join([__version__, *fingerprints])
    judged = model_registry.find_tagged(
        version.name, _TEST_DATA, prepared["fingerprint"], tracking_uri=tracking_uri
    )
    known = judged.get(version.number, {}).get(_COMPARISON, "")
    if known.startswith(f"{key} "):
        test = _TEST.validate_json(known.removeprefix(key))
    else:
        test = _judge(uri, models, prepared, tracking_uri)
        text = f"{key} {_TEST.dump_json(test).decode()}"
        if len(text) <= 5000:  # MLflow refuses longer tags of versions
            model_registry.describe(version, tags={_COMPARISON: text}, tracking_uri=tracking_uri)
    return replace(test, num_judged=len({*judged, *(each.number for each in models)}))


def _judge(uri: str, models: _Models, prepared: Manifest, tracking_uri: str) -> ChampionTest:
    """Measure one or two models on the test rows, and tag their accuracies."""
    loaded, described = zip(*(_load(*item, tracking_uri) for item in models.items()), strict=True)
    classes = [model.classes for model in loaded]
    roles = ("the candidate", "the champion")
    common, others = find_common_classes(dict(zip(roles, classes, strict=False)))
    excluded = set[str]().union(*map(lineage.left_out_of, described))
    rows, left_out = _read_test_rows(uri, prepared, excluded)
    seen, is_known = lineage.find_training_texts(described)
    is_seen = np.isin(hash_texts(one_array(rows["text"])), seen)
    if is_seen.all():
        raise UserError(
            f"all {len(rows):,} labelled texts in the test split of {uri} were seen in the "
            "training of candidate or champion",
            hint="set train.prepared_uri to data with the same prepare.split for both",
        )
    rows, names = rows.filter(pa.array(~is_seen)), manifest.find_classes(prepared)
    every = list(dict.fromkeys([*common, *others, *names]))
    label = np.array([every.index(name) for name in names])[rows["label"].to_numpy()]
    predictions = [
        pd.Index(every).get_indexer(model.predict(rows["text"])["predicted_label"])
        for model in loaded
    ]
    f1 = [macro_f1(count_confusion(label, p, num_labels=len(every))) for p in predictions]
    accuracies = [float((prediction == label).mean()) for prediction in predictions]
    for (version, record), accuracy in zip(models.items(), accuracies, strict=True):
        tags = {_TEST_DATA: prepared["fingerprint"]}
        if not lineage.has_seen_test(record):
            tags |= {
                "sentiflow.test_accuracy": f"{accuracy:.6f}",
                "sentiflow.test_rows": str(len(label)),
            }
        model_registry.describe(version, tags=tags, tracking_uri=tracking_uri)
    present = [every[code] for code in np.unique(label)]
    test = ChampionTest(
        len(label), accuracies[0], None, 0, 0,
        candidate_f1_macro=f1[0],
        classes=common,
        unknown_classes=tuple(name for name in present if name not in (*common, *others)),
        left_out=left_out,
        num_seen=int(is_seen.sum()),
        unknown=tuple(str(v) for v, all_read in zip(models, is_known, strict=True) if not all_read),
    )  # fmt: skip
    if len(models) == 1:
        return test
    candidate, champion = predictions
    difference, mcnemar = paired.compare_accuracy(champion == label, candidate == label)
    return replace(
        test,
        champion_accuracy=accuracies[1],
        only_candidate_right=mcnemar.only_second_right,
        only_champion_right=mcnemar.only_first_right,
        p_value=mcnemar.p_value,
        champion_f1_macro=f1[1],
        f1_macro_difference=paired.f1_macro_difference(
            label=label, first=champion, second=candidate, num_classes=len(every)
        ),
        other_classes=tuple(name for name in others if name not in excluded),
        difference=difference,
    )


def _read_test_rows(
    uri: str, prepared: Manifest, excluded: Collection[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Read texts and labels of the labelled test rows.

    Returns:
        The rows; the number of those of each excluded class, which are left out.

    Raises:
        UserError: There is no such row.
    """
    tables = lineage.read_tables(uri, prepared, ("tweets/split=test/",), ["text", "label"])
    labelled = [table.filter(pc.field("label").is_valid()) for table in tables]
    names = manifest.find_classes(prepared)
    rows = pa.concat_tables(labelled) if labelled else pa.table({"text": [], "label": []})
    counts = np.bincount(rows["label"].to_numpy().astype(np.int64), minlength=len(names)).tolist()
    codes = [code for code, name in enumerate(names) if name in excluded]
    rows = rows.filter(~pc.field("label").isin(codes))
    if not len(rows):
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    return rows, {names[code]: counts[code] for code in codes if counts[code]}


def _load(
    version: model_registry.Version, record: Manifest, tracking: str
) -> tuple["Model", Mapping[str, Any]]:
    """Load what a version is judged by: itself, or the run that it repeats.

    Returns:
        The model; its description as an input.

    Raises:
        UserError: The run that it repeats is gone.
    """
    import torch  # more than a second to import: a champion without a comparison needs no model

    from sentiflow.models.model import Model

    uri = str(version)
    if lineage.has_seen_test(record):
        of, name, what = record["refit"]["of"], version.name, f"the run that {version} repeats"
        known = model_registry.find(name, of["fingerprint"], tracking_uri=tracking)
        uri, record = model_sources.find(str(known or of["uri"]), tracking=tracking, setting=what)
        if record["fingerprint"] != of["fingerprint"]:
            raise UserError(
                f"{what} is gone: {uri} holds another model",
                hint=f"promote another version of {name}",
            )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    package = model_sources.load(uri, tracking=tracking).to(device)
    return Model(package, uri), package_files.to_input(uri, record)
