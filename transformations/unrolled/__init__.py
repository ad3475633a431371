"""Blocks with a branch for each expert, which takes its tokens by a mask."""
