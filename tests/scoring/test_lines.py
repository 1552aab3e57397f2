"""Each line gets one prediction, in order, whatever it contains and however it arrives."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from conftest import PROJECT, messages
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.models.scores import Scores
from sentiflow.scoring import lines

SETTINGS = settings(deadline=None, max_examples=200)
BYTES = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\t", b'"', b"\\", b"\x00", b"\x1f", b"\xff",
                     "é".encode(), b"\xc3", "\u2028".encode(), b"\x85"]), max_size=30,
).map(b"".join)  # fmt: skip


def split(content):
    """Split as the documentation says, a line at a time."""
    rows = content.removesuffix(b"\n").split(b"\n") if content else []
    return [row.decode(errors="replace").removesuffix("\r") for row in rows]


def read(stream):
    """Read all lines of a stream."""
    return [text for block, _ in lines.read(stream) for text in block.to_pylist()]


@SETTINGS
@given(content=BYTES)
def test_lines_are_read_as_the_documentation_says(content):
    assert read(io.BytesIO(content)) == split(content)


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    for content in (b"\xef\xbb\xbfgood\nbad", b"\xef\xbb\xbfgood", b"\xef\xbb\xbf"):
        expected = split(content.removeprefix(b"\xef\xbb\xbf"))
        assert read(io.BytesIO(content)) == read(Dribble(content, 2)) == expected


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, content, size):
        self.content = io.BytesIO(content)
        self.size = size

    def read1(self, _):
        return self.content.read(self.size)


@SETTINGS
@given(content=BYTES, size=st.integers(1, 5))
def test_it_does_not_matter_how_the_bytes_arrive(content, size):
    assert read(Dribble(content, size)) == split(content)


def pairs(positive):
    """Make the probabilities of negative and positive."""
    return np.stack([1 - positive, positive], axis=1).astype(np.float32)


def scores_for(texts, seed=0):
    """Draw answers."""
    random = np.random.default_rng(seed)
    return Scores(
        probabilities=pairs(random.random(len(texts))),
        classes=("negative", "positive"),
        num_tokens=random.integers(0, 3, len(texts)).astype(np.int32),
        lengths=np.ones(len(texts), np.int64),
        num_unknown=np.zeros(len(texts), np.int32),
    )


@SETTINGS
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_json_lines_hold_texts_and_predictions(texts):
    scores = scores_for(texts)
    written = lines.to_json(pa.array(texts), scores)
    found = [json.loads(line) for line in written.decode().split("\n")[:-1]]
    assert [item["text"] for item in found] == texts
    labels = ["positive" if p >= 0.5 else "negative" for p in scores.probability]
    assert [item["label"] for item in found] == labels
    assert [np.float32(item["probability"]) for item in found] == scores.probability.tolist()
    assert [item["num_tokens"] for item in found] == scores.num_tokens.tolist()
    for number, name in enumerate(scores.classes):
        shares = [np.float32(item[f"probability_{name}"]) for item in found]
        assert shares == scores.probabilities[:, number].tolist()


@pytest.mark.parametrize("classes", [("anger", "joy"), ("negative", "positive", "neutral")])
def test_other_classes_have_the_probability_of_the_label(classes):
    number = np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])[:, : len(classes)]
    zeros = np.zeros(2, np.int64)
    scores = Scores(
        probabilities=number.astype(np.float32),
        classes=classes,
        num_tokens=zeros + 1,
        lengths=zeros,
        num_unknown=zeros,
    )
    text = pa.array(["a", "b"])
    assert lines.to_tsv(text, scores).decode().splitlines() == [
        f"{classes[1]}\t0.5000\ta", f"{classes[0]}\t0.5000\tb"
    ]  # fmt: skip
    shares = dict(zip([f"probability_{name}" for name in classes], [0.25, 0.5, 0.25], strict=False))
    positive = {"probability": 0.5} if "positive" in classes else {}
    first = json.loads(lines.to_json(text, scores).splitlines()[0])
    label = {"text": "a", "label": classes[1], "confidence": 0.5, "num_tokens": 1}
    assert first == label | positive | shares
    last = f"\t{classes[2]}\t0.2500" if len(classes) > 2 else ""
    assert lines.to_tsv(text, scores, top=9).decode().splitlines() == [
        f"{classes[1]}\t0.5000\t{classes[0]}\t0.2500{last}\ta",
        f"{classes[0]}\t0.5000\t{classes[1]}\t0.2500{last}\tb",
    ]
    second = {"label_2": classes[0], "confidence_2": 0.25}
    assert json.loads(lines.to_json(text, scores, top=2).splitlines()[0]) == label | second


@SETTINGS
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_tab_separated_values_have_a_line_for_each_text(texts):
    scores = scores_for(texts)
    for for_people in (False, True):
        written = lines.to_tsv(pa.array(texts), scores, for_people=for_people)
        rows = [row.split("\t") for row in written.decode().split("\n")]
        assert rows.pop() == [""]
        assert len(rows) == len(texts)
        assert b"\0" not in written
        for row, p, known in zip(rows, scores.probability, scores.num_tokens, strict=True):
            assert row[:2] == ["positive" if p >= 0.5 else "negative", f"{p:.4f}"]
            assert len(row) == (4 if for_people and not known else 3)


def test_a_text_cannot_act_on_the_terminal_of_people_and_programs_get_it_as_it_is():
    foreign = "映画\u3000最高 caf\xe9\xa0! \u200f\u0645\u0631 \U0001f469\u200d\U0001f680"
    texts = ["nice \x1b[2J\u202e\x9b", foreign]
    scores = scores_for(texts)
    of_people, of_foreign = (
        lines.to_tsv(pa.array(texts), scores, for_people=True).decode().splitlines()
    )
    assert "nice \\x1b[2J\\u202e\\x9b" in of_people
    assert foreign in of_foreign
    assert texts[0] in lines.to_tsv(pa.array(texts), scores).decode()
    first, second = lines.to_json(pa.array(texts), scores, for_people=True).splitlines()
    assert first.isascii()
    assert json.loads(first)["text"] == texts[0]
    assert foreign in second.decode()
    assert texts[0][-2:] in lines.to_json(pa.array(texts), scores).decode()


def test_unsure_texts_are_marked_beside_their_label():
    certain = pairs(np.array([0.9, 0.3, 0.8, 0.05]))
    zeros = np.zeros(4, np.int64)
    known = np.array([2, 2, 0, 1])
    scores = Scores(
        probabilities=certain,
        classes=("negative", "positive"),
        num_tokens=known,
        lengths=zeros,
        num_unknown=zeros,
        threshold=0.75,
    )
    assert scores.unsure.tolist() == [False, True, True, False], "no known word: unsure"
    text = pa.array(["a", "b", "c", "d"])
    rows = [row.split("\t")[3:] for row in lines.to_tsv(text, scores).decode().splitlines()]
    assert rows == [[""], ["unsure"], ["unsure"], [""]]
    noted = lines.to_tsv(text, scores, for_people=True).decode().splitlines()
    assert noted[2] == "positive\t0.8000\tc\tunsure\t(no known word: the prior)"
    items = [json.loads(line) for line in lines.to_json(text, scores).splitlines()]
    assert [item["unsure"] for item in items] == scores.unsure.tolist()
    assert scores.top(2)["unsure"].tolist() == scores.unsure.tolist()
    two = lines.to_tsv(text, scores, top=2).decode().splitlines()
    assert two[1] == "negative\t0.7000\tpositive\t0.3000\tb\tunsure"
    parts = [scores.take(slice(k, k + 2)) for k in (0, 2)]
    assert Scores.join(parts).unsure.tolist() == scores.unsure.tolist()


class Package:
    """Scores a text by the number in it."""

    def score_pieces(self, pieces):
        text = pa.concat_arrays(pieces)
        numbers = np.array([int(item or 0) for item in text.to_pylist()])
        return Scores(
            probabilities=pairs(numbers % 1000 / 1000),
            classes=("negative", "positive"),
            num_tokens=np.ones(len(text), np.int32),
            lengths=np.ones(len(text), np.int64),
            num_unknown=np.zeros(len(text), np.int32),
        )


def test_predictions_are_in_the_order_of_the_lines(monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    content = "".join(f"{number}\n" for number in range(5000)).encode()
    out = io.BytesIO()
    lines.predict(Package(), lines.read(Dribble(content, 70)), out, lines.to_tsv)
    assert [row.split("\t")[2] for row in out.getvalue().decode().splitlines()] == [
        str(number) for number in range(5000)
    ]


def open_pipe():
    """Open both ends of a pipe: to read, and to write."""
    source, sink = os.pipe()
    return os.fdopen(source, "rb"), os.fdopen(sink, "wb")


def test_a_prediction_is_written_before_the_next_line_is_awaited():
    reader, writer = open_pipe()
    answers, out = open_pipe()
    arguments = (Package(), lines.read(reader), out, lines.to_tsv)
    thread = threading.Thread(target=lines.predict, args=arguments)
    thread.start()
    for number in (7, 8):
        writer.write(f"{number}\n".encode())
        writer.flush()
        assert answers.readline().decode().split("\t")[2] == f"{number}\n"
    writer.close()
    thread.join()
    for file in (reader, answers, out):
        file.close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_closed_pipe_ends_predict_quietly(finished_run):
    model = finished_run / "run/trained/model"
    command = [sys.executable, "-m", "sentiflow", "predict", str(model)]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"good day\n" * 10_000_000)
        process.stdin = None
        assert messages(process.stderr.read().decode()) == []
        assert process.wait() == 1
