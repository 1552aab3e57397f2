"""Candidate and champion of a registered model -> the better one on the test rows as champion."""

from dataclasses import dataclass, replace

import jinja2

from sentiflow.config.sections import Config, PromoteSettings
from sentiflow.data import manifest
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import challenge, lineage
from sentiflow.evaluation.challenge import ChampionTest
from sentiflow.metrics import paired
from sentiflow.tracking import mlflow_store, registry
from sentiflow.tracking.registry import CANDIDATE, CHAMPION, ResolvedModel

_TEST_DATA = "sentiflow.test_data"
"""Tag of a version: fingerprint of the prepared data that it was last judged on."""


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion; ``dataclasses.asdict`` of it is JSON."""

    name: str
    candidate: int
    champion: int | None
    """The version before the promotion, if there was one."""
    comparison: ChampionTest | None
    """None: the candidate is the champion already, or its refit."""
    promoted: bool
    aliases: dict[str, int]
    """Versions by alias, after the promotion."""
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
    trained on. The candidate is better by the rules of :func:`find_objection`. Their accuracies are
    tagged on the versions. A refit that has learned the test rows is judged by the run that it
    repeats; if this is the champion, it has passed already.

    Args:
        config: Names the registered model, the store and the prepared data, and has the rules.
        version: The version to promote. Default: the candidate.
        force: Promote it even if it is not better.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row that neither
            was trained on.
        JobError: The store cannot be reached, or refuses the change.
    """
    uri = mlflow_store.default_uri(config.tracking.uri)
    aliases = registry.read_aliases(config.name, tracking_uri=uri)
    if version is None and CANDIDATE not in aliases:
        raise UserError(
            f"{config.name} has no candidate",
            hint="sentiflow run registers one, on its own test rows; or --version N",
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
    test = None if _repeats(candidate, models[-1]) else _judge(config, models)
    objection = find_objection(test, config.promote) if test else ""
    if is_promoted := force or not objection:
        registry.set_alias(candidate.version, CHAMPION, tracking_uri=uri)
        aliases[CHAMPION] = number
    return Promotion(
        config.name, number, present, test, is_promoted, aliases=aliases, objection=objection,
        refits=tuple(
            m.version.number for m in models if m.version and lineage.has_seen_test(m.record)
        ),
    )  # fmt: skip


def _repeats(candidate: ResolvedModel, champion: ResolvedModel) -> bool:
    """Say whether the candidate is a refit of the champion that has learned the test rows."""
    if not lineage.has_seen_test(candidate.record):
        return False
    return bool(candidate.record["refit"]["of"]["fingerprint"] == champion.record["fingerprint"])


def find_objection(test: ChampionTest, rules: PromoteSettings) -> str:
    """Say why a candidate does not replace the champion; empty if it does.

    Its accuracy is to be higher, by at least ``min_gain``, and beyond chance. At a tie the champion
    stays.
    """
    if test.difference is None:
        return ""
    gain, p_value = test.difference.value, test.p_value or 0.0
    if gain <= 0:
        return "its accuracy is no higher"
    if gain < rules.min_gain:
        return f"its gain of {gain:.4f} is below promote.min_gain ({rules.min_gain})"
    if p_value > rules.max_p_value:
        return (
            f"its gain of {gain:.4f} may be chance: {paired.write_p(p_value)} is above "
            f"promote.max_p_value ({rules.max_p_value})"
        )
    return ""


def to_text(promotion: Promotion) -> str:
    """Describe a promotion in a few lines, a refusal in one."""
    environment = jinja2.Environment(  # noqa: S701  the text is not HTML
        loader=jinja2.PackageLoader("sentiflow.evaluation"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["p"] = paired.write_p
    template = environment.get_template("promotion.txt.j2")
    lines = template.render(found=promotion, binary=BINARY).splitlines()
    return ("; " if promotion.refused else "\n  ").join(lines)


def _judge(config: Config, models: list[ResolvedModel]) -> ChampionTest:
    """Measure one or two models on the test rows, tag their accuracies, and count all judged."""
    uri = config.train.prepared_uri
    test = challenge.measure(uri, models)
    data = manifest.require(uri, stage="prepare", setting="train.prepared_uri")["fingerprint"]
    accuracies = (test.candidate_accuracy, test.champion_accuracy)
    for model, accuracy in zip(models, accuracies, strict=False):
        assert model.version is not None, "it was found by alias or number"
        tags = {_TEST_DATA: data}
        if not lineage.has_seen_test(model.record):
            tags["sentiflow.test_accuracy"] = f"{accuracy:.6f}"
            tags["sentiflow.test_rows"] = str(test.num_rows)
        registry.describe(model.version, tags=tags, tracking_uri=model.tracking_uri)
    tracking_uri = models[0].tracking_uri
    judged = registry.find_tagged(config.name, _TEST_DATA, data, tracking_uri=tracking_uri)
    return replace(test, num_judged=len(judged))
