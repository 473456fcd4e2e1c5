"""The queue: what waits for the model thread, and how it is answered in batches."""
