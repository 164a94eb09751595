"""Show the rows of a report: on a terminal, as Markdown, as LaTeX, and as CSV."""
