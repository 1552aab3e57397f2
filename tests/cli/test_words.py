"""Each `words` command prints what it found, alone on standard output."""

import json

import pytest
from conftest import messages, new_package
from test_cli import invoke, one_line

from sentiflow.words import word_vectors
from sentiflow.words.word_bias import measure_direction

LISTS = ("nearest", "midpoint", "analogy", "near")
COMMANDS = ("vector", "distance", "similarity", *LISTS, "bias", "map")


@pytest.fixture
def few(tmp_path):
    """A file with a handful of vectors."""
    path = tmp_path / "few.txt"
    path.write_text("cat 1 0\ndog 2 0\nbird 0 3\nzero 0 0\n")
    return str(path)


def words(*arguments):
    """Run a command that ends well; returns its standard output and standard error."""
    result = invoke("words", *map(str, arguments))
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def columns(text):
    """Write two aligned columns as one line."""
    return ", ".join(" ".join(line.split()) for line in text.splitlines())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("distance cat dog", "1.8846\n"),
        ("distance good bad water", "bad   3.3189\nwater 5.3390\n"),
        ("similarity good bravo", "0.1991\n"),
        ("similarity good bad well", "bad  0.7965\nwell 0.8511\n"),
        ("nearest cat -n 3", "dog    1.8846\nrabbit 2.4573\nmonkey 2.8102\n"),
        ("nearest cat -n 1 --by cosine", "dog 0.9218\n"),
        ("nearest cat -n 1 --exclude-query", "dog 1.8846\n"),
        ("midpoint happy sad -n 2", "happy 1.9200\nfeels 2.3605\n"),
        ("midpoint happy sad -n 1 --exclude-query", "feels 2.3605\n"),
        ("analogy king man woman -n 2", "queen  2.8391\nprince 3.6610\n"),
        ("near king - man + woman -n 1", "queen 2.8391\n"),
        ("near old\t-  young\n+ father -n 2", "father 4.0327\nson    4.4065\n"),
    ],
)
def test_results_are_printed_in_columns(arguments, expected):
    assert words(*arguments.split(" ")) == (expected, "")


@pytest.mark.parametrize(
    ("arguments", "nearest", "left_out"),
    [
        ("near uncle - man + woman", "grandmother 2.3234", "left out: niece 2.2055\n"),
        ("midpoint lake building", "surrounding 3.0698", "left out: adjacent 2.9021\n"),
    ],
)
def test_a_left_out_word_is_shown_if_it_is_not_in_the_query(arguments, nearest, left_out):
    stdout, stderr = words(*arguments.split(), "-n", 1)
    assert (columns(stdout), stderr) == (nearest, left_out)
    stdout, stderr = words(*arguments.split(), "-n", 1, "--exclude-query")
    assert (f"left out: {stdout}", stderr) == (left_out, "")


def test_a_vector_is_printed_with_its_rank():
    stdout, _ = words("vector", "car")
    first, *lines = stdout.splitlines()
    assert first == "car: rank 570 of 400,000"
    assert [len(line.split()) for line in lines] == [10] * 5
    assert stdout.endswith("  -0.1182   0.1354   0.0743  -0.6195   0.4547  -0.3032  -0.2188"
                           "  -0.5605   1.1177  -0.3659\n")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["vector", "dog"], {"words": ["dog"], "rank": 2, "vector": [2, 0]}),
        (["distance", "cat", "bird", "dog"], {
            "words": ["cat", "bird", "dog"],
            "results": [{"word": "bird", "value": 10**0.5}, {"word": "dog", "value": 1}]}),
        (["similarity", "cat", "dog"], {
            "words": ["cat", "dog"], "results": [{"word": "dog", "value": 1}]}),
        (["near", "dog - cat", "-n", "1"], {
            "words": ["dog", "cat"], "by": "euclidean",
            "results": [{"word": "dog", "value": 1}], "left_out": [{"word": "cat", "value": 0}]}),
        (["nearest", "cat", "--by", "cosine", "--exclude-query"], {
            "words": ["cat"], "by": "cosine", "left_out": [],
            "results": [{"word": "dog", "value": 1}, {"word": "bird", "value": 0}]}),
        (["midpoint", "cat", "dog", "-n", "1"], {
            "words": ["cat", "dog"], "by": "euclidean",
            "results": [{"word": "dog", "value": 0.5}], "left_out": [{"word": "cat", "value": 0.5}],
        }),
    ],
)  # fmt: skip
def test_with_json_a_command_prints_one_object(few, arguments, expected):
    stdout, stderr = words(*arguments, "--vectors", few, "--json")
    assert json.loads(stdout) == {"vectors": few} | expected
    assert messages(stderr) == []
    assert stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("vector catttt", "sentiflow: 'catttt' is not among the 400,000 words of package:glove.6B"),
        ("nearest cat dog", "2 given: cat dog: name exactly 1"),
        ("midpoint cat", "1 given: cat: name 2 or more words"),
        ("distance cat", "1 given: cat: name 2 or more words"),
        ("analogy king man", "2 given: king man: name exactly 3"),
        ("analogy king man woman boy", "4 given: king man woman boy: name exactly 3"),
        ("near king man", "'king man' is not a sum of words: write king - man + woman"),
        (
            "nearest cat --vectors nowhere.txt",
            "there is no file, directory or word vectors 'nowhere.txt'",
        ),
        (
            "bias --pair man:womann",
            "'womann' is not among the 400,000 words of package:glove.6B.50",
        ),
        ("bias --word qqxz --json", "'qqxz' is not among the 400,000 words"),
        ("map cat dog --to x.jpg", "--to x.jpg: name a file that ends in .png"),
        ("map cat cat --to x.png", "1 given: cat: name 2 or more words"),
    ],
)
def test_a_mistake_gives_one_clear_line(arguments, expected):
    result = invoke("words", *arguments.split())
    assert expected in one_line(result)


