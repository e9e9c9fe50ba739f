"""Array types that several packages use. NumPy only: reading data must not import torch, which takes 2 s."""

import numpy as np
from jaxtyping import Float, Int64, UInt8

Pixels = UInt8[np.ndarray, "n c h w"]
"""Images as bytes: in MNIST, 0 is background and 255 full ink."""

Labels = Int64[np.ndarray, " n"]
"""Class numbers in [0, k)."""

Values = Float[np.ndarray, " runs"]
"""One value per replicate; entry k comes from replicate k."""
