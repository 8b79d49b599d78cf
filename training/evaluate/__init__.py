"""Measuring a stored model: bounds, errors, latents, novelty, figures."""
