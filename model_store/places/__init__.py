"""The places where a store keeps its files: today a folder of a file system."""