def test_control_characters_are_escaped(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes(b"cat 1 0\nd\x1b[31mog 2 0\n")
    assert words("nearest", "cat", "--vectors", path)[0] == "d\\x1b[31mog 1.0000\n"


@pytest.mark.parametrize("question", [("nearest", "cat", "--json"), ("nearest", "dog")])
def test_no_password_of_a_source_is_shown(few, question, monkeypatch):
    secret = "s3://AKIA:se/cret@bucket/v.txt"
    load = word_vectors._load
    monkeypatch.setattr(word_vectors, "_load", lambda source, *rest: load(few, *rest))
    result = invoke("words", *question, "--vectors", secret)
    assert "se/cret" not in result.output
    assert ("s3://bucket/v.txt" in result.output) == (question[-1] == "--json")


def test_vectors_of_a_model_that_are_not_finite_are_refused(tmp_path):
    package = new_package()
    package.network.embedding.weight.data[2] = float("nan")
    package.save(str(tmp_path / "model"), lineage={})
    line = one_line(invoke("words", "nearest", "good", "--vectors", str(tmp_path / "model")))
    assert "weights.safetensors holds vectors that are not finite" in line


# Maps


def test_a_map_is_drawn_and_its_variance_is_shown(tmp_path):
    path = tmp_path / "new/royals.png"
    stdout, stderr = words("map", "king", "queen", "man", "woman", "--to", path, "--json")
    assert path.read_bytes().startswith(b"\x89PNG")
    record = json.loads(stdout)
    assert record["words"] == ["king", "queen", "man", "woman"]
    assert [len(result["point"]) for result in record["results"]] == [2] * 4
    assert (
        f"4 words; the map shows {sum(record['explained']):.0%} of their variance: {path}" in stderr
    )


# What a user sees before anything is asked


def test_bias_of_other_pairs_and_words():
    pairs = ("--pair", "young:old", "--pair", "youth:age")
    found = json.loads(words("bias", *pairs, "--word", "wise", "--json")[0])
    assert found["words"] == ["wise"]
    assert found["direction"]["pairs"] == [["young", "old"], ["youth", "age"]]
    assert [item["word"] for item in found["direction"]["projections"]] == ["wise"]
    assert "highest first" not in words("bias", *pairs, "--word", "wise")[0]
    assert "highest first" in words("bias", *pairs)[0]


def test_the_text_of_a_bias_has_every_number(glove):
    text, notes = words("bias")
    assert "Direction from she to he: the main axis of 10 of 10 pairs" in text
    for each in measure_direction(glove).projections:
        assert f"{each.cosine:+.3f}" in text
    assert max(map(len, text.splitlines())) < 110
    assert "They say nothing about people" in " ".join(text.split())
    assert notes == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_an_example_that_works_and_lists_the_sources(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = words(command, "--help")[0]
    for source in ("package:glove.6B.50d", "torchtext:", ".txt.gz", "models:/NAME@champion"):
        assert source in text
    lines = " ".join(text.split()).replace('"', "").split("Example: sentiflow ")[1:]
    example = lines[0].split(" Arguments:")[0].split()
    assert invoke(*example).exit_code == 0
