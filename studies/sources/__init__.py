"""Stored runs as figures, tables and reports take them: from a store, a results folder or one file."""
