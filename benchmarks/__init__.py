"""Benchmarks of inklab against its peers; run from a checkout, never installed."""
