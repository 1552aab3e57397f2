"""YAML and command line -> checked settings."""
