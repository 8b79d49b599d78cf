"""The service on engines that others have built."""
