"""The training engine: what methods that change weights share. It needs PyTorch, and nothing that serves does."""
