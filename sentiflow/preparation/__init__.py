"""CSV files -> checked, split and encoded tables, and a vocabulary."""
