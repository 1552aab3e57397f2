"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report.

The names here are the Python interface; docs/python.md has examples. Each name is imported when it
is used, as Ray, PyTorch and MLflow take seconds.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sentiflow.errors import JobError, UserError

if TYPE_CHECKING:
    from sentiflow.cluster.texts import read_texts
    from sentiflow.models.explanations import Explanation, Explanations
    from sentiflow.models.model import Model
    from sentiflow.pipeline.calls import (
        evaluate,
        load_run,
        prepare,
        promote,
        read_predictions,
        run,
        score,
        train,
        trends,
    )
    from sentiflow.pipeline.loaded_model import load_model
    from sentiflow.pipeline.results import (
        Evaluated,
        Prepared,
        Report,
        Run,
        Scored,
        Trained,
        Trends,
    )
    from sentiflow.pipeline.tables import Table
    from sentiflow.training.encoder_teacher import write_answers

# Ray and MLflow read these variables when they are imported: no usage is reported by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.2.0"

__all__ = [
    "Evaluated",
    "Explanation",
    "Explanations",
    "JobError",
    "Model",
    "Prepared",
    "Report",
    "Run",
    "Scored",
    "Table",
    "Trained",
    "Trends",
    "UserError",
    "__version__",
    "evaluate",
    "load_model",
    "load_run",
    "prepare",
    "promote",
    "read_predictions",
    "read_texts",
    "run",
    "score",
    "train",
    "trends",
    "write_answers",
]

_MODULES = {
    "sentiflow.cluster.texts": ("read_texts",),
    "sentiflow.models.explanations": ("Explanation", "Explanations"),
    "sentiflow.models.model": ("Model",),
    "sentiflow.pipeline.calls": (
        "evaluate",
        "load_run",
        "prepare",
        "promote",
        "read_predictions",
        "run",
        "score",
        "train",
        "trends",
    ),
    "sentiflow.pipeline.loaded_model": ("load_model",),
    "sentiflow.pipeline.results": (
        "Evaluated",
        "Prepared",
        "Report",
        "Run",
        "Scored",
        "Trained",
        "Trends",
    ),
    "sentiflow.pipeline.tables": ("Table",),
    "sentiflow.training.encoder_teacher": ("write_answers",),
}
"""Public names by module."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is used."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
