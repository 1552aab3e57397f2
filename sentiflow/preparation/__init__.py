"""CSV or Parquet files -> checked, split and encoded tables, and a vocabulary."""
