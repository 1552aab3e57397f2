"""A config -> what would make its jobs fail on this machine or cluster, and what to do about it."""
