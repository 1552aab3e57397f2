"""Why a text has its label: parts of words that sum to the logit, by both models."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import new_package

from sentiflow.errors import UserError
from sentiflow.models import explanations, readable_pieces, word_parts
from sentiflow.models.batching import EncodedRows
from sentiflow.models.linear import LinearModel
from sentiflow.models.model import Model
from sentiflow.models.ngrams import Ngrams, count
from sentiflow.models.tokenizer import tokenize
from sentiflow.models.vocabulary import from_words

TEXTS = ["good morning", "bad day so bad", "", "good unheard day", "unheard of", "so good so good"]


def linear_of(*texts, num_classes=2, seed=0):
    """Make a linear model of random weights that knows all n-grams of some texts."""
    random = np.random.default_rng(seed)
    hashes, counts = count(Ngrams.of(tokenize(pa.array(texts), name="tweet")))
    weights = random.normal(size=(len(hashes), num_classes)).astype(np.float32)
    idf = np.log((1 + counts.sum()) / (1 + counts)) + 1
    return LinearModel(
        hashes=hashes,
        weights=weights,
        squares=(idf**2).astype(np.float32),
        bias=random.normal(size=num_classes).astype(np.float32),
    )


def package_with(*, seed=0, classes=("negative", "positive"), **changes):
    """Make a package of a network and a linear model."""
    package = new_package(seed=seed, classes=classes)
    linear = linear_of("good bad day", "so bad", num_classes=len(classes), seed=seed)
    settings = package.settings.model_copy(
        update={"linear_weight": 0.6, "temperature": 0.7, **changes}
    )
    return replace(package, linear=linear, settings=settings)


def network_logit(package, text, code):
    """Return the network's share of a class's logit, from the mean of the classes."""
    read = package.read(pa.array([text]))
    rows = EncodedRows.from_lists(read.encoded.token_ids)
    logits = np.asarray(package.network_logits(rows))[0].astype(np.float64)
    share = (1 - package.settings.linear_weight) / package.settings.temperature
    return share * (logits[code] - logits.mean())


@pytest.mark.parametrize("classes", [("negative", "positive"), ("a", "b", "c", "d")])
def test_the_parts_and_the_rest_are_the_logits_of_the_probabilities(classes):
    model = Model(package_with(classes=classes), "here")
    probabilities = model.predict_proba(TEXTS)
    logits = []
    for name in classes:
        why = model.explain(TEXTS, label=name)
        for text in why:
            sum_of_parts = sum(word.part for word in text.words) + text.rest
            assert sum_of_parts == pytest.approx(text.logit, abs=1e-9)
            assert all(w.part == pytest.approx(w.linear + w.network) for w in text.words)
        logits.append(why.texts["logit"].to_numpy())
        np.testing.assert_allclose(
            why.texts["probability"], probabilities[:, classes.index(name)], atol=1e-6
        )
    exponentials = np.exp(np.array(logits).T)
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, probabilities, atol=1e-5)


def test_without_a_network_the_rest_is_the_bias():
    package = package_with(linear_weight=1.0)
    bias = package.linear.bias.astype(np.float64)
    why = Model(package, "here").explain(["bad day so bad", "good unheard day"], label="positive")
    expected = (bias[1] - bias.mean()) / package.settings.temperature
    np.testing.assert_allclose(why.texts["rest"], expected, atol=1e-6)
    assert not np.any(why.table["network"].to_numpy())


def test_an_ngram_is_shared_equally_among_its_words():
    package = package_with(linear_weight=1.0, temperature=1.0)
    alone = linear_of("day", "bad")
    pair, _ = count(Ngrams.of(tokenize(pa.array(["bad day"]), name="tweet")))
    added = np.setdiff1d(pair, alone.hashes)
    only_pair = LinearModel(
        hashes=added,
        weights=np.array([[0.0, 4.0]] * len(added), np.float32),
        squares=np.ones(len(added), np.float32),
        bias=np.zeros(2, np.float32),
    )
    assert len(added) == 1
    found = Model(replace(package, linear=only_pair), "here").explain("so bad day")[0]
    assert [word.part for word in found.words] == pytest.approx([0, 1, 1])  # 4, less the mean 2


def test_the_network_is_asked_without_each_word():
    package = package_with()
    text = "good bad good morning unheard day"
    found = Model(package, "here").explain(text, label="negative")[0]
    words = text.split()
    whole = network_logit(package, text, 0)
    for number, word in enumerate(found.words):
        without = " ".join(words[:number] + words[number + 1 :])
        assert word.word == words[number]
        assert word.network == pytest.approx(whole - network_logit(package, without, 0), abs=1e-5)
    assert len({round(word.network, 6) for word in found.words}) > 4


def test_many_texts_have_the_parts_of_each_alone(monkeypatch):
    monkeypatch.setattr(word_parts, "_MAX_IDS", 10)
    monkeypatch.setattr(word_parts, "_MAX_WAITING", 2)
    monkeypatch.setattr(explanations, "TEXTS_AT_A_TIME", 4)
    model = Model(package_with(), "here")
    together = model.explain(TEXTS)
    assert [text.text for text in together] == TEXTS
    for text, found in zip(TEXTS, together, strict=True):
        alone = model.explain([text])[0]
        assert found.label == alone.label
        assert [w.word for w in found.words] == [w.word for w in alone.words]
        np.testing.assert_allclose(
            [w[1:] for w in found.words], [w[1:] for w in alone.words], atol=1e-5
        )


def test_words_that_the_network_does_not_read_have_a_linear_part_only():
    package = package_with(max_length=2)
    found = Model(package, "here").explain("good bad day morning")[0]
    assert [word.network != 0 for word in found.words] == [True, True, False, False]
    assert found.words[2].linear != 0


def test_a_network_of_characters_is_asked_without_all_characters_of_a_word():
    words = ("g", "o", "d", "b", "a")
    package = new_package(words=words)
    settings = package.settings.model_copy(update={"unit": "characters"})
    package = replace(package, settings=settings)
    found = Model(package, "here").explain("good bad", label="negative")[0]
    whole = network_logit(package, "good bad", 0)
    without = [network_logit(package, text, 0) for text in ("bad", "good")]
    assert [word.word for word in found.words] == ["good", "bad"]
    np.testing.assert_allclose([w.network for w in found.words], whole - without, atol=1e-5)


def test_a_text_of_one_known_word_is_compared_with_the_priors():
    package = new_package()
    found = Model(package, "here").explain("good", label="negative")[0]
    priors = np.log(package.settings.priors)
    assert found.rest == pytest.approx(priors[0] - priors.mean(), abs=1e-5)


def test_the_parts_are_finite_if_a_class_has_no_row_in_training():
    package = new_package()
    settings = package.settings.model_copy(update={"priors": (1.0, 0.0)})
    found = Model(replace(package, settings=settings), "here").explain(["good", "qqq"])
    for text in found:
        assert np.isfinite([text.logit, text.rest, *(word.part for word in text.words)]).all()


def test_a_text_without_known_words_has_no_parts():
    package = new_package()
    found = Model(package, "here").explain(["qqq www", None])
    assert [len(text.words) for text in found] == [2, 0]
    for text in found:
        assert text.probability == pytest.approx(0.75)
        assert text.logit == text.rest == pytest.approx(np.log(3) / 2)
        assert not any(word.part for word in text.words)


def test_an_average_has_the_mean_of_the_parts():
    first = package_with(classes=("a", "b", "c"))
    second = package_with(seed=1, classes=("c", "a", "b"))
    average = Model(replace(first, others=(second,)), "both").explain(TEXTS, label="c")
    parts = []
    for package in (first, second):
        parts.append(Model(package, "one").explain(TEXTS, label="c").to_pandas()["part"])
    np.testing.assert_allclose(average.table["part"], np.mean(parts, axis=0), atol=1e-5)
    older = second.settings.model_copy(update={"tokenizer": "tutorial", "tokenizer_version": 1})
    mixed = replace(first, others=(replace(second, settings=older),))
    with pytest.raises(UserError, match="into different words"):
        Model(mixed, "both").explain(TEXTS)


def test_letters_of_scripts_without_spaces_are_joined_to_pieces_that_the_model_knows():
    tokens = tokenize(pa.array(["映画は好き、so good", "映画"]), name="tweet")
    no_blank = np.zeros(len(tokens.ids), bool)
    linear = linear_of("映画", "は", "好き")
    pieces = readable_pieces.join(tokens, linear, after_blank=no_blank)
    assert pieces.words.to_pylist() == ["映画", "は", "好き", "、", "so", "good", "映画"]
    assert pieces.of_tokens.tolist() == [0, 0, 1, 2, 2, 3, 4, 5, 6, 6]
    assert pieces.offsets.tolist() == [0, 6, 7]
    single = readable_pieces.join(tokens, None, after_blank=no_blank)
    assert len(single.words) == len(tokens.ids)


@pytest.mark.parametrize(
    ("text", "known", "pieces"),
    [
        ("ラーメンもスーパー", ["ラー", "メン", "ラ", "ーメン"], "ラー|メン|も|スー|パー"),
        ("チョコ", [], "チョ|コ"),
        ("この映画はお茶", ["この映", "画は", "映画は", "この", "お茶"], "この|映画は|お茶"),
        ("人々", ["人", "々"], "人々"),
        ("แต่ราคา", ["แต่ร", "าคา", "แต่"], "แต่รา|คา"),
        ("ไปไหน", ["ปไ", "ปไ"], "ไป|ไห|น"),
        ("wowー ーあ", ["あ"], "wow|ー| ー|あ"),
    ],
)
def test_pieces_end_where_syllables_and_japanese_words_do(text, known, pieces):
    settings = new_package().settings.model_copy(update={"linear_weight": 0.5})
    package = replace(new_package(), settings=settings, linear=linear_of("qq", *known))
    found = Model(package, "here").explain(["so ร", text, "า"])
    assert len(found[0].words) == 2, "a syllable does not go across texts"
    words = [(" " if word.after_blank else "") + word.word for word in found[1].words]
    assert "|".join(words) == pieces


def test_pieces_take_part_as_a_whole():
    package = new_package(words=("好", "き", "嫌", "い"))
    settings = package.settings.model_copy(update={"linear_weight": 0.5})
    package = replace(package, linear=linear_of(*["好き", "嫌い"] * 4), settings=settings)
    found = Model(package, "here").explain("好き嫌い", label="negative")[0]
    assert [word.word for word in found.words] == ["好き", "嫌い"]
    whole = network_logit(package, "好き嫌い", 0)
    without = [network_logit(package, text, 0) for text in ("嫌い", "好き")]
    np.testing.assert_allclose([w.network for w in found.words], whole - without, atol=1e-5)
    assert sum(w.part for w in found.words) + found.rest == pytest.approx(found.logit)


def test_blanks_stand_where_the_text_has_them():
    package = package_with()
    linear = linear_of("映画", "好き", "画好", "画好")
    model = Model(replace(package, linear=linear), "here")
    texts = [
        "I love 映画 very much, can't",
        "映画 好き",
        "映画\u3000最高 good\u3000day",
        "  good\0 day ",
    ]
    shown = []
    for found in model.explain(texts):
        words = [(" " if word.after_blank else "") + word.word for word in found.words]
        shown.append("|".join(words))
    assert shown == [
        "i| love| 映画| very| much|,| ca|n't",
        "映画| 好き",
        "映画| 最|高| good| day",
        "good|\ufffd| day",
    ]
    assert model.explain("映画 好き")[0].words[0].word == "映画", "no piece goes across a blank"


@pytest.mark.parametrize(
    ("cut", "max_length", "is_cut"),
    [
        ("end", 3, [False, False, False, True, True]),
        ("middle", 3, [False, False, True, True, False]),
        ("end", 5, [False] * 5),
    ],
)
def test_words_beyond_the_maximum_length_are_cut(cut, max_length, is_cut):
    package = package_with(max_length=max_length, cut=cut)
    found = Model(package, "here").explain(["good bad day morning good", "so good", "qqq " * 9])
    assert [word.is_cut for word in found[0].words] == is_cut
    assert [word.network != 0 for word in found[0].words] == [not each for each in is_cut]
    assert not any(word.is_cut for text in (found[1], found[2]) for word in text.words)
    expected = {3: "the last 2 of 5 words", 5: ""}[max_length]
    if cut == "middle":
        expected = "2 of 5 words, in the middle"
    assert found[0].describe_cut().removeprefix("the network does not read ") == expected
    html = explanations.to_html(found[0])
    assert html.count("color: gray") == sum(is_cut)
    assert ("<small>the network does not read" in html) == any(is_cut)


def test_a_word_is_cut_if_the_network_reads_none_of_its_characters():
    package = new_package(words=("g", "o", "d", "b", "a"))
    settings = package.settings.model_copy(update={"unit": "characters", "max_length": 5})
    found = Model(replace(package, settings=settings), "here").explain("good bad day")[0]
    assert [word.is_cut for word in found.words] == [False, False, True]


def test_unknown_words_that_are_dropped_are_cut_only_beyond_the_maximum_length():
    vocabulary = from_words(pa.array(["good", "bad"]))
    tokens = tokenize(pa.array(["qq good qq bad qq bad qq", "qq", "bad"]), name="tweet")
    found = vocabulary.find_cut(tokens, max_length=2).tolist()
    assert found == [False] * 4 + [True] * 3 + [False] * 2
    found = vocabulary.find_cut(tokens, max_length=2, cut="middle").tolist()
    assert found == [False] * 2 + [True] * 2 + [False] * 5


def test_nothing_is_cut_from_a_model_without_a_network_and_of_an_average_what_all_cut():
    long = "good bad day morning"
    alone = Model(package_with(max_length=2, linear_weight=1.0), "here").explain(long)[0]
    assert not any(word.is_cut for word in alone.words)
    packages = [package_with(max_length=2), package_with(max_length=3)]
    average = Model(replace(packages[0], others=(packages[1],)), "here").explain(long)[0]
    assert [word.is_cut for word in average.words] == [False, False, False, True]


def test_a_notebook_shows_escaped_words():
    model = Model(new_package(words=("<b>", "good")), "here")
    html = model.explain(["good <b>bold</b> \u202eevil\x1b"])._repr_html_()
    assert "<b>bold" not in html
    assert "&lt;" in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "10 more" in model.explain(["good"] * 60)._repr_html_()


def test_the_direction_of_a_text_is_not_that_of_its_label():
    html = Model(new_package(), "here").explain("\u0645\u0631\u062d\u0628\u0627")._repr_html_()
    assert '<span dir="auto"><span' in html
    assert html.count("dir=") == 1


def test_a_notebook_shows_the_first_words_of_a_long_text():
    why = Model(package_with(), "here").explain("good " * 1_734)
    html = why._repr_html_()
    assert html.count("<span title") == explanations.MAX_COLORED == 500
    assert "… 1,234 more words" in html
    assert len(why.table) == 1_734


def test_the_table_has_a_row_for_each_word():
    why = Model(package_with(), "here").explain(["good day", None, "bad"])
    frame = why.to_pandas()
    assert tuple(frame.columns) == ("row", "label", *explanations.WordPart._fields)
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["row"].tolist() == [0, 0, 2]
    assert frame["word"].tolist() == ["good", "day", "bad"]
    assert frame["after_blank"].tolist() == [False, True, False]
    assert why[-1].text == "bad"
    for row in (3, -4):
        with pytest.raises(IndexError):
            why[row]
    with pytest.raises(TypeError, match="integer"):
        why[:2]


def test_words_have_the_index_of_a_series_and_a_missing_text_stays_missing():
    model = Model(package_with(), "here")
    texts = pd.Series(["good day", None, "bad"], index=["x", "y", "z"])
    why = model.explain(texts)
    assert why.to_pandas().index.tolist() == ["x", "x", "z"]
    assert why.texts["text"].to_pylist() == ["good day", None, "bad"]
    assert why[1].text is None
    assert why[1].words == ()
    assert why[1].label == model.predict(texts)["predicted_label"]["y"]
    assert model.explain(texts[:0]).to_pandas().empty


@pytest.mark.parametrize("texts", [[], ["", "  ", "\n", None], [None], pd.Series([], dtype=str)])
def test_texts_without_words_have_no_rows(texts):
    for package in (package_with(), new_package(), package_with(linear_weight=1.0)):
        why = Model(package, "here").explain(texts)
        assert len(why) == len(texts)
        assert len(why.table) == 0
        assert why._repr_html_().count("<p>") == len(texts)
        assert all(found.rest == found.logit for found in why)


def test_a_class_that_the_model_does_not_have_is_named():
    with pytest.raises(UserError, match="no class 'angry': name one of negative, positive"):
        Model(new_package(), "here").explain(["good"], label="angry")


@pytest.mark.parametrize("texts", [{"good", "bad"}, frozenset(["good"])])
def test_a_set_has_no_order_and_is_refused(texts):
    model = Model(new_package(), "here")
    for ask in (model.explain, model.predict, model.predict_proba):
        with pytest.raises(UserError, match="a set of texts has no order: give a list"):
            ask(texts)


def test_one_text_is_explained_and_a_dictionary_is_refused():
    model = Model(new_package(), "here")
    assert [found.text for found in model.explain("good day")] == ["good day"]
    with pytest.raises(UserError, match="a model takes texts, not dict"):
        model.explain({"text": "good"})
