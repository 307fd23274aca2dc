"""Quantization-aware training: learned scales and weights, by straight-through gradients of the denoising loss."""
