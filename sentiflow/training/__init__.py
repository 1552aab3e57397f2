"""Encoded tables -> a model package; many trainings -> the best of them."""
