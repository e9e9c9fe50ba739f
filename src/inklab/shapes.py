"""The arrays that travel between floors, named once.

NumPy only: reading data and refusing bad input must not wait for torch (2 s).
"""

import numpy as np
from jaxtyping import Float, Int64, UInt8

Pixels = UInt8[np.ndarray, "n c h w"]
"""What a source yields: bytes, 0 is the ground and 255 full ink."""

Labels = Int64[np.ndarray, " n"]
"""Class numbers in [0, k)."""

Values = Float[np.ndarray, " runs"]
"""One score a replicate; entry k comes from replicate k."""
