"""The sample table of the demo."""
