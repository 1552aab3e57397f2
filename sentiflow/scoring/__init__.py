"""A corpus and a model package -> predictions."""
