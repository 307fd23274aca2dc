"""Intervals, verdicts and pooled moments: what every statistic here is made of."""
