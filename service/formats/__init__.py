"""Bytes to tensors and back. It knows no HTTP and no model."""
