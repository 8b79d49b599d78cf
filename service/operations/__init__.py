"""The operations that a client can ask of a model, one file each, with their results. They know no HTTP.

An operation is a function of a `Session` and of plain tensors. Its result is a frozen record of tensors on the CPU.
"""
