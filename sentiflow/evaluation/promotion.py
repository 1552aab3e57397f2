"""Candidate and champion of a registered model -> the better one on the test rows as champion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.comparison import compare_accuracy
from sentiflow.evaluation.evaluated_rows import name_any
from sentiflow.metrics import paired
from sentiflow.metrics.classification import count_confusion, label_shares
from sentiflow.models.package import ModelPackage
from sentiflow.progress import Progress
from sentiflow.tracking import recording, registry
from sentiflow.tracking.registry import CANDIDATE, CHAMPION, ResolvedModel

_TEST_ROWS = ("tweets/split=test/",)


@dataclass(frozen=True)
class ChampionTest:
    """Candidate and champion on the same test rows."""

    num_rows: int
    candidate_accuracy: float
    champion_accuracy: float | None
    """None if there is no champion yet."""
    only_candidate_right: int
    """Rows on which only the candidate is right."""
    only_champion_right: int
    p_value: float | None = None
    """The p-value of McNemar's test that both are right equally often. It does not decide."""
    candidate_f1_macro: float | None = None
    """Macro F1 of the classes that both models have."""
    champion_f1_macro: float | None = None
    f1_macro_difference: paired.Difference | None = None
    """The candidate's macro F1 minus the champion's; None without a champion, or if undefined."""
    classes: tuple[str, ...] = ()
    """Classes that the models have; rows of others are not compared."""
    other_classes: tuple[str, ...] = ()
    """Classes that only one of the two has; a prediction of such a class counts as wrong."""


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion; ``dataclasses.asdict`` of it is JSON."""

    name: str
    candidate: int
    champion: int | None
    """The version before the promotion, if there was one."""
    comparison: ChampionTest | None
    """None: the candidate is the champion already."""
    promoted: bool
    aliases: dict[str, int]
    """Versions by alias, after the promotion."""

    @property
    def refused(self) -> bool:
        """Say whether the champion stays because the candidate is not better."""
        return self.comparison is not None and not self.promoted

    def __str__(self) -> str:
        return to_text(self).replace("--force", "force=True")


def promote(config: Config, *, version: int | None = None, force: bool = False) -> Promotion:
    """Make a version the champion if there is none, or it is better than the champion.

    Both score the labelled rows of the test split of ``train.prepared_uri``. The better one has the
    higher accuracy; at a tie the champion stays. Their accuracies are tagged on the versions.

    Args:
        config: Names the registered model, the store and the prepared data.
        version: The version to promote. Default: the candidate.
        force: Promote it even if it is not better.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row.
        JobError: The store cannot be reached, or refuses the change.
    """
    uri = recording.default_uri(config.tracking.uri)
    aliases = registry.read_aliases(config.name, tracking_uri=uri)
    if version is None and CANDIDATE not in aliases:
        raise UserError(
            f"{config.name} has no candidate", hint="sentiflow run registers one; or --version N"
        )
    wanted = f"@{CANDIDATE}" if version is None else f"/{version}"
    candidate = registry.resolve(f"models:/{config.name}{wanted}", tracking_uri=uri)
    assert candidate.version is not None, "an alias and a number name versions"
    number, present = candidate.version.number, aliases.get(CHAMPION)
    if present == number:
        return Promotion(config.name, number, present, None, promoted=False, aliases=aliases)
    models = [candidate]
    if present is not None:
        models.append(registry.resolve(f"models:/{config.name}@{CHAMPION}", tracking_uri=uri))
    test = _compare(config, models)
    is_better = test.champion_accuracy is None or test.candidate_accuracy > test.champion_accuracy
    if force or is_better:
        registry.set_alias(candidate.version, CHAMPION, tracking_uri=uri)
        aliases[CHAMPION] = number
    return Promotion(
        config.name, number, present, test, promoted=force or is_better, aliases=aliases
    )


def to_text(promotion: Promotion) -> str:
    """Describe a promotion in a few lines, a refusal in one."""
    new, old = f"version {promotion.candidate}", f"version {promotion.champion}"
    found = promotion.comparison
    if found is None:
        return f"{new} of {promotion.name} is the champion already"
    p = "" if found.p_value is None else f" (McNemar's test: {paired.write_p(found.p_value)})"
    f1 = _describe_f1(found)
    if promotion.refused:
        return (
            f"{new} of {promotion.name} does not beat the champion, {old}: test accuracy "
            f"{found.candidate_accuracy:.4f} against {found.champion_accuracy:.4f} on "
            f"{found.num_rows:,} rows{p}{f1}; --force promotes it all the same"
        )
    lines = [
        f"{new} is the champion of {promotion.name} now",
        f"  {new}: test accuracy {found.candidate_accuracy:.4f}, {found.num_rows:,} rows",
    ]
    if found.champion_accuracy is not None:
        lines += [
            f"  {old}: test accuracy {found.champion_accuracy:.4f}, the same rows",
            f"  right only by {new}: {found.only_candidate_right:,} rows; "
            f"only by {old}: {found.only_champion_right:,}{p}",
        ]
        lines += [f"  {f1.removeprefix('; ')}"] if f1 else []
    aliases = ", ".join(f"{alias} is version {n}" for alias, n in promotion.aliases.items())
    return "\n".join([*lines, f"  {aliases}"])


def _compare(config: Config, models: list[ResolvedModel]) -> ChampionTest:
    """Score the test rows with one or two models, and tag their accuracies on them."""
    uri = config.train.prepared_uri
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    packages = [registry.load(model).to(device) for model in models]
    common, others = _list_classes([package.settings.classes for package in packages])
    label, predictions = _predict_test_rows(uri, prepared, packages, common, others)
    right = [prediction == label for prediction in predictions]
    accuracies = [float(rows.mean()) for rows in right]
    for model, accuracy in zip(models, accuracies, strict=True):
        assert model.version is not None, "it was found by alias or number"
        tags = {
            "sentiflow.test_accuracy": f"{accuracy:.6f}",
            "sentiflow.test_rows": str(len(right[0])),
            "sentiflow.test_data": prepared["fingerprint"],
        }
        registry.set_tags(model.version, tags, tracking_uri=model.tracking_uri)
    f1 = [_macro_f1(label, each, len(common), len(others)) for each in predictions]
    if len(models) == 1:
        return ChampionTest(
            len(label), accuracies[0], None, 0, 0, candidate_f1_macro=f1[0], classes=common
        )
    _, counts = compare_accuracy(*right)
    return ChampionTest(
        len(right[0]),
        accuracies[0],
        accuracies[1],
        counts.only_first_right,
        counts.only_second_right,
        counts.p_value,
        f1[0],
        f1[1],
        paired.f1_macro_difference(
            label=label,
            first=predictions[1],
            second=predictions[0],
            num_classes=len(common) + len(others),
            num_compared=len(common),
        ),
        common,
        others,
    )


def _list_classes(
    of_models: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the classes that all models have, and the others.

    Raises:
        UserError: Fewer than two are common.
    """
    first, last = of_models[0], of_models[-1]
    common = tuple(name for name in first if name in last)
    if len(common) < 2:
        raise UserError(
            "candidate and champion have fewer than two classes in common: "
            f"{', '.join(first)}; {', '.join(last)}",
            hint="--version N of the same classes, or another name",
        )
    return common, tuple(name for name in dict.fromkeys((*first, *last)) if name not in common)


