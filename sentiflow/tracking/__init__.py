"""What a job logs -> its run in MLflow; model packages -> MLflow's registry, and back."""

import os

for _name, _value in {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # No job waits long for a server: ``sentiflow tracking import`` adds later what it has missed.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)  # MLflow reads them when it is imported
