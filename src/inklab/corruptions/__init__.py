"""Corruptions, and filters that denoise images without training."""
