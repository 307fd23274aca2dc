"""Published claims re-tested: endpoint, direction and smallest effect of each were fixed before its first run."""
