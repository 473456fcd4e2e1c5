"""What is served: opened versions of models, their shelf, and how they come and go."""
