"""Measure a stored model: bounds, errors, use of latents, novelty of samples, figures."""
