"""What is measured of a network: retrieval, nearest neighbours, a linear layer, fine-tuning."""
