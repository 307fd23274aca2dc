"""From noise injected at each step to the noise of the final sample."""
