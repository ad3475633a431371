"""Graph passes: they find MoE blocks in an ``ov.Model`` and replace them by ov-moe's operations."""
