"""Blocks whose experts are one batched MatMul: each computes every token, and a sum picks."""
