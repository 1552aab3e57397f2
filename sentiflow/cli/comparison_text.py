"""Comparison of two models -> text of at most 100 columns, and Markdown for a pull request."""

import textwrap

from sentiflow.cli.terminal import fill, shorten
from sentiflow.evaluation.comparison import METRIC_NAMES, Comparison
from sentiflow.metrics.paired import write_p
from sentiflow.storage.uris import as_typed


def to_text(found: Comparison) -> str:
    """Write a comparison: both runs, settings that differ, metrics, slices, the verdict."""
    return _fill("comparison.txt.j2", found)


def to_markdown(found: Comparison) -> str:
    """Write the verdict, what is worse, the metrics, slices that differ, and settings."""
    return _fill("comparison.md.j2", found) + "\n"


def _fill(template: str, found: Comparison) -> str:
    """Give a template the comparison, what is shown of it, and how to write names and numbers."""
    return fill(
        template,
        c=found,
        metric_names=METRIC_NAMES,
        slices=[item for item in found.slices if item.moved],
        worse=found.regression.worse if found.regression else (),
        settings=[(s.key, shorten(s.first), shorten(s.second)) for s in found.settings or ()],
        as_typed=as_typed,
        cut=_cut,
        escape=_escape_markdown,
        write_p=write_p,
    )


def _cut(name: str) -> str:
    """Cut the long name of a part of the data."""
    return textwrap.shorten(name, 30, placeholder="...")


def _escape_markdown(text: str) -> str:
    """Keep Markdown from reading a name as a table, a tag or a style."""
    for mark in "\\`*_<>|[]#@":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
