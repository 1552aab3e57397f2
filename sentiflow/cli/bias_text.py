"""Bias of word vectors -> text for a terminal, at most 96 columns wide."""

from collections.abc import Sequence
from itertools import zip_longest

from sentiflow.cli.terminal import align, wrap
from sentiflow.words.word_bias import MAX_PARTITIONS, Association, Direction, WordBias

CAVEAT = (
    "These numbers describe the vectors. They repeat which words stood together in the texts that "
    "the vectors were trained on, stereotypes included. They say nothing about people, nor about "
    "what a model does with the vectors. Other words may show more or less."
)

TESTS_CAVEAT = (
    "One in twenty tests of vectors without an association has p below 0.05. Without capital "
    "letters some names are also words, such as bill or ebony."
)
"""Added to ``CAVEAT`` if there are tests."""

_FEW_WORDS = 10
"""Fewer words are listed in one column instead of two."""


def to_text(bias: WordBias) -> str:
    """Write the measures as tables, with their meaning."""
    parts = [_describe_direction(bias.direction)] if bias.direction else []
    parts += [_describe_associations(bias.associations)] if bias.associations else []
    caveat = f"{CAVEAT} {TESTS_CAVEAT}" if bias.associations else CAVEAT
    return "\n\n\n".join([*parts, wrap(caveat)])


def _describe_direction(direction: Direction) -> str:
    """List the words in two columns, the lowest and the highest first; few words in one column."""
    negative, positive, placed = direction.negative, direction.positive, direction.projections
    half = len(placed) if len(placed) < _FEW_WORDS else (len(placed) + 1) // 2
    num_pairs = len(direction.pairs) + len(direction.unknown_pairs)
    cells = [(each.word, f"{each.cosine:+.3f}") for each in placed]
    sides = zip_longest(cells[:half], cells[half:][::-1], fillvalue=("", ""))
    explained = (
        f"Direction from {negative} to {positive}: the main axis of {len(direction.pairs)} of "
        f"{num_pairs} pairs of words, with {direction.variance_fraction:.0%} of their squared "
        f"differences. A word with a cosine below 0 leans to {negative}, above 0 to {positive}."
    )
    head = ("lowest first", "", "highest first" if half < len(placed) else "", "")
    table = align([head, *(left + right for left, right in sides)], "<><>")
    unknown = f"without a vector: {', '.join(direction.unknown)}" if direction.unknown else ""
    return "\n\n".join(filter(None, (wrap(explained), table, wrap(unknown))))


def _describe_associations(associations: Sequence[Association]) -> str:
    explained = (
        "Association tests. d, about -2 to 2: above 0, the first targets are nearer to the first "
        "attributes than the second targets are. p: the share of partitions of the targets (all, "
        f"or {MAX_PARTITIONS:,} random ones) with at least this association; * is below 0.05."
    )
    head = ("", "targets", "attributes", "known", "d", "p", "")
    table = align([head, *map(_describe_association, associations)], "<<<>>><")
    not_made = [
        f"{each.name} is skipped: {each.not_made}" for each in associations if each.not_made
    ]
    return "\n\n".join(filter(None, (wrap(explained), table, "\n".join(not_made))))


def _describe_association(found: Association) -> tuple[str, ...]:
    names = [f"{first.name} / {second.name}" for first, second in (found.targets, found.attributes)]
    cells = (found.name, *names, f"{found.num_known}/{found.num_words}")
    if found.effect_size is None or found.p_value is None:
        return (*cells, "-", "-", "")
    p_value = "<0.0001" if found.p_value < 1e-4 else f"{found.p_value:.4f}"
    mark = "*" if found.p_value < 0.05 else " "
    partitions = "all" if found.is_exact else "random"
    return (*cells, f"{found.effect_size:+.2f}", p_value, f"{mark} {partitions}")
