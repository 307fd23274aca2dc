"""Mechanisms that fit a quantizer to data: observers and what they collect."""
