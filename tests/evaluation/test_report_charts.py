"""Plots show what there is to show, the same each time."""

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from test_report import ALL_PLOTS, PNG_SIGNATURE, draw, report_data, rows_of

from sentiflow.evaluation import report_charts


@pytest.fixture(scope="module")
def data():
    return report_data(rows_of("test", 300, seed=2), asked=False)


@pytest.fixture(scope="module")
def plots(data):
    return draw(data)


def test_drawing_gives_the_same_pngs_and_leaves_matplotlib_as_it_was(data, plots):
    assert set(plots) == ALL_PLOTS
    assert all(image.startswith(PNG_SIGNATURE) for image in plots.values())
    with mpl.rc_context({"font.size": 7, "savefig.dpi": 50}):
        before = dict(mpl.rcParams)
        assert draw(data) == plots
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("prediction", [0, 1])
def test_a_model_that_is_always_right_or_wrong_is_drawn(prediction, monkeypatch):
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")
    rows = rows_of("test", 60, seed=3)
    probability = np.where(rows["label"].to_numpy() == prediction, 0.9, 0.1).astype(np.float32)
    rows = rows.set_column(5, "probability_positive", pa.array(probability))
    rows = rows.set_column(3, "prediction", pa.array((probability >= 0.5).astype(np.int8)))
    assert set(draw(report_data(rows, asked=False))) == ALL_PLOTS
