"""The methods, by name. Each file is one paper, read from its sampling to its loss."""
