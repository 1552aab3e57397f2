"""Results read as lines that fit a terminal; what a check raises is its result."""

import pytest

from sentiflow.cluster.doctor.check import CheckResult, find_problem, report, to_text
from sentiflow.errors import JobError, UserError

REFUSAL = "reading key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: "
GOOD = CheckResult("disk", "ok", "there is enough space")


def test_each_result_is_a_paragraph_that_fits_a_terminal_and_no_word_is_broken():
    url = "https://host/" + "x" * 100
    text = to_text([GOOD, CheckResult("token", "error", " ".join(["word"] * 60) + f" {url}")])
    assert text.startswith(
        "ok        disk      there is enough space\nerror     token     word word"
    )
    assert max(len(line) for line in text.splitlines() if "https" not in line) <= 100
    assert url in text


def test_the_last_line_counts_what_is_not_well():
    assert to_text([GOOD, GOOD]).splitlines()[-1] == "all is well: 2 checks"
    bad = [CheckResult("a", level, "b") for level in ("warning", "error", "unchecked")]
    assert to_text([GOOD, *bad]).splitlines()[-1] == "1 error, 1 warning, 1 unchecked"


@pytest.mark.parametrize(
    ("error", "what", "is_mistake"),
    [
        (UserError("no such file: a.csv", hint="check the path"), "a: no such file: a.csv: ", True),
        (UserError("a: is wrong"), "a: is wrong", True),
        (JobError("https://me:secret@host is away"), "a: https://host is away", False),
        (PermissionError(13, "Permission denied", "/data"), "Permission denied: '/data'", True),
        (OSError(REFUSAL), "s3://b/a: the object store refuses (ACCESS_DENIED)", True),
    ],
)
def test_what_a_check_raises_is_its_result(error, what, is_mistake):
    def fail(argument):
        raise error

    (result,) = find_problem("input", fail, "x", setting="a")
    assert (result.level, result.is_mistake, what in result.what) == ("error", is_mistake, True)
    assert find_problem("input", str, "x") == []
    assert report("input", fail, "x", level="warning")[0].level == "warning"
    assert report("input", str, "1 file") == [CheckResult("input", "ok", "1 file")]
