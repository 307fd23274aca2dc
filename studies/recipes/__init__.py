"""Named systems of the papers as data: which mechanisms, in which order, with which parameters."""
