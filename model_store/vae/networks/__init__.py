"""Encoders and decoders: fully connected and convolutional."""
