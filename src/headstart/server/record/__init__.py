"""What is counted, traced and kept of what was answered."""
