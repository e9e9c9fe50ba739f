"""A server on one's own machine: a run's networks to draw for, its study while it runs (docs/serving.md).

Imported only where something is served: it needs the packages of `inklab[serve]`.
"""
