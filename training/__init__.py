"""Makes models, offline: reads images, trains a variational autoencoder, measures it, publishes it into the store."""