def _predict_test_rows(
    uri: str,
    prepared: Manifest,
    packages: Sequence[ModelPackage],
    common: tuple[str, ...],
    others: tuple[str, ...],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Read the labels of the test rows and predict them, as positions in the named classes.

    Raises:
        UserError: No test row is labelled with a common class.
    """
    names, classes = manifest.find_classes(prepared), (*common, *others)
    codes = np.array([classes.index(n) if n in common else -1 for n in names], np.int8)
    positions = [
        np.array([classes.index(name) for name in package.settings.classes], np.int8)
        for package in packages
    ]
    batches = []
    for rows in _test_rows(uri, prepared, np.flatnonzero(codes >= 0).tolist()):
        text = rows["text"].combine_chunks()
        found = [package.score(text).prediction for package in packages]
        batches.append(
            [
                codes[rows["label"].to_numpy()],
                *(of_model[each] for of_model, each in zip(positions, found, strict=True)),
            ]
        )
    if not batches:
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    label, *predictions = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return label, predictions


def _macro_f1(
    label: np.ndarray, prediction: np.ndarray, num_compared: int, num_others: int
) -> float:
    """Average the F1 of the first classes, as far as they occur."""
    counts = count_confusion(label, prediction, num_labels=num_compared + num_others)
    return float(np.nanmean(label_shares(counts)[2][:num_compared]))


def _describe_f1(found: ChampionTest) -> str:
    """Describe the macro F1 of models of other classes than negative and positive."""
    if (found.classes, found.other_classes) == (BINARY, ()) or found.champion_f1_macro is None:
        return ""
    text = f"; macro F1 {found.candidate_f1_macro:.4f} against {found.champion_f1_macro:.4f}"
    if difference := found.f1_macro_difference:
        text += f" (difference {difference.low:+.4f} to {difference.high:+.4f})"
    if found.other_classes:
        text += (
            f"; compared on rows labelled {name_any(found.classes)}, as only one of the two has "
            + ", ".join(found.other_classes)
        )
    return text


def _test_rows(uri: str, prepared: Manifest, labels: list[int]) -> Iterator[pa.Table]:
    """Read texts and labels of the test rows with some labels."""
    numbers = [item["rows"] for item in prepared["files"] if item["path"].startswith(_TEST_ROWS)]
    columns, hint = ["text", "label"], "prepare again with sentiflow prepare CONFIG --overwrite"
    with Progress("promote", total=sum(filter(None, numbers)), unit="rows") as progress:
        for table in lineage.read_tables(uri, prepared, _TEST_ROWS, columns=columns, hint=hint):
            if len(rows := table.filter(pc.field("label").isin(labels)).combine_chunks()):
                yield rows
            progress.advance(len(table))
