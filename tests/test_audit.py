"""An audit that could not look everything up does not pass for a clean one."""

import json
import os
import subprocess
import sys

import pytest
from conftest import PROJECT

SAFE = {"name": "ray", "version": "2.60.0", "vulns": []}
HOLE = {"name": "numpy", "version": "2.4.6", "vulns": [{"id": "CVE-1", "fix_versions": ["2.4.7"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "not found"}


@pytest.fixture
def audit(tmp_path):
    """Run the audit with a pip-audit that answers as it is told, or not at all."""

    def run(answer):
        (tmp_path / "pip_audit.py").write_text(f"""
import sys
options = dict(zip(sys.argv, sys.argv[1:]))
pins = open(options["--requirement"]).read().splitlines()
assert any(pin.startswith("ray==2.60") for pin in pins)
assert not any(pin.startswith("sentiflow") or "+" in pin for pin in pins)
if {answer!r} is None:
    sys.exit("no route to host")
open(options["--output"], "w").write({json.dumps({"dependencies": answer})!r})
""")
        return subprocess.run(
            [sys.executable, PROJECT / "security/audit.py"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([SAFE], 0, "1 packages looked up, 0 with known vulnerabilities"),
        ([SAFE, HOLE, UNKNOWN], 1, "numpy 2.4.6: CVE-1, fixed in 2.4.7"),
        ([SAFE, UNKNOWN], 2, "osv knows nothing of 1: torch"),
        (None, 2, "nothing was audited, osv gave no answer: no route to host"),
    ],
)
def test_what_is_not_known_is_not_taken_for_safe(audit, answer, code, said):
    result = audit(answer)
    assert result.returncode == code, result.stderr
    assert said in result.stdout + result.stderr
