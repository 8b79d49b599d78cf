"""Our service on a GPU, beside the bare loop on the same GPU."""
