"""Find what would make a job of a config fail on this machine or cluster.

``python jobs/doctor.py [CONFIG] [KEY=VALUE ...]`` here, or through ``ray job submit``.
"""

from sentiflow.cli.doctor import main

if __name__ == "__main__":
    main()
