"""Candidate and champion of a registered model -> the better version as champion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sentiflow.config import submitter
from sentiflow.config.class_names import set_apart
from sentiflow.config.sections import Config
from sentiflow.data.schema import BINARY
from sentiflow.errors import UserError
from sentiflow.evaluation import champion_figures, champion_test, contenders, promotion_records
from sentiflow.evaluation.champion_figures import ChampionTest
from sentiflow.evaluation.contenders import Contender
from sentiflow.evaluation.page_templates import open_template
from sentiflow.evaluation.promotion_records import PromotionRecord
from sentiflow.metrics import paired
from sentiflow.metrics.registry import find_metric
from sentiflow.progress import Progress
from sentiflow.tracking import mlflow_store, model_registry

MAX_P_VALUE = 0.05
"""Two-sided limit for the test that the headline of both models is equal, for the first comparison
on some test rows. Of accuracy it is McNemar's exact test, or the test by author. :func:`find_limit`
has the limits of later comparisons."""


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion; ``dataclasses.asdict`` of it is JSON."""

    name: str
    """Name of the registered model."""
    candidate: int
    """The version to promote: the one with the alias ``candidate``, or the one that was named."""
    champion: int | None
    """The version that was the champion before; None if there was none."""
    comparison: ChampionTest | None
    """None if the candidate is the champion already or its refit, or was promoted by force."""
    promoted: bool
    """Whether this promotion made the candidate the champion."""
    aliases: dict[str, int]
    """Versions by alias, after the promotion."""
    is_forced: bool = False
    """Whether the candidate was promoted by force, without a comparison."""
    objection: str = ""
    """Why the candidate is not better than the champion; empty if it is better, or if there was no
    comparison with a champion."""
    refits: tuple[int, ...] = ()
    """Versions that have learned the test rows. Each was judged by the run that it repeats."""
    record: PromotionRecord | None = None
    """Who made the present champion the champion, and when; None if its alias was set in another
    way than by a promotion, or by an earlier version of sentiflow."""
    earlier_record: PromotionRecord | None = None
    """The same of the champion that this promotion has replaced."""

    @property
    def refused(self) -> bool:
        """Say whether the champion stays because the candidate is not better."""
        return self.comparison is not None and not self.promoted

    def __str__(self) -> str:
        return to_text(self, force_option="force=True")


def promote(config: Config, *, version: int | None = None, force: bool = False) -> Promotion:
    """Make a version the champion if there is no champion, or if it is better than the champion.

    Both score the labelled rows of the test split of ``train.prepared_uri`` whose texts neither was
    trained on. The candidate is better by the rules of :func:`find_objection`, which judge by
    ``evaluate.headline``. Their figures and the comparison are tagged on the versions, so the same
    comparison is not made twice. The new champion is tagged with the person who promoted it, and
    the time.

    For a refit that has learned the test rows, the run that it repeats is judged. If this run is
    the champion, the refit needs no comparison.

    Args:
        config: Names the registered model, the store and the prepared data.
        version: The version to promote. Default: the one with the alias ``candidate``.
        force: Promote it without a comparison.

    Raises:
        UserError: There is no candidate, no prepared data, or no labelled test row that neither
            was trained on; or MLflow's user lacks a permission.
        JobError: The store cannot be reached, or refuses the change.
    """
    name = config.name
    tracking_uri = mlflow_store.default_uri(config.tracking.uri)
    with Progress("promote", what="looking up candidate and champion"):
        aliases = model_registry.read_aliases(name, tracking_uri=tracking_uri)
    champion = aliases.get(model_registry.CHAMPION)
    promotion = Promotion(
        name=name,
        candidate=_find_candidate(name, aliases) if version is None else version,
        champion=champion,
        comparison=None,
        promoted=False,
        aliases=aliases,
        record=None if champion is None else _read_record(name, champion, tracking_uri),
    )
    if promotion.champion == promotion.candidate:
        return promotion
    numbers = [promotion.candidate]
    if promotion.champion is not None and not force:
        numbers.append(promotion.champion)
    near = config.train.prepared_uri
    with Progress("promote", what="looking up candidate and champion"):
        found = [contenders.resolve(name, number, tracking_uri, near=near) for number in numbers]
    test = None
    if not force and not _repeats_champion(found):
        test = _compare(config, found, tracking_uri)
    judged = replace(
        promotion,
        comparison=test,
        is_forced=force,
        objection=find_objection(test) if test else "",
        refits=tuple(each.version.number for each in found if each.has_seen_test),
    )
    if judged.objection:
        return judged
    user = submitter.find(config.tracking.user)
    return _make_champion(judged, found[0].version, by=user, tracking_uri=tracking_uri)


def _read_record(name: str, number: int, tracking_uri: str) -> PromotionRecord | None:
    """Read who made the present champion the champion; None if it is unknown."""
    return promotion_records.read(model_registry.Version(name, number), tracking_uri=tracking_uri)


def _compare(config: Config, found: Sequence[Contender], tracking_uri: str) -> ChampionTest:
    """Compare candidate and champion, and tag the person who did so on the candidate.

    The tag is the first change in the store: without the permission, no text is scored in vain.
    """
    tags = {promotion_records.JUDGED_BY: submitter.find(config.tracking.user)}
    model_registry.describe(found[0].version, tags=tags, tracking_uri=tracking_uri)
    return champion_test.compare_contenders(
        config.train.prepared_uri, found, tracking_uri, headline=config.evaluate.headline
    )


