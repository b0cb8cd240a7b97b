"""Exact Bayesian causal discovery for black holes and their galaxies (arXiv:2410.00965)."""
