"""Answers HTTP with stored models.

A request travels `listening → http → protocols → operations → inference → compute → model_store.vae`, and its answer
takes the same way back.
"""
