"""Trainers that run an epoch whenever a line comes in, and answer with its images/s."""
