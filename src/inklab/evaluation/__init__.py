"""Evaluation of trained networks: metrics, robustness curves, generated images."""
