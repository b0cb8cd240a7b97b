"""Geometric Signatures of Compositionality Across a Language Model's Lifetime (arXiv:2410.01444)."""
