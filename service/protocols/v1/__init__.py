"""The HTTP contract of this project: `/v1`."""
