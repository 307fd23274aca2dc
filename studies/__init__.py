"""Questions: a job becomes datasets, figures and tables."""
