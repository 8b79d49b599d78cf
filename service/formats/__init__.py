"""Conversions of bytes to tensors and back. This room knows no HTTP and no model."""
