"""Texts -> token ids -> logits; a model package -> probabilities of texts."""
