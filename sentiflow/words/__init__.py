"""Word vectors -> distances, analogies, biases and maps."""
