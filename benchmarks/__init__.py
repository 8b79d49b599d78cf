"""Measurements that a sceptic can repeat: interleaved runs, and ratios from them."""
