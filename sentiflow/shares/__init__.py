"""Predictions, some of them labelled -> shares of the classes, by column and time."""
