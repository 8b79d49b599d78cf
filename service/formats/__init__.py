"""Conversions of bytes to pixels or tensors, and back. This room knows no HTTP and no model."""
