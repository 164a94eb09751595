"""Pages: one HTML file that opens from disk, without any network."""
