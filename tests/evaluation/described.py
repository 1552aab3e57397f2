"""Rows with texts as the evaluation takes them: by split, with what is kept of each text."""

import pyarrow.compute as pc

from sentiflow.data.arrays import one_array
from sentiflow.evaluation import evaluated_rows, measurements, mistakes, text_traits


def describe(rows, settings, *, patterns=None):
    """Return the rows by split and the sample, as ``measurements.measure`` takes them."""
    by_split = evaluated_rows.divide_by_split(rows)
    split = evaluated_rows.headline_split(list(by_split))
    found = text_traits.describe_table(by_split[split], settings=settings, patterns=patterns or {})
    return by_split | {split: found.rows}, found.sample


def measure(rows, *, model, patterns=None, **options):
    """Measure rows with texts."""
    by_split, sample = describe(rows, model["settings"], patterns=patterns)
    return measurements.measure(by_split, sample, model=model, patterns=patterns or {}, **options)


def find_mistakes(rows):
    """Find the mistakes among rows of one split, with their texts."""
    settings = {"tokenizer": "tweet", "max_length": 64}
    described = text_traits.describe_table(rows, settings=settings, patterns={}).rows
    found = mistakes.find(described)
    place = pc.index_in(found["row_id"], value_set=rows["row_id"].combine_chunks())
    return mistakes.add_texts(found, rows["text"].combine_chunks().take(one_array(place)))
