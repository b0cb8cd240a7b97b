"""Adaptive teachers for amortized samplers (arXiv:2410.01432): GFlowNets that are taught by a second GFlowNet."""
