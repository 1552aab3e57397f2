"""Results read as lines that fit a terminal; what a check raises is its result."""

import pytest

from sentiflow.errors import JobError, UserError
from sentiflow.pipeline.preflight.check import CheckResult, find_problem, run_check

REFUSAL = "reading key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: "


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
    assert run_check("input", fail, "x", level="warning")[0].level == "warning"
    assert run_check("input", str, "1 file") == [CheckResult("input", "ok", "1 file")]
