"""From predictions to a report.

``python jobs/evaluate.py CONFIG [KEY=VALUE ...]`` here, or through ``ray job submit``.
"""

from sentiflow.cli.jobs import run_job

if __name__ == "__main__":
    run_job("evaluate")
