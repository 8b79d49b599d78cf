"""Triton, through nvidia-pytriton."""
