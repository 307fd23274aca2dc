"""The recipes that are shipped, a file for each."""
