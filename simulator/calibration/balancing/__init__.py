"""Channels made alike before quantization, by factors that the layers before and after absorb."""
