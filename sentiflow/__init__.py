"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report."""

import os

# Ray and MLflow read these when they are imported: no command reports to anybody by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"
