"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentiflow.cluster.texts import read_texts

# Ray and MLflow read these when they are imported: no command reports to anybody by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"

__all__ = ["__version__", "read_texts"]

_MODULES = {"read_texts": "sentiflow.cluster.texts"}
"""Modules of the public functions, imported when they are used: Ray alone takes a second."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
