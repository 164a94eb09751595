"""The tasks by which networks are measured: retrieval, k-NN, a linear layer, fine-tuning, accuracy on videos."""
