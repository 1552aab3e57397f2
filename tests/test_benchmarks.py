"""The benchmarks of growth: their fits, and that they run; the draws of published corpora."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
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


@pytest.fixture
def corpora(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import published_corpora

    return published_corpora


def test_each_row_is_answered_in_one_fold_by_a_model_of_the_other_rows(corpora):
    rows = pd.DataFrame({"text": [f"text {number}" for number in range(23)], "label": "a"})
    draws = corpora.draw_folds(rows, 5)
    answered = pd.concat([draw.test for draw in draws])
    assert sorted(answered["text"]) == sorted(rows["text"])
    for draw in draws:
        assert sorted([*draw.train["text"], *draw.test["text"]]) == sorted(rows["text"])


def test_reviews_are_drawn_in_equal_numbers_and_no_text_twice(corpora):
    numbers = range(1000)
    reviews = pd.DataFrame(
        {
            "review": [f"review {number % 900}" for number in numbers] + [" "],
            "rating": [1 + number % 10 for number in numbers] + [1],
        }
    )
    draws = corpora.draw_reviews(
        reviews, num_train=40, num_test=20, num_draws=2, num_unlabelled=100
    )
    labelled = []
    for draw in draws:
        assert draw.train["label"].value_counts().to_dict() == {"negative": 20, "positive": 20}
        assert draw.test["label"].value_counts().to_dict() == {"negative": 10, "positive": 10}
        assert not draw.train["label"].is_monotonic_increasing
        texts = [*draw.train["text"], *draw.test["text"]]
        assert len({*texts, *draw.unlabelled}) == 160
        labelled += texts
    assert len(set(labelled)) == 120
    rating = dict(zip(reviews["review"], reviews["rating"], strict=True))
    assert {rating[text] for text in draws[0].unlabelled} == set(range(1, 11))
    for draw in draws:
        for text, label in zip(draw.test["text"], draw.test["label"], strict=True):
            assert rating[text] in {"negative": (1, 2, 3, 4), "positive": (9, 10)}[label]


def test_too_few_reviews_are_named(corpora):
    reviews = pd.DataFrame({"review": [str(number) for number in range(20)], "rating": 1})
    with pytest.raises(SystemExit, match="need more than 20 negative reviews"):
        corpora.draw_reviews(reviews, num_train=40, num_test=20, num_draws=1, num_unlabelled=0)


def test_joint_draws_keep_the_order_of_the_corpora(corpora):
    parts = []
    for name in ("first", "second"):
        rows = pd.DataFrame({"text": [f"{name} {number}" for number in range(8)], "label": name})
        parts.append(corpora.Corpus(name, corpora.draw_folds(rows, 2)))
    joint = corpora.join(parts)
    assert joint.name == "first+second"
    for number, draw in enumerate(joint.draws):
        expected = [*parts[0].draws[number].test["text"], *parts[1].draws[number].test["text"]]
        assert draw.test["text"].tolist() == expected


def test_corpora_lie_in_a_folder_of_their_own_or_beside_the_reviews(corpora, tmp_path):
    for name in ("own.csv", "long_reviews.csv.gz"):
        (tmp_path / name).touch()
    assert list(corpora.find_files(tmp_path)) == ["own", "long"]
    (tmp_path / "published").mkdir()
    (tmp_path / "published/tweets.csv").touch()
    assert list(corpora.find_files(tmp_path)) == ["tweets", "long"]


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
