"""Answers HTTP with stored models.

A request travels `listening/connection → access → routes/shortcut → routes/direct → dependencies → routes/operations →
bodies → inference/engine → inference/batcher → inference/runner → model_store.vae`, and back through `answers`.
"""
