"""The models that are served now, each with the queue in front of its device. This room knows no HTTP."""
