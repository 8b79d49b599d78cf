"""What the service bears: hostile bytes, mixed traffic, reloads under fire; short in tests, long by command."""
