"""Bias of word vectors -> text for a terminal, at most 96 columns wide."""

from itertools import zip_longest

from sentiflow.cli.terminal import fill
from sentiflow.words.word_bias import MAX_PARTITIONS, Association, Direction, WordBias

_FEW_WORDS = 10
"""Fewer words are listed in one column instead of two."""


def to_text(bias: WordBias) -> str:
    """Write the measures as tables, with their meaning."""
    titles = ("", "targets", "attributes", "known", "d", "p", "")
    return fill(
        "word_bias.txt.j2",
        direction=bias.direction,
        placed=_list_words(bias.direction) if bias.direction else [],
        associations=bias.associations,
        tests=[titles, *map(_describe_association, bias.associations)],
        max_partitions=MAX_PARTITIONS,
    )


def _list_words(direction: Direction) -> list[tuple[str, ...]]:
    """List the words in two columns, the lowest and the highest first; few words in one column."""
    cells = [(each.word, f"{each.cosine:+.3f}") for each in direction.projections]
    half = len(cells) if len(cells) < _FEW_WORDS else (len(cells) + 1) // 2
    sides = zip_longest(cells[:half], cells[half:][::-1], fillvalue=("", ""))
    titles = ("lowest first", "", "highest first" if half < len(cells) else "", "")
    return [titles, *(left + right for left, right in sides)]


def _describe_association(found: Association) -> tuple[str, ...]:
    names = [f"{first.name} / {second.name}" for first, second in (found.targets, found.attributes)]
    cells = (found.name, *names, f"{found.num_known}/{found.num_words}")
    if found.effect_size is None or found.p_value is None:
        return (*cells, "-", "-", "")
    p_value = "<0.0001" if found.p_value < 1e-4 else f"{found.p_value:.4f}"
    mark = "*" if found.p_value < 0.05 else " "
    partitions = "all" if found.is_exact else "random"
    return (*cells, f"{found.effect_size:+.2f}", p_value, f"{mark} {partitions}")
