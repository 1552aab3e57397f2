"""Candidate and champion of a registered model -> the better one on the test rows as champion."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.comparison import compare_accuracy
from sentiflow.metrics import paired
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
            f"{config.name} has no candidate", hint="sentiflow train registers one; or --version N"
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
    if promotion.refused:
        return (
            f"{new} of {promotion.name} does not beat the champion, {old}: test accuracy "
            f"{found.candidate_accuracy:.4f} against {found.champion_accuracy:.4f} on "
            f"{found.num_rows:,} rows{p}; --force promotes it all the same"
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
    aliases = ", ".join(f"{alias} is version {n}" for alias, n in promotion.aliases.items())
    return "\n".join([*lines, f"  {aliases}"])


def _compare(config: Config, models: list[ResolvedModel]) -> ChampionTest:
    """Score the test rows with one or two models, and tag their accuracies on them."""
    uri = config.train.prepared_uri
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    packages = [registry.load(model).to(device) for model in models]
    batches = [
        [package.score(rows["text"].combine_chunks()).prediction == rows["label"].to_numpy()
         for package in packages]
        for rows in _test_rows(uri, prepared)
    ]  # fmt: skip
    if not batches:
        raise UserError(
            f"{uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    right = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    accuracies = [float(rows.mean()) for rows in right]
    for model, accuracy in zip(models, accuracies, strict=True):
        assert model.version is not None, "it was found by alias or number"
        tags = {
            "sentiflow.test_accuracy": f"{accuracy:.6f}",
            "sentiflow.test_rows": str(len(right[0])),
            "sentiflow.test_data": prepared["fingerprint"],
        }
        registry.set_tags(model.version, tags, tracking_uri=model.tracking_uri)
    if len(models) == 1:
        return ChampionTest(len(right[0]), accuracies[0], None, 0, 0)
    _, counts = compare_accuracy(*right)
    return ChampionTest(
        len(right[0]),
        accuracies[0],
        accuracies[1],
        counts.only_first_right,
        counts.only_second_right,
        counts.p_value,
    )


def _test_rows(uri: str, prepared: Manifest) -> Iterator[pa.Table]:
    """Read texts and labels of the test rows that are labelled negative or positive."""
    numbers = [item["rows"] for item in prepared["files"] if item["path"].startswith(_TEST_ROWS)]
    columns, hint = ["text", "label"], "prepare again with sentiflow prepare CONFIG --overwrite"
    with Progress("promote", total=sum(filter(None, numbers)), unit="rows") as progress:
        for table in lineage.read_tables(uri, prepared, _TEST_ROWS, columns=columns, hint=hint):
            if len(rows := table.filter(pc.field("label") < 2).combine_chunks()):
                yield rows
            progress.advance(len(table))
