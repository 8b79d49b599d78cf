"""The log, the metrics and the timings of the service."""
