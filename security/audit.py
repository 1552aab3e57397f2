"""Look up every installed package in a list of known vulnerabilities.

The packages are those installed for this Python, in the installed versions, whatever
``constraints.txt`` allows. Answers come from OSV, or from PyPI with ``--service pypi``. A package
that the service does not know counts as not audited, and so do all packages if the service cannot
be asked. Otherwise a mirror of PyPI that has no such list would make everything look safe.

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
    """List the installed packages as NAME==VERSION, without the build in a version, ``+cpu``."""
    versions = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"].lower()
        version, _, _ = distribution.version.partition("+")
        versions[name] = version
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != OURS]


def look_up(pins: list[str], *, service: str) -> list[dict[str, Any]] | str:
    """Look up packages with pip-audit; returns its answer for each, or why there is no answer."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "packages.txt")
        answer = Path(folder, "answer.json")
        listed.write_text("\n".join(pins))
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps",
            "--disable-pip", "--vulnerability-service", service, "--progress-spinner", "off",
            "--format", "json", "--output", str(answer),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if not answer.exists():
            lines = done.stderr.strip().splitlines()
            return lines[-1] if lines else f"pip-audit ended with {done.returncode}"
        return json.loads(answer.read_text())["dependencies"]


def main() -> int:
    """Print the known vulnerabilities of the installed packages, and return the exit code."""
    first_line, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(description=first_line)
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
        names = ", ".join(unknown[:5])
        if len(unknown) > 5:
            names += ", ..."
        print(f"audit: {service} knows nothing of {len(unknown)}: {names}", file=sys.stderr)
    known = len(found) - len(unknown)
    print(f"{known} packages looked up, {len(vulnerable)} with known vulnerabilities")
    if vulnerable:
        return 1
    if unknown:
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
