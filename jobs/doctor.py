"""Find problems that would make a job of a config fail on this machine or cluster.

``python jobs/doctor.py [CONFIG] [KEY=VALUE ...]`` here, or through ``ray job submit``.
"""

from sentiflow.cli import app, exits

if __name__ == "__main__":
    exits.run_alone(app.doctor)
