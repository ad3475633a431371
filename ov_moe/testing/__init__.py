"""Graphs of MoE blocks in every known form, and near misses of them: for the project's tests and scripts."""
