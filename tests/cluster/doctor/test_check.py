"""Results read as lines that fit a terminal, and as objects that a program can use."""

import pytest

from sentiflow.cluster.doctor.check import Check, CheckResult, has_errors, to_text
from sentiflow.errors import UserError

REFUSAL = "reading key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: "
GOOD = CheckResult("disk", "ok", "there is enough space")
BAD = CheckResult("token", "error", "it is open", "others can use it", "chmod 600", ("10.0.0.2",))


def test_a_good_result_takes_one_line_and_a_bad_one_says_why_and_what_to_do():
    assert to_text([GOOD, BAD]).splitlines() == [
        "ok        disk      there is enough space",
        "error     token     it is open",
        "                    why: others can use it",
        "                    do:  chmod 600",
        "",
        "1 error",
    ]


def test_no_line_is_wider_than_a_terminal_and_no_word_is_broken():
    text = " ".join(["word"] * 60) + " https://host/" + "x" * 100
    lines = to_text([CheckResult("disk", "warning", text, text, text)]).splitlines()
    assert max(len(line) for line in lines if "https" not in line) <= 100
    assert sum("https://host/" + "x" * 100 in line for line in lines) == 3


def test_the_last_line_counts_what_is_not_well():
    unchecked, warning = CheckResult("a", "unchecked", "b"), CheckResult("a", "warning", "b")
    assert to_text([GOOD, GOOD]).splitlines()[-1] == "all is well: 2 checks"
    last = to_text([BAD, warning, warning, unchecked]).splitlines()[-1]
    assert last == "1 error, 2 warnings, 1 unchecked"


def test_only_an_error_makes_a_job_fail():
    assert has_errors([GOOD, BAD])
    assert not has_errors(
        [GOOD, CheckResult("a", "warning", "b"), CheckResult("a", "unchecked", "b")]
    )


def test_passwords_are_not_repeated():
    secret = "https://me:secret@host does not answer"
    result = CheckResult("tracking", "error", secret, do="key=1?token=abc")
    assert "secret" not in to_text([result]) + str(result.to_json())
    assert list(result.to_json()) == ["check", "level", "what", "why", "do", "nodes"]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            UserError("no such file: a.csv", hint="check the path"),
            "no such file: a.csv: check the path",
        ),
        (PermissionError(13, "Permission denied", "/data"), "Permission denied: '/data'"),
        (OSError(REFUSAL), "s3://b/a: the object store refuses access (ACCESS_DENIED)"),
    ],
)
def test_what_a_check_raises_is_its_result(error, what):
    def fail(config):
        raise error

    result = Check("input", fail, why="because", do="this").attempt(None)[0]
    assert (result.level, result.why, result.do) == ("error", "because", "this")
    assert what in result.what
    assert Check("input", lambda config: "1 file", "", "").attempt(None)[0].what == "1 file"
