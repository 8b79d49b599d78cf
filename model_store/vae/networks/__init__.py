"""The networks of a variational autoencoder: fully connected and convolutional."""
