"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report."""
