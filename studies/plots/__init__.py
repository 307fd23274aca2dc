"""Figures, one per file: ``plot_x(dataset, *, ax=None) -> Axes``, and the style they share."""