def _make_champion(
    judged: Promotion, candidate: model_registry.Version, *, by: str, tracking_uri: str
) -> Promotion:
    """Give a version the alias of the champion, and tag who did so and why."""
    with Progress("promote", what=f"setting the alias {model_registry.CHAMPION}"):
        model_registry.set_alias(candidate, model_registry.CHAMPION, tracking_uri=tracking_uri)
    record = promotion_records.write(
        candidate, by=by, reason=_explain(judged), tracking_uri=tracking_uri
    )
    return replace(
        judged,
        promoted=True,
        aliases=judged.aliases | {model_registry.CHAMPION: judged.candidate},
        record=record,
        earlier_record=judged.record,
    )


def _explain(judged: Promotion) -> str:
    """Say in a few words why a version becomes the champion, for a tag."""
    place = "the first champion"
    if judged.champion is not None:
        place = f"in place of version {judged.champion}"
    if judged.is_forced:
        return f"{place}, without a comparison"
    if judged.comparison is None:
        return f"{place}, whose refit it is"
    headline = judged.comparison.headline
    outcome = headline.write_outcome()
    if outcome:
        return f"{place}, {outcome}"
    return f"{place}, test {headline.phrase} {champion_figures.write_value(headline.candidate)}"


def _find_candidate(name: str, aliases: Mapping[str, int]) -> int:
    """Return the version with the alias ``candidate``.

    Raises:
        UserError: No version has it.
    """
    if model_registry.CANDIDATE not in aliases:
        raise UserError(
            f"{name} has no candidate",
            hint="sentiflow run registers one, if it evaluates on its own test rows; or name a "
            "version: --version N",
        )
    return aliases[model_registry.CANDIDATE]


def find_limit(num_compared: int) -> float:
    """Return the limit of the p-value for the nth version that is compared on some test rows.

    It is ``MAX_P_VALUE`` / n². Only a gain counts, so a candidate that is no better is promoted
    with a probability of at most half the limit. The sum over all n is 0.025 · π² / 6 = 0.0411: for
    any number of versions, the probability that a champion is ever replaced by a model that is no
    better is below 4.2%. This is the inequality of C. E. Bonferroni with unequal parts (D. P.
    Foster and R. A. Stine, "Alpha-investing: a procedure for sequential control of expected false
    discoveries", Journal of the Royal Statistical Society B 70, 2008, section 2).

    Args:
        num_compared: n, this version included; 0 counts as 1.

    Example:
        >>> [round(find_limit(number), 6) for number in (1, 2, 20)]
        [0.05, 0.0125, 0.000125]
    """
    return float(MAX_P_VALUE / max(num_compared, 1) ** 2)


def find_objection(test: ChampionTest) -> str:
    """Return why a candidate does not replace the champion; empty if it does.

    The headline, which is the accuracy by default, must be better, beyond chance. At a tie the
    champion stays.
    """
    headline = test.headline
    if test.champion_accuracy is None:  # there is no champion
        return ""
    if headline.difference is None or headline.gain is None:
        return f"the {headline.phrase} of the two is undefined on these rows"
    if headline.gain <= 0:
        direction = "higher" if find_metric(headline.metric).higher_is_better else "lower"
        return f"its {headline.phrase} is no {direction}"
    p_value = headline.difference.p_value
    assert p_value is not None, "a difference has a p-value"
    limit = find_limit(test.num_compared)
    if p_value <= limit:
        return ""
    objection = (
        f"its gain of {headline.gain:.4f} may be chance: {paired.write_p(p_value)} is above "
        f"{limit:.2g}"
    )
    if test.num_compared > 1:
        objection += (
            f", the limit of comparison {test.num_compared} on the same test rows; new test rows "
            "begin with the first limit again"
        )
    return objection


def to_text(promotion: Promotion, *, force_option: str = "--force") -> str:
    """Describe a promotion in a few lines, a refusal in one.

    Args:
        promotion: The promotion.
        force_option: How the reader promotes a version without a comparison: an option of the
            command, or an argument in Python.
    """
    left_out = []
    if promotion.comparison:
        rows_of_class = promotion.comparison.left_out
        left_out = [f"{set_apart(name)} {num:,}" for name, num in rows_of_class.items()]
    filters = {"write_value": champion_figures.write_value}
    text = open_template("promotion.txt.j2", filters).render(
        promotion=promotion, binary=BINARY, left_out=left_out, force_option=force_option
    )
    # Each line of the template is a statement. A refusal is an error, and thus one line of a log.
    separator = "; " if promotion.refused else "\n  "
    return separator.join(text.splitlines())


def _repeats_champion(found: Sequence[Contender]) -> bool:
    """Say whether the candidate is a refit of the champion, and has learned the test rows.

    Args:
        found: The candidate, and the champion if there is one.
    """
    candidate, *champions = found
    if not candidate.has_seen_test:
        return False
    repeated = candidate.record["refit"]["of"]["fingerprint"]
    return any(champion.record["fingerprint"] == repeated for champion in champions)
