"""Inspects files of unknown form: finds their columns, and writes settings that read them."""
