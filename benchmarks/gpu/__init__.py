"""What a GPU gives through our service, beside the bare loop on it."""
