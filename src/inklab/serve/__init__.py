"""A local server: a page and an API for the trained models of a run, and its progress (docs/serving.md).

Imported only where something is served: it needs the packages of `inklab[serve]`.
"""
