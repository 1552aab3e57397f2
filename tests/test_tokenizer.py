"""Tokens are those of the plain rule, and no row's depend on its neighbors."""

import re
import sys
import unicodedata
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.tokenizer import TOKENIZERS, squeeze_runs, tokenize

SETTINGS = settings(max_examples=80, deadline=None)

CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\u0130\u03a3")
"""What Arrow and Python lower alike: not ``\u0130`` (Python makes two characters of it), not the
sigma that ends a word in Python, and not letters that are newer than Python's Unicode tables."""

PIECES = [
    *("@ann", "@Bob_1", "http://t.co/x", "www.x.com/?a=1", "#tag", "<url>", "@", "https://"),
    *("&lt;3", "&amp;amp;", "&quot;", "&#39;", ":)", ";-D", "=P", ":/", ":'(", "<3", "</3"),
    *("^_^", "-_-", "T_T", "can't", "it's", "don\u2019t", "I'M", "sooooo", "!!!", "?!?", "...."),
    *("--", "$5", "50%", "1000", "\\", '"a"', "a.b,c;d?", "caf\u00e9", "\u2665", "\U0001f600"),
    *("\u201cq\u201d", " ", " ", " ", "\n", "\t", "\u00a0", "."),
]
TWEETS = st.lists(st.sampled_from(PIECES) | st.text(CHARACTERS, max_size=4), max_size=8).map(
    "".join
)

RUNS = st.lists(
    st.tuples(st.sampled_from("aAz0!?.,;*~-_ :)\u00e9\u2665"), st.integers(1, 5)), max_size=8
).map(lambda runs: "".join(character * length for character, length in runs))


def tokens_of(texts, name):
    """Tokenize texts together."""
    return tokenize(pa.array(texts, pa.string()), name=name).to_lists().to_pylist()


def tutorial_reference(text):
    """Split as the tutorial's ``split_tweet`` does."""
    for mark in ".,;?":
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()


def squeeze_reference(text):
    """Shorten runs as ``squeeze_runs`` says."""
    text = re.sub(r"([a-z])\1{2,}", r"\1\1", text)
    text = re.sub(r"([!?,;*~_-])\1+", r"\1", text)
    return re.sub(r"\.{4,}", "...", text)


@pytest.fixture(params=sorted(TOKENIZERS))
def name(request):
    """Each tokenizer in turn."""
    return request.param


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("Good Day", "good day", id="case"),
        pytest.param("  two\t\nblanks  ", "two blanks", id="blanks"),
        pytest.param("why,me?no;yes.", "why , me ? no ; yes .", id="the four marks"),
        pytest.param("wait... what??", "wait . . . what ? ?", id="runs of marks"),
        pytest.param('hey! it\'s "ok" :)', 'hey! it\'s "ok" :)', id="other marks stay"),
        pytest.param("@Ann http://t.co/x", "@ann http://t . co/x", id="links and mentions"),
        pytest.param("&lt;3 &amp; a", "&lt ; 3 &amp ; a", id="entities"),
        pytest.param("soooo #Tag \\", "soooo #tag \\", id="elongation, hashtag, backslash"),
        pytest.param("CAF\u00c9 \u2665", "caf\u00e9 \u2665", id="beyond ASCII"),
        pytest.param("a\u00a0b\u2003c", "a b c", id="blanks beyond ASCII"),
        pytest.param("", "", id="empty"),
        pytest.param(" \t\n ", "", id="only blanks"),
    ],
)
def test_tutorial_rule_on_examples(text, tokens):
    assert tokens_of([text], "tutorial") == [tokens.split(" ") if tokens else []]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("Good DAY", "good day", id="case"),
        pytest.param(
            "don't can't it's I'm we've you'll he'd they're",
            "do n't ca n't it 's i 'm we 've you 'll he 'd they 're",
            id="contractions",
        ),
        pytest.param("won't,isn't!", "wo n't , is n't !", id="contractions before marks"),
        pytest.param("it\u2019s don\u2019t", "it 's do n't", id="curly apostrophe"),
        pytest.param("rock'n'roll o'clock", "rock ' n ' roll o ' clock", id="other apostrophes"),
        pytest.param("@ann @Bob_1: hi", "<user> <user> : hi", id="mentions"),
        pytest.param("@", "@", id="at sign alone"),
        pytest.param(
            "see http://t.co/Ab?c=1\nWWW.x.com https://y", "see <url> <url> <url>", id="links"
        ),
        pytest.param(
            "&lt;3 &quot;hi&quot; a &amp; b &gt; c &#39;s",
            '<3 " hi " a & b > c \'s',
            id="entities",
        ),
        pytest.param("&amp;quot;", "& quot ;", id="entities are undone once"),
        pytest.param("sooooo goood AAAH too", "soo good aah too", id="elongations"),
        pytest.param("1000000 $100 50%", "1000000 $ 100 50 %", id="numbers"),
        pytest.param("wow!!!!! what??? ?!?!", "wow ! what ? ? ! ? !", id="runs of marks"),
        pytest.param("a. b.. c... d......", "a . b .. c ... d ...", id="dots"),
        pytest.param("a.b,c;e", "a . b , c ; e", id="marks between letters"),
        pytest.param("-- --- a-b", "- - a - b", id="dashes"),
        pytest.param(
            ":) :-) ;D :P =) :/ :'( :-D :o :|",
            ":) :-) ;d :p =) :/ :'( :-d :o :|",
            id="emoticons",
        ),
        pytest.param("yes:) no:(", "yes :) no :(", id="emoticons behind a word"),
        pytest.param("<3 </3 ^_^ -_- T_T", "<3 </3 ^_^ -_- t_t", id="hearts and faces"),
        pytest.param("at 10:30", "at 10 : 30", id="a time is no emoticon"),
        pytest.param("\U0001f600\U0001f600ok\u2665", "\U0001f600 \U0001f600 ok \u2665", id="emoji"),
        pytest.param("\u201cquoted\u201d \u2014 \u00a35", "\u201c quoted \u201d \u2014 \u00a3 5"),
        pytest.param("l'\u00e9T\u00c9", "l ' \u00e9t\u00e9", id="letters beyond ASCII"),
        pytest.param("#MusicMonday #140", "# musicmonday # 140", id="hashtags"),
        pytest.param("back\\slash :-\\", "back \\ slash :-\\", id="backslashes"),
        pytest.param("", "", id="empty"),
        pytest.param(" \t\n\u00a0", "", id="only blanks"),
    ],
)
def test_tweet_rule_on_examples(text, tokens):
    assert tokens_of([text], "tweet") == [tokens.split(" ") if tokens else []]


