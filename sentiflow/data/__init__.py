"""Files of texts -> records, tables and manifests."""
