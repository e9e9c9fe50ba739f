"""Executors, one module each; a decorated function is one more."""
