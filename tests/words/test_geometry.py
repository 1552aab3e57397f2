"""What the tutorial prints of its word vectors, and the laws of distances and neighbors."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sentiflow.errors import UserError
from sentiflow.words import geometry
from sentiflow.words.geometry import find_similar
from sentiflow.words.word_vectors import WordVectors

DISTANCES = {
    "cat": {
        "dog": 1.8846, "pet": 3.0397, "bike": 5.0484, "kitten": 3.5069, "puppy": 3.0645,
        "kite": 4.2104, "computer": 6.0307, "neuron": 6.2287,
    },
    "good": {"bad": 3.3189, "water": 5.3390, "well": 2.7703, "perfect": 2.8834, "bravo": 6.2940},
}  # fmt: skip
SIMILARITIES = {
    "cat": {"dog": 0.9218},
    "good": {"bad": 0.7965, "well": 0.8511, "perfect": 0.8376, "bravo": 0.1991},
}
NEAREST = {
    "cat": "dog 1.8846, rabbit 2.4573, monkey 2.8102, cats 2.8972, rat 2.9455, beast 2.9878, "
    "monster 3.0022, pet 3.0397, snake 3.0618, puppy 3.0645",
    "michael": "peter 2.9221, moore 2.9318, david 2.9446, steven 2.9882, murphy 3.0184",
    "bravo": "marlon 3.7966, dwayne 3.8806, coco 3.9080, hooper 3.9350, lara 4.0298",
}
MIDPOINTS = {
    "happy sad": "happy 1.9200, feels 2.3605, sorry 2.4985, hardly 2.5259, imagine 2.5653",
    "bravo michael": "farrell 2.8014, anderson 2.8507, jacobs 2.8537, boyle 2.8578, slater 2.8655",
}
SUMS = {
    "king - man + woman": "queen 2.8391, prince 3.6610, elizabeth 3.7153, daughter 3.8318, "
    "widow 3.8494",
    "queen - woman + man": "king 2.8391, prince 3.2509, crown 3.4485, knight 3.5587, "
    "coronation 3.6199",
    "good - bad + programmer": "versatile 4.3816, creative 4.5690, entrepreneur 4.6344, "
    "enables 4.7178, intelligent 4.7350",
    "doctor - man + woman": "nurse 3.1355, pregnant 3.7805, child 3.7835, woman 3.8643, "
    "mother 3.9222",
    "doctor - woman + man": "man 3.9336, colleague 3.9755, himself 3.9848, brother 3.9997, "
    "another 4.0291",
}


def printed(neighbors):
    return ", ".join(f"{word} {value:.4f}" for word, value in neighbors.words)


def vectors_of(rows, words=None):
    words = words or [f"w{i}" for i in range(len(rows))]
    return WordVectors(pa.array(words), np.asarray(rows, np.float32), "few")


# What the tutorial prints


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(geometry.distance, DISTANCES), (geometry.similarity, SIMILARITIES)],
    ids=["distance", "similarity"],
)
def test_distances_and_similarities_are_the_tutorials(glove, measure, expected):
    for word, values in expected.items():
        found = measure(glove, word, list(values))
        assert found.round(4).tolist() == list(values.values())


@pytest.mark.parametrize(("word", "expected"), NEAREST.items())
def test_the_nearest_words_are_the_tutorials(glove, word, expected):
    point = geometry.combine(glove, [(1, word)])
    found = geometry.nearest(glove, point, n=expected.count(",") + 1)
    assert printed(found) == expected
    assert found.left_out == ((word, 0),)


@pytest.mark.parametrize(("words", "expected"), MIDPOINTS.items())
def test_midpoints_are_the_tutorials(glove, words, expected):
    point = geometry.midpoint(glove, words.split())
    assert printed(geometry.nearest(glove, point, n=5)) == expected


@pytest.mark.parametrize(("expression", "expected"), SUMS.items())
def test_analogies_are_the_tutorials(glove, expression, expected):
    point = geometry.combine(glove, geometry.parse(expression))
    assert printed(geometry.nearest(glove, point, n=5)) == expected


def test_the_nearest_word_is_left_out(glove):
    point = geometry.analogy(glove, "uncle", "man", "woman")
    ((word, value),) = geometry.nearest(glove, point).left_out
    assert f"{word} {value:.4f}" == "niece 2.2055"


# Laws

COORDINATES = st.floats(-100, 100, width=32)


def matrices(*, min_rows=1, dim=4):
    shape = st.tuples(st.integers(min_rows, 40), st.just(dim))
    return arrays.arrays(np.float32, shape, elements=COORDINATES)


@given(matrices(), st.integers(1, 50), st.sampled_from(["euclidean", "cosine"]), st.data())
def test_nearest_is_a_plain_stable_sort(rows, n, by, data):
    rows = rows.round(0)  # many are equally near
    assume((rows[0] != 0).any())
    exact = rows.astype(float)
    point = exact[0]
    if by == "euclidean":
        values = np.sqrt(((exact - point) ** 2).sum(axis=1))
        order = sorted(range(len(rows)), key=lambda i: (values[i], i))
    else:
        sizes = np.sqrt((exact**2).sum(axis=1)) * np.sqrt((point**2).sum())
        dots = (exact * point).sum(axis=1)
        values = np.clip(dots / np.where(sizes, sizes, 1), -1, 1)
        order = sorted((i for i in range(len(rows)) if sizes[i]), key=lambda i: (-values[i], i))
    vectors = vectors_of(rows)
    everything = geometry.nearest(vectors, rows[0], n=n, by=by, exclude=())
    assert [word for word, _ in everything.words] == [f"w{i}" for i in order][:n]
    without_first = geometry.nearest(vectors, rows[0], n=n, by=by)
    assert [word for word, _ in without_first.words] == [f"w{i}" for i in order][1 : n + 1]
    assert without_first.left_out[0].word == f"w{order[0]}"
    excluded = data.draw(st.lists(st.sampled_from(vectors.words.to_pylist()), min_size=1))
    kept = [f"w{i}" for i in order if f"w{i}" not in excluded]
    found = geometry.nearest(vectors, rows[0], n=n, by=by, exclude=excluded)
    assert [word for word, _ in found.words] == kept[:n]


def test_the_layout_of_the_vectors_in_memory_changes_no_digit(glove):
    few = vectors_of(glove.vectors[:9000], glove.words[:9000].to_pylist())
    by_row, by_column = (
        WordVectors(few.words, layout(few.vectors))
        for layout in (np.ascontiguousarray, np.asfortranarray)
    )
    for by in ("euclidean", "cosine"):
        found = [geometry.nearest(v, few.vectors[7], by=by) for v in (by_row, by_column)]
        assert found[0] == found[1]


# Sums of words


@pytest.mark.parametrize(
    "expression", ["", " ", "+", "king man", "king -", "king - + man", "a b c"]
)
def test_an_invalid_sum_is_refused(expression):
    with pytest.raises(UserError, match="is not a sum of words: write king - man"):
        geometry.parse(expression)


# What cannot be answered


def test_all_unknown_words_are_named_each_with_known_ones(glove):
    with pytest.raises(UserError) as error:
        geometry.distance(glove, "Cat", ["womann", "dog", "qqzzqqzz", "Cat"])
    assert str(error.value).splitlines() == [
        "'Cat' is not among the 400,000 words of package:glove.6B.50d: did you mean cat, at, can?",
        "'womann' is not among the 400,000 words of package:glove.6B.50d: "
        "did you mean woman, womans, homann?",
        "'qqzzqqzz' is not among the 400,000 words of package:glove.6B.50d: "
        "no word is spelled like it",
    ]


def test_a_word_of_broken_bytes_is_unknown():
    with pytest.raises(UserError, match=r"'\\udcff' is not among the 1 words of few"):
        geometry.look_up(vectors_of([[1]], ["?"]), ["\udcff"])


def test_a_zero_vector_has_no_direction():
    vectors = vectors_of([[0, 0], [1, 0], [0, 1]], ["zero", "one", "two"])
    assert np.isnan(geometry.similarity(vectors, "one", ["zero"])).all()
    assert geometry.nearest(vectors, vectors.vectors[0], by="cosine").words == ()
    found = geometry.nearest(vectors, vectors.vectors[1], by="cosine", exclude=())
    assert found.words == (("one", 1), ("two", 0))
    assert geometry.distance(vectors, "zero", ["one"]).tolist() == [1]


# Similar words


@pytest.mark.parametrize("word", ["", "q", "qqxxqqxx", "x" * 300])
def test_a_word_like_no_other_gets_no_suggestion(word):
    assert find_similar(word, pa.array(["the", "", "a", "ab"])) == []
