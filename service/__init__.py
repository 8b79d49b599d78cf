"""Answers HTTP with stored models."""
