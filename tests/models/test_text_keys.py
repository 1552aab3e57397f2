"""Near-copies have one template key; texts of other words or numbers have other keys."""

import itertools
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.models import text_keys

TEXT_OF_WORDS = """
I you we they this that the a my your not never so very too really was is are be been can't don't
it's love hate like miss need want got made saw lost found good bad great awful happy sad tired sick
late early new old cold warm phone train flight day night home work school coffee movie music song
game friend mother dog cat sun rain today tomorrow again still just with without for from about over
"""
WORDS = TEXT_OF_WORDS.split()
NUM_TEXTS = 1000


def draw_texts(rng, shortest, longest):
    """Draw 1,000 different texts of some words, some with a number."""
    texts = set()
    while len(texts) < NUM_TEXTS:
        words = rng.choices(WORDS, k=rng.randint(shortest, longest))
        if rng.random() < 0.2:
            words.insert(rng.randrange(len(words)), str(rng.randrange(2000)))
        texts.add(" ".join(words))
    return sorted(texts)


CHANGES = {
    "mention": lambda text, rng: f"@name{rng.randrange(99)} {text}",
    "retweet": lambda text, rng: f"RT @name{rng.randrange(99)}: {text}",
    "link": lambda text, rng: f"{text} https://t.co/{rng.randrange(1 << 40):x}",
    "mark": lambda text, rng: text.replace(" ", ", ", 1) + rng.choice(["!!!", "...", " :)", " 😀"]),
    "case": lambda text, rng: text.upper(),
}


def make(texts, kind="template"):
    return text_keys.make(pa.array(texts, pa.string()), kind).to_pylist()


@pytest.mark.parametrize("change", CHANGES)
def test_planted_near_copies_have_the_key_of_their_text(change):
    rng = random.Random(change)
    texts = draw_texts(rng, 3, 9)
    copies = [CHANGES[change](text, rng) for text in texts]
    together = sum(a == b for a, b in zip(make(texts), make(copies), strict=True))
    assert together >= 0.95 * NUM_TEXTS
    exact = zip(make(texts, "exact"), make(copies, "exact"), strict=True)
    assert sum(a == b for a, b in exact) == (NUM_TEXTS if change == "case" else 0)


def test_different_short_texts_have_different_keys():
    texts = draw_texts(random.Random(1), 2, 5)
    num_pairs = sum(a == b for a, b in itertools.combinations(make(texts), 2))
    assert num_pairs <= 5


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("this is sooo good", "this is so good"),
        ("Don't do that again", "dont do that again :("),
        ("good day to you", "#GoodDay to you"),
        ("I hate this", "I hate this &lt;3 t_t"),
        ("这部电影很好看", "这部电影、很好看。"),
        ("とても楽しい映画", "@ann とても楽しい映画。"),
        ("ดีมากค่ะ", "ดีมากค่ะ!"),
        ("영화가 정말 좋아요", "영화가 정말 좋아요!!"),
        ("جميل جدا جدا", "جميــل جدا، جدا"),
        ("यह बहुत अच्छा", "यह बहुत अच्छा।"),
    ],
)
def test_near_copies_in_any_script_have_one_key(text, copy):
    assert len(set(make([text, copy]))) == 1
    assert len(set(make([text, copy], "exact"))) == 2


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("I gave it 3 stars", "I gave it 4 stars"),
        ("room 1 2 please", "room 12 please"),
        ("it costs 3.5 today", "it costs 35 today"),
        ("so good", "so good!"),  # two words
        ("I'm here", "I'm here!"),  # a contraction is one word
        ("so good @ann", "so good"),
        ("很好看", "很好看。"),  # three letters are a word and a half
        ("rt this now", "this now please"),
    ],
)
def test_other_numbers_and_short_texts_have_keys_of_their_own(text, other):
    assert len(set(make([text, other]))) == 2


def test_a_short_text_has_its_exact_key():
    texts = ["So  GOOD!", "@ann hi", "很好看。", "", "ilovethis"]
    assert make(texts) == make(texts, "exact")
    assert make(["I love this"]) != make(["ilovethis"])


def test_retweets_are_found_within_a_text_only():
    assert make(["so good they rt", "@ann is here again"]) == [" sogoodtheyrt", " ishereagain"]
    assert make(["please rt"]) == ["please rt"]


TEXTS = st.lists(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["rt", "@ann", "soo", "it's", "12", "!", "好", "😀", "#A"])).map(
        " ".join
    ),
    max_size=6,
)


@given(TEXTS)
def test_texts_with_equal_exact_keys_have_equal_template_keys(texts):
    texts = [*texts, *(f" {text.lower()}  " for text in texts)]
    by_exact = dict(zip(make(texts, "exact"), make(texts), strict=True))
    assert [by_exact[exact] for exact in make(texts, "exact")] == make(texts)


@given(TEXTS)
def test_the_key_of_a_text_does_not_depend_on_the_others(texts):
    assert make(texts) == [make([text])[0] for text in texts]
