"""Features of videos: computed, and kept in a file."""
