"""One video: from its file to JPEG frames."""
