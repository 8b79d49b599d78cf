"""The processes that listen, their port, its connections, and the signals that end them."""
