"""inklab: a laboratory for small-image neural networks.

Importing this package does nothing but name its version; import what you need from its units:

    >>> from inklab.seeding import Seed
    >>> (Seed(7) / "init").number == (Seed(7) / "init").number
    True
"""

__version__ = "0.1.0"
