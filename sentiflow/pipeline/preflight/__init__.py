"""A config -> problems that would make its jobs fail on this machine or cluster, and ways out."""
