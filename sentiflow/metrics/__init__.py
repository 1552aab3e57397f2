"""Labels and predictions -> numbers with their uncertainty."""
