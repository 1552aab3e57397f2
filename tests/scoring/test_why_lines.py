"""Below a prediction stand the words that decide, colored in a terminal."""

import json

import pyarrow as pa
from conftest import new_package

from sentiflow.models.explanations import Explanation, WordPart
from sentiflow.scoring import lines, why_lines

WORDS = (
    WordPart("i", 0.001, 0.001, 0.0, after_blank=False),
    WordPart("love", 0.8, 0.5, 0.3),
    WordPart("no", -0.4, -0.4, 0.0),
    WordPart("映", 0.1, 0.1, 0.0),
    WordPart("画", 0.1, 0.1, 0.0, after_blank=False),
)
EXPLANATION = Explanation(
    text="I love no 映画", label="positive", probability=0.7, logit=0.901, rest=0.3, words=WORDS
)


def test_words_for_and_against_the_label_are_listed_with_the_rest():
    assert why_lines.describe(EXPLANATION, in_color=False) == [
        "  for positive: love +0.80  映 +0.10  画 +0.10",
        "  against it: no -0.40",
        "  the rest: +0.30  the logit: +0.90",
    ]


def test_a_terminal_shows_the_text_in_colors():
    text, *others = why_lines.describe(EXPLANATION, in_color=True)
    plain = text
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[7m", "\x1b[0m"):
        assert code in text
        plain = plain.replace(code, "")
    assert plain == "  i love no 映画"
    assert "\x1b[31mno -0.40\x1b[0m" in others[1]


def test_words_cannot_act_on_a_terminal():
    words = (WordPart("\x1b[2j", 1.0, 1.0, 0.0),)
    evil = Explanation("x", "a", 0.5, 1.0, 0.0, words)
    for in_color in (True, False):
        assert "\x1b[2j" not in "".join(why_lines.describe(evil, in_color=in_color))


def test_a_text_cannot_act_on_a_terminal_behind_a_pipe():
    package = new_package()
    text = pa.array(["good \x1b[2Jday\x07\u202e"])
    scores = package.score(text)
    for in_color in (True, False):
        written = why_lines.to_tsv(text, scores, package=package, in_color=in_color).decode()
        assert "good \\x1b[2Jday\\x07\\u202e" in written.splitlines()[0]
        assert "\x1b[2J" not in written
        assert "\x07" not in written
        assert "\u202e" not in written


def test_words_that_the_network_does_not_read_are_counted_and_dim():
    words = (*WORDS[:4], WORDS[4]._replace(is_cut=True))
    long = Explanation("x", "a", 0.5, 0.901, 0.3, words)
    lines_of_long = why_lines.describe(long, in_color=True)
    assert lines_of_long[-1] == "  the network does not read the last 1 of 5 words"
    assert "\x1b[2m画" in lines_of_long[0]
    assert why_lines.describe(long, in_color=False)[-1] == lines_of_long[-1]


def test_a_terminal_shows_the_first_words_of_a_long_text():
    words = (WORDS[1],) * 1_734
    colored = why_lines.describe(Explanation("x", "a", 0.5, 0.1, 0, words), in_color=True)[0]
    assert colored.count("love") == 500
    assert colored.endswith(" … 1,234 more words")


def test_few_of_many_words_are_listed():
    words = tuple(WordPart(f"w{n}", n / 10, n / 10, 0.0) for n in range(1, 21))
    many = Explanation("x", "a", 0.5, 21.0, 0.0, words)
    line = why_lines.describe(many, in_color=False)[0]
    assert line.startswith("  for a: w20 +2.00  w19 +1.90")
    assert line.endswith("w11 +1.10  … 10 more +5.50")


def test_words_with_small_parts_are_added_up_and_the_rest_is_that_of_the_explanation():
    small = (WordPart("w", 0.004, 0.004, 0.0),) * 100
    alone = Explanation("x", "a", 0.5, 0.6, 0.2, small)
    assert why_lines.describe(alone, in_color=False) == [
        "  for a: 100 words +0.40",
        "  the rest: +0.20  the logit: +0.60",
    ]
    against = Explanation("x", "a", 0.5, 0.6, 0.2, (*small, WordPart("no", -1.0, -1.0, 0.0)))
    assert why_lines.describe(against, in_color=False)[1] == "  against it: no -1.00"
    beside = Explanation("x", "a", 0.5, 0.6, 0.2, (WordPart("b", 1.0, 1.0, 0.0), *small))
    assert why_lines.describe(beside, in_color=False)[0] == "  for a: b +1.00  … 100 more +0.40"


def test_of_a_text_whose_words_have_no_part_the_logit_alone_is_told():
    unknown = Explanation("x", "a", 0.5, 0.0, 0.0, (WordPart("x", 0.0, 0.0, 0.0),))
    assert why_lines.describe(unknown, in_color=True) == ["  the rest: +0.00  the logit: +0.00"]


def test_json_has_the_parts_of_each_text():
    package = new_package()
    text = pa.array(["good\tbad", ""])
    written = why_lines.to_json(text, package.score(text), package=package, top=1)
    first, second = map(json.loads, written.decode().splitlines())
    assert list(first)[:3] == ["text", "label", "confidence"]
    assert [word["word"] for word in first["words"]] == ["good", "bad"]
    total = sum(word["part"] for word in first["words"]) + first["rest"]
    assert abs(total - first["logit"]) < 1e-9
    assert second["words"] == []
    assert tuple(first["words"][1]) == WordPart._fields
    assert first["words"][1]["after_blank"] is True


def test_lines_of_predictions_stay_and_blocks_are_small(monkeypatch):
    monkeypatch.setattr(why_lines, "TEXTS_AT_A_TIME", 2)
    package = new_package()
    texts = ["good day", "bad", "", "morning", "good"]
    blocks = list(why_lines.cut_blocks([lines.Block(pa.array(texts), more=False)]))
    assert [len(block.text) for block in blocks] == [2, 2, 1]
    assert [block.more for block in blocks] == [True, True, False]
    text = pa.array(texts)
    scores = package.score(text)
    plain = lines.to_tsv(text, scores).decode().splitlines()
    with_words = why_lines.to_tsv(text, scores, package=package, in_color=False).decode()
    assert [line for line in with_words.splitlines() if not line.startswith("  ")] == plain
