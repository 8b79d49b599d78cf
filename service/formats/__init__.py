"""Conversions of bytes to pixels or tensors, and back, and the words beside them. It knows no request and no model."""
