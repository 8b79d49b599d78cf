"""Pretrained autoencoders: our service beside diffusers in a plain FastAPI route, and beside the bare network."""
