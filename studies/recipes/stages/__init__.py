"""What recipes are made of: each stage applies one mechanism to what was prepared so far."""
