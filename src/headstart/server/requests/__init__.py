"""From the bytes of a request to rows that are fit to wait for the model."""
