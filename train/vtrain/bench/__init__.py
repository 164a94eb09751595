"""Measurements of the loader, of a training step, and of both together."""
