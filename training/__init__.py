"""Training, offline: read images, train an autoencoder, measure it, and publish it into the store."""
