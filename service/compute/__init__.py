"""One model on one device: runtimes, threads, batch sizes. It knows no requests."""
