"""From predictions to shares of the classes, by column or time.

``python jobs/trends.py CONFIG [KEY=VALUE ...]`` here, or through ``ray job submit``.
"""

from sentiflow.cli.jobs import run_job

if __name__ == "__main__":
    run_job("trends")
