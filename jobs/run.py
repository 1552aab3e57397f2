"""From CSV files to a report: prepare, train, score and evaluate; complete stages are skipped.

``python jobs/run.py CONFIG [KEY=VALUE ...]`` here, or through ``ray job submit``.
"""

from sentiflow.cli.jobs import run_job

if __name__ == "__main__":
    run_job("run")