@SETTINGS
@given(st.lists(st.text(CHARACTERS, max_size=12) | TWEETS, max_size=5))
def test_tutorial_rule_equals_its_plain_form(texts):
    assert tokens_of(texts, "tutorial") == [tutorial_reference(text) for text in texts]


def test_arrow_and_python_agree_about_all_other_characters():
    characters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) not in ("Cs", "Cn")
    ]
    lower = pc.utf8_lower(pa.array(characters)).to_pylist()
    assert [c for c, low in zip(characters, lower, strict=True) if low != c.lower()] == ["\u0130"]
    trimmed = pc.utf8_trim_whitespace(pa.array(characters)).to_pylist()
    assert trimmed == [character.strip() for character in characters]


@SETTINGS
@given(st.lists(RUNS, max_size=5))
def test_squeezing_equals_its_plain_form(texts):
    squeezed = squeeze_runs(pa.array(texts, pa.string()))
    assert squeezed.to_pylist() == [squeeze_reference(text) for text in texts]
    squeezed.validate(full=True)


def test_runs_end_with_their_row():
    texts = ["aa", "a", "", "aaa", "!", "!", "...", "."]
    assert squeeze_runs(pa.array(texts)).to_pylist() == ["aa", "a", "", "aa", "!", "!", "...", "."]


@SETTINGS
@given(texts=st.lists(TWEETS, max_size=6))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_tokens_of_a_row_do_not_depend_on_its_neighbors(name, texts):
    assert tokens_of(texts, name) == [tokens_of([text], name)[0] for text in texts]


@SETTINGS
@given(texts=st.lists(TWEETS, max_size=6), start=st.integers(0, 6), length=st.integers(0, 6))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_slice_is_tokenized_as_a_copy(name, texts, start, length):
    piece = pa.array(texts, pa.string())[start : start + length]
    tokens = tokenize(piece, name=name).to_lists()
    assert tokens.to_pylist() == tokens_of(piece.to_pylist(), name)
    tokens.validate(full=True)


@SETTINGS
@given(texts=st.lists(RUNS, max_size=6), start=st.integers(0, 6), length=st.integers(0, 6))
def test_a_slice_is_squeezed_as_a_copy(texts, start, length):
    piece = pa.array(texts, pa.string())[start : start + length]
    assert squeeze_runs(piece).to_pylist() == [squeeze_reference(t) for t in piece.to_pylist()]


@SETTINGS
@given(texts=st.lists(TWEETS, max_size=4))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_tokens_are_never_empty_and_hold_no_white_space(name, texts):
    for token in chain.from_iterable(tokens_of(texts, name)):
        assert token.split() == [token]


@SETTINGS
@given(text=TWEETS)
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_tokenizing_tokens_changes_nothing(name, text):
    (tokens,) = tokens_of([text], name)
    assert tokens_of([" ".join(tokens)], name) == [tokens]


@SETTINGS
@given(text=TWEETS)
def test_links_mentions_and_runs_are_gone_from_tokens(text):
    (tokens,) = tokens_of([text], "tweet")
    assert not [token for token in tokens if re.search(r"([a-z])\1\1|!!|\?\?|\.{4}", token)]
    assert not [token for token in tokens if re.search(r"^@\w|^https?://", token, re.ASCII)]


def test_no_rows_have_no_tokens(name):
    assert tokens_of([], name) == []
