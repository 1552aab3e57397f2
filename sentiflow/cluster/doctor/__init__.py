"""A config -> what would make its jobs fail here, and what to do about it."""
