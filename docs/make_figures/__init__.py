"""The figures of theory.md."""
