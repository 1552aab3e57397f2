"""A map shows every word once, with room for its label."""

import matplotlib as mpl
import numpy as np
import pytest
from test_report import PNG_SIGNATURE

from sentiflow.words import word_charts

SHARES = np.array([0.614, 0.2])


def scattered(num, *, seed=0):
    points = np.random.default_rng(seed).normal(size=(num, 2))
    return [f"word{i}" for i in range(num)], points, SHARES


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that are drawn."""
    figures = []

    def keep(figure):
        figures.append(figure)
        return to_png(figure)

    to_png = word_charts.to_png
    monkeypatch.setattr(word_charts, "to_png", keep)
    return figures


def labels_of(figure):
    """Give the labels in a figure, and the room that each takes."""
    figure.draw_without_rendering()
    found = [text for text in figure.axes[0].texts if text.get_text()]
    return [text.get_text() for text in found], [text.get_window_extent() for text in found]


@pytest.mark.parametrize("num", [1, 12, 90])
def test_every_word_has_a_label_that_no_other_covers(drawn, num):
    words, *projection = scattered(num)
    assert word_charts.draw_map(words, *projection).startswith(PNG_SIGNATURE)
    found, boxes = labels_of(drawn[0])
    assert found == words
    pairs = [(i, j) for i in range(num) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert len(pairs) <= num // 45


def test_the_axes_say_what_they_explain_and_are_to_scale(drawn):
    word_charts.draw_map(*scattered(9))
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "First principal component (61% of the variance)"
    assert axes.get_ylabel() == "Second principal component (20% of the variance)"
    across, up = axes.transData.transform([(1, 0), (0, 1)]) - axes.transData.transform((0, 0))
    assert across[0] == pytest.approx(up[1], rel=0.01)


def test_drawing_twice_gives_the_same_bytes_and_leaves_matplotlib_as_it_was():
    with mpl.rc_context({"font.size": 7}):
        before = dict(mpl.rcParams)
        assert word_charts.draw_map(*scattered(20)) == word_charts.draw_map(*scattered(20))
        assert dict(mpl.rcParams) == before
