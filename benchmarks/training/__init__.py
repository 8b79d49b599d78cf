"""How fast our training loop is beside others, with the same network and batch; each trainer is a process."""
