"""Blocks with a branch for each expert, which takes a slice of the rows sorted by expert."""
