"""Recipes side by side: the same models, samplers, samples and metrics for all, over seeds."""
