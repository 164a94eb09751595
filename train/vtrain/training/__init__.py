"""A training, from a recipe to a folder with weights."""
