"""mosec."""
