"""Estimators for scikit-learn: a classifier of images, and a denoiser as a transformer.

They train in this process, with the same engine as `inklab.train`: no run directory, no worker processes.
`import inklab` does not import this package; it needs torch and scikit-learn.
"""

from inklab.sklearn.estimators import ImageClassifier, ImageDenoiser

__all__ = ["ImageClassifier", "ImageDenoiser"]
