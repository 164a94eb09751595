"""The tasks that measure networks: retrieval, k-NN, a linear layer, fine-tuning, accuracy on videos."""
