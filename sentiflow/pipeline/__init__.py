"""A config -> its stages, run in order and tracked, and their results."""
