"""How the service bears hostile bytes, mixed traffic and reloads under load: short in tests, long by command."""
