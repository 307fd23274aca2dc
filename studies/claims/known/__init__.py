"""The claims, a file for each. Numbers in them are fixed before the first full run, and change only with a new name."""
