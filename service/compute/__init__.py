"""One model on one device: runtimes, threads, batch sizes. This room knows no requests."""
