"""Candidate and champion of a registry -> the better one as champion, by the same test rows."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import NEGATIVE, POSITIVE
from sentiflow.errors import UserError
from sentiflow.metrics import paired
from sentiflow.progress import Progress
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking import recording, registry
from sentiflow.tracking.registry import CANDIDATE, CHAMPION, ResolvedModel

_TEST_ROWS = "tweets/split=test"


@dataclass(frozen=True)
class Comparison:
    """Two models on the same test rows; the champion is None if there is none yet."""

    num_rows: int
    candidate_accuracy: float
    champion_accuracy: float | None
    only_candidate_right: int
    """Rows; with the next figure the discordant pairs of McNemar's test."""
    only_champion_right: int
    p_value: float | None = None
    """Of McNemar's test that both are right equally often; it does not decide."""

    @property
    def candidate_is_better(self) -> bool:
        """Say whether more answers of the candidate are right; at a tie they are not."""
        return self.champion_accuracy is None or self.candidate_accuracy > self.champion_accuracy


@dataclass(frozen=True)
class Promotion:
    """What came of asking for a promotion."""

    name: str
    candidate: int
    champion: int | None
    """Before."""
    comparison: Comparison | None
    """None: the candidate is the champion already."""
    promoted: bool
    aliases: dict[str, int]
    """Now."""

    @property
    def refused(self) -> bool:
        """Say whether the champion stays because the candidate is not better."""
        return self.comparison is not None and not self.promoted

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON values."""
        return asdict(self)


def promote(config: Config, *, version: int | None = None, force: bool = False) -> Promotion:
    """Make a version the champion if it is the first one, or beats the present one.

    Both score the labelled rows of the test split of ``train.prepared_uri``; what they reach is
    tagged on them.

    Args:
        config: Names the registered model, the store and the prepared data.
        version: The one to promote; the candidate by default.
        force: Promote it whatever comes out.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled row to compare by.
        JobError: The store cannot be reached, or refuses.
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
    comparison = _compare(config, models)
    promoted = force or comparison.candidate_is_better
    if promoted:
        registry.set_alias(candidate.version, CHAMPION, tracking_uri=uri)
        aliases[CHAMPION] = number
    return Promotion(config.name, number, present, comparison, promoted=promoted, aliases=aliases)


def to_text(promotion: Promotion) -> str:
    """Say in a few lines what came of one that was not refused."""
    new, old = f"version {promotion.candidate}", f"version {promotion.champion}"
    if promotion.comparison is None:
        return f"{new} of {promotion.name} is the champion already"
    found = promotion.comparison
    lines = [
        f"{new} is the champion of {promotion.name} now",
        f"  {new}: test accuracy {found.candidate_accuracy:.4f}, {found.num_rows:,} rows",
    ]
    if found.champion_accuracy is not None:
        lines += [
            f"  {old}: test accuracy {found.champion_accuracy:.4f}, the same rows",
            f"  right only by {new}: {found.only_candidate_right:,} rows; "
            f"only by {old}: {found.only_champion_right:,}{_write_p(found)}",
        ]
    aliases = ", ".join(f"{alias} is version {n}" for alias, n in promotion.aliases.items())
    return "\n".join([*lines, f"  {aliases}"])


def explain_refusal(promotion: Promotion) -> str:
    """Say in one line why a candidate was not promoted."""
    found = promotion.comparison
    assert found is not None, "it was compared"
    return (
        f"version {promotion.candidate} of {promotion.name} does not beat the champion, version "
        f"{promotion.champion}: test accuracy {found.candidate_accuracy:.4f} against "
        f"{found.champion_accuracy:.4f} on {found.num_rows:,} rows{_write_p(found)}; --force "
        "promotes it all the same"
    )


def _write_p(found: Comparison) -> str:
    return "" if found.p_value is None else f" (McNemar's test: {paired.write_p(found.p_value)})"


def _compare(config: Config, models: list[ResolvedModel]) -> Comparison:
    prepared_uri = config.train.prepared_uri
    prepared = manifest.require(prepared_uri, stage="prepare", setting="train.prepared_uri")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    packages = [registry.load(model).to(device) for model in models]
    batches = [
        [package.score(text).prediction == label for package in packages]
        for text, label in _test_rows(prepared_uri, prepared)
    ]
    if not batches:
        raise UserError(
            f"{prepared_uri} has no labelled row in its test split", hint="set train.prepared_uri"
        )
    right = [np.concatenate(answers) for answers in zip(*batches, strict=True)]
    accuracies = [float(answers.mean()) for answers in right]
    for model, accuracy in zip(models, accuracies, strict=True):
        _tag(model, accuracy, len(right[0]), prepared["fingerprint"])
    if len(models) == 1:
        return Comparison(len(right[0]), accuracies[0], None, 0, 0)
    new, old = right
    only_new, only_old = int((new & ~old).sum()), int((old & ~new).sum())
    p_value = paired.mcnemar(only_old, only_new)
    return Comparison(len(new), accuracies[0], accuracies[1], only_new, only_old, p_value)


def _test_rows(uri: str, prepared: Manifest) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """Read the texts and labels of the test split that are labelled negative or positive."""
    files = [item for item in prepared["files"] if item["path"].startswith(f"{_TEST_ROWS}/")]
    total = sum(item["rows"] for item in files)
    with Progress("promote", total=total, unit="rows") as progress:
        for item in files:
            table = filesystem.read_parquet(join(uri, item["path"]), columns=["text", "label"])
            binary = pc.is_in(table["label"], value_set=pa.array([NEGATIVE, POSITIVE], pa.int8()))
            rows = table.filter(binary).combine_chunks()
            if len(rows):
                yield rows["text"].combine_chunks(), rows["label"].to_numpy()
            progress.advance(len(table))


def _tag(model: ResolvedModel, accuracy: float, num_rows: int, data: str) -> None:
    assert model.version is not None, "it was found by alias or number"
    tags = {
        "sentiflow.test_accuracy": f"{accuracy:.6f}",
        "sentiflow.test_rows": str(num_rows),
        "sentiflow.test_data": data,
    }
    registry.set_tags(model.version, tags, tracking_uri=model.tracking_uri)
