"""The speed of our training loop beside other loops with the same network and batch; each trainer is a process."""
