"""The text has every number of the measures, and says what is missing."""

from test_word_bias import make_test, random_vectors

from sentiflow.cli.bias_text import to_text
from sentiflow.words.word_bias import measure_word_bias


def test_the_text_has_every_number(glove):
    bias = measure_word_bias(glove)
    text = to_text(bias)
    for each in bias.direction.projections:
        assert f"{each.cosine:+.3f}" in text
    for found in bias.associations:
        (line,) = (line for line in text.splitlines() if line.startswith(f"{found.name} "))
        assert f"{found.num_known}/{found.num_words}" in line
        assert f"{found.effect_size:+.2f}" in line
        assert ("all" if found.is_exact else "random") in line
    assert max(map(len, text.splitlines())) < 110
    assert "They say nothing about people" in " ".join(text.split())


def test_the_text_names_unknown_words_and_skipped_tests():
    vectors = random_vectors()
    tests = [make_test("ijkl", "mnop"), make_test("i123", "mnop")]
    text = to_text(
        measure_word_bias(vectors, pairs=[("a", "b"), ("1", "2")], words=["z", "3"], tests=tests)
    )
    assert "the main axis of 1 of 2 pairs" in text
    assert "without a vector: 3" in text
    assert "test is skipped: only 1 of 4 i123 are known" in text
    assert to_text(measure_word_bias(vectors, pairs=(), tests=tests)).startswith("Association")
