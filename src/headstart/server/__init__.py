"""The REST service: app, batching and wire protocols."""
