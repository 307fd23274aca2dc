"""What corrections assume of residual noise, tested."""
