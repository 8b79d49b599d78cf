"""Models of other programs, read from their files and published in the store: `python -m model_store import`.

A module for each kind of source makes a `Candidate`; the candidate is tried on pictures before it is published. The
files come from strangers: everything about them is checked before memory is taken.
"""
