"""English texts are told from texts of other languages by their most frequent function words."""

import pytest

from sentiflow.evaluation import english

ENGLISH = [
    "This is the best phone that I have had for years, and it is not expensive",
    "thank you for the quick reply, but my order is still not here",
]


def test_links_mentions_and_hashtags_are_no_words():
    assert english.measure_function_words(["@the #and https://you.com/is &amp; good"]) == 0
    assert english.measure_function_words(["the", "Good food"]) == pytest.approx(1 / 3)
    assert english.measure_function_words([]) == 0


def test_english_texts_raise_no_doubt():
    assert english.find_doubt(ENGLISH) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Das war in der Tat so gut, ich bin sehr zufrieden mit dem Essen",
        "Me gusta mucho la comida de este lugar, no es cara",
        "Eu gosto muito deste lugar, a comida é boa e não é cara",
        "J'aime beaucoup ce lieu, on y mange bien et ce n'est pas cher",
        "여자주인공뭐지 한번볼만합니다 액션이",
        "この映画はとても面白かった",
        "10/10 :)",
    ],
)
def test_other_texts_are_left_out_with_the_reason(text):
    doubt = english.find_doubt([text])
    assert doubt.startswith(
        "the sentences to test with are English, and the texts are not: 0.0% of"
    )


def test_texts_of_two_languages_count_by_their_share():
    half = [*ENGLISH, "Das war in der Tat so gut, ich bin zufrieden mit dem Essen " * 2]
    assert english.find_doubt(half) == ""
    assert english.find_doubt([*half, "und jetzt noch viel mehr davon bitte " * 20])
