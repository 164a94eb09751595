"""Results: written, compared with published ones, gathered into tables."""
