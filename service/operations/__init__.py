"""The operations that a client can ask of a model. They know no HTTP."""
