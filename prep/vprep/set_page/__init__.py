"""The page of a set: its counts as charts and tables, and videos of each class that play."""
