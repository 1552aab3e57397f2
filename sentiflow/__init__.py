"""Batch sentiment on Ray: CSV -> Parquet -> recurrent model -> scored corpus -> report."""

__version__ = "0.1.0"
