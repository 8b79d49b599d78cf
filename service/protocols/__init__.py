"""The wire protocols, a folder for each. A protocol knows no other protocol, and no model."""
