"""Run Python code as if only the packages of ``requirements-predict.txt`` were installed.

    python tests/without_packages.py CODE ARGUMENT...

``CODE`` gets the arguments as ``sys.argv[1:]``.
"""

import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import sentiflow

REQUIREMENTS = Path(sentiflow.__file__).with_name("models") / "requirements-predict.txt"


def list_needed() -> set[str]:
    """List the distributions that the requirements install, with what they require themselves."""
    from packaging.requirements import Requirement

    lines = REQUIREMENTS.read_text().splitlines()
    waiting = [Requirement(line) for line in lines if not line.startswith("#")]
    found = set()
    while waiting:
        requirement = waiting.pop()
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        name = requirement.name.lower().replace("_", "-")
        if is_needed and name not in found:
            found.add(name)
            waiting += map(Requirement, distribution(name).requires or ())
    return found


class Absent:
    """Refuses to import the modules of all other installed distributions."""

    def __init__(self) -> None:
        """Find out which modules they have."""
        needed = list_needed() | {"sentiflow"}
        self.names = {
            module
            for module, owners in packages_distributions().items()
            if not {owner.lower().replace("_", "-") for owner in owners} & needed
        }

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise the error of a module that is not installed; else let the others find it."""
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    absent = Absent()
    loaded = absent.names & sys.modules.keys()
    for name in [*sys.modules]:
        if name.partition(".")[0] in loaded:
            del sys.modules[name]
    sys.meta_path.insert(0, absent)  # type: ignore[arg-type]
    code = sys.argv.pop(1)
    exec(code, {"__name__": "__main__"})
