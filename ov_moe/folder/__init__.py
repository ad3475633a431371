"""Rewrites the IRs of a model folder into a new folder that holds everything else as well: ``ov-moe optimize``."""
