"""Compute features of videos, and keep them in files."""
