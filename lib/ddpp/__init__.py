"""Steering masked discrete diffusion by denoising posterior prediction (arXiv:2410.08134)."""
