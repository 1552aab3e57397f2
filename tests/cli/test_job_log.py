"""The log of a job that prints JSON: every line is written but for the result."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.cli.job_log import JobLog

RESULT = json.dumps({"score": {"counts": {"accepted": 3}, "name": "é\u2028x"}}, ensure_ascii=False)


def split(log: str, pieces: list[str]) -> tuple[str, object]:
    """Give a log in pieces; return what was written, and the result."""
    written: list[str] = []
    taken = JobLog(written.append)
    for piece in pieces:
        taken.add(piece)
    return "".join(written), taken.end()


@pytest.mark.parametrize(
    ("log", "written", "result"),
    [
        ("", "", None),
        ("one\ntwo\n", "one\ntwo\n", None),
        (f"one\n{RESULT}\n", "one\n", RESULT),
        (f"one\n{RESULT}\nRay ends\n", "one\nRay ends\n", RESULT),
        (f"[1]\n{{not json\n{RESULT}\n", "{not json\n[1]\n", RESULT),
        ('"text"\n3\nnull\n[]\n', '"text"\n3\nnull\n', "[]"),
        (RESULT, "", RESULT),
    ],
)
def test_the_last_line_that_is_json_is_the_result(log, written, result):
    expected = None if result is None else json.loads(result)
    assert split(log, [log]) == (written, expected)


@given(st.lists(st.integers(0, 60)))
def test_it_does_not_matter_how_the_log_is_cut(cuts):
    log = f"one\n\ntwo\n{RESULT}\nbye\n"
    edges = [0, *sorted(cuts), len(log)]
    pieces = [log[start:end] for start, end in itertools.pairwise(edges)]
    assert split(log, pieces) == ("one\n\ntwo\nbye\n", json.loads(RESULT))
