"""Findings read as lines that fit a terminal, and as objects that a program can use."""

from sentiflow.cluster.doctor.diagnosis import Finding, is_ill, name_all, to_text

GOOD = Finding("clock", "ok", "0.01 s apart at most")
BAD = Finding("token", "error", "it is open", "others can use it", "chmod 600", ("10.0.0.2",))


def test_what_is_well_takes_one_line_and_what_is_not_says_why_and_what_to_do():
    assert to_text([GOOD, BAD]).splitlines() == [
        "ok        clock      0.01 s apart at most",
        "error     token      it is open",
        "                     why: others can use it",
        "                     do:  chmod 600",
        "",
        "1 error",
    ]


def test_no_line_is_wider_than_a_terminal_and_no_word_is_broken():
    text = " ".join(["word"] * 60) + " https://host/" + "x" * 100
    lines = to_text([Finding("disk", "warning", text, text, text)]).splitlines()
    assert max(len(line) for line in lines if "https" not in line) <= 100
    assert sum("https://host/" + "x" * 100 in line for line in lines) == 3


def test_the_last_line_counts_what_is_not_well():
    unchecked, warning = Finding("a", "unchecked", "b"), Finding("a", "warning", "b")
    assert to_text([GOOD, GOOD]).splitlines()[-1] == "all is well: 2 checks"
    last = to_text([BAD, warning, warning, unchecked]).splitlines()[-1]
    assert last == "1 error, 2 warnings, 1 unchecked"


def test_only_an_error_is_ill():
    assert is_ill([GOOD, BAD])
    assert not is_ill([GOOD, Finding("a", "warning", "b"), Finding("a", "unchecked", "b")])


def test_credentials_are_not_repeated():
    finding = Finding("tracking", "error", "https://me:secret@host is away", do="key=1?token=abc")
    assert "secret" not in to_text([finding]) + str(finding.to_json())
    assert finding.to_json()["nodes"] == ()


def test_nodes_are_named_once_and_in_order():
    assert name_all(["b", "a", "b"]) == "nodes a and b"
    assert name_all(["a", "b", "c", "d"]) == "nodes a, b, c and 1 other"
