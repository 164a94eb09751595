"""Curves of runs: read from their metrics, drawn in the terminal and as files, compared in a table."""
