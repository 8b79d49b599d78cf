"""What listens: processes, their port, its connections, and the signals that end them."""
