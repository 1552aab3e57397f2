"""The benchmarks of growth: their fits, and that they run."""

import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT

FOLDER = PROJECT / "benchmarks"


def run_benchmark(*arguments: object) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import scale

    return scale


SIZES = [100, 200, 400, 800, 1600]


def test_a_line_is_extrapolated_as_a_line(scale):
    fit = scale.Fit.through(SIZES, [50 + 0.25 * size for size in SIZES])
    assert not fit.is_power
    assert fit.grow(1e6) == pytest.approx(0.25 * (1e6 - 100))


def test_a_square_is_extrapolated_as_a_square(scale):
    fit = scale.Fit.through(SIZES, [3 * size**2 for size in SIZES])
    assert fit.is_power
    assert fit.grow(1e6) == pytest.approx(3 * (1e12 - 1e4))


def test_a_start_that_hides_the_growth_does_not_make_it_a_small_power(scale):
    values = [20, 20.1, 20.25, 20.35, 21.6]
    fit = scale.Fit.through(SIZES, values)
    assert not fit.is_power
    assert fit.grow(1e6) > 1000


def test_noise_without_growth_has_an_error_that_covers_it(scale):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        fit = scale.Fit.through(SIZES, 500 + rng.normal(0, 5, len(SIZES)))
        found.append(abs(fit.slope) < 4 * fit.error)
    assert np.mean(found) > 0.9


def test_what_ends_first_is_found(scale):
    fit = scale.Fit.through(SIZES, [500 + 1e-3 * size for size in SIZES])
    model = scale.Model(500.0, {"rows": fit})
    end = scale.find_end(model, 64_000, 0)
    assert end * 1e9 == pytest.approx(63_500 / 1e-3, rel=0.03)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_short_year_runs_with_labels_promotions_and_a_kill():
    arguments = ["--rows", 300, "--weeks", 4, "--labels", 20]
    printed = run_benchmark(FOLDER / "year.py", *arguments)
    assert re.search(r"^ +(killed|it ended before it was killed)$", printed, re.MULTILINE)
    assert len(re.findall(r"^\| \d+ \|", printed, re.MULTILINE)) == 4
    assert re.search(r"^score, CPU seconds .* ratio", printed, re.MULTILINE)
    assert re.search(r"^trends, CPU seconds .* ratio", printed, re.MULTILINE)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_growth_with_groups_is_measured_and_extrapolated():
    printed = run_benchmark(FOLDER / "scale.py", "--small", "--only", "groups")
    for stage in ("score", "trends"):
        assert f"| {stage}, groups |" in printed
        assert re.search(rf"^{stage}: .* rows", printed, re.MULTILINE)
