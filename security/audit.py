"""Look every installed package up in a list of known vulnerabilities.

What is looked up is what is installed beside this Python, in the versions that run, not what
``constraints.txt`` would allow. Answers come from OSV, or from PyPI with ``--service pypi``; what a
service does not know, or cannot be asked, counts as not audited: a mirror of PyPI that has no such
list would otherwise make everything look safe.

    make audit
    python security/audit.py [--service osv | pypi]

Exit codes: 0 nothing known; 1 a vulnerability is known; 2 something could not be looked up.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

OURS = "sentiflow"


def installed() -> list[str]:
    """List what is installed as NAME==VERSION, without the part of a version that names a build."""
    pins = {
        distribution.metadata["Name"].lower(): distribution.version.partition("+")[0]
        for distribution in metadata.distributions()
    }
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if name != OURS]


def look_up(pins: list[str], *, service: str) -> list[dict[str, Any]] | str:
    """Look packages up with pip-audit; returns what it says of each, or why it says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        listed, answer = Path(folder, "packages.txt"), Path(folder, "answer.json")
        listed.write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps"]
        command += [
            "--disable-pip",
            "--vulnerability-service",
            service,
            "--progress-spinner",
            "off",
        ]
        command += ["--format", "json", "--output", str(answer)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not answer.exists():
            lines = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
            return lines[-1]
        return json.loads(answer.read_text())["dependencies"]


def main() -> int:
    """Print what is known of the installed packages, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--service", choices=["osv", "pypi"], default="osv")
    service = parser.parse_args().service
    found = look_up(installed(), service=service)
    if isinstance(found, str):
        print(f"audit: nothing was audited, {service} gave no answer: {found}", file=sys.stderr)
        print("audit: a network is needed; or try --service", file=sys.stderr)
        return 2
    vulnerable = [package for package in found if package.get("vulns")]
    for package in vulnerable:
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            name = f"{package['name']} {package['version']}"
            print(f"{name}: {vulnerability['id']}, fixed in {fixed}")
    unknown = [package["name"] for package in found if "skip_reason" in package]
    if unknown:
        names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        print(f"audit: {service} knows nothing of {len(unknown)}: {names}", file=sys.stderr)
    known = len(found) - len(unknown)
    print(f"{known} packages looked up, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
