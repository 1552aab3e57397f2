"""Predictions with labels -> metrics, slices, behavior tests, report; two runs -> a comparison."""
