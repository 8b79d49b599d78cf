"""From a question about images to a model's answer: engine → batcher → runner → device. It knows no HTTP."""
