"""Write results, compare them with published values, and gather them into tables."""
