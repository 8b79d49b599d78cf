"""The models that are served: loader, registry, and the queue in front of each model. They know no HTTP."""
