"""inklab: a laboratory for small-image neural networks.

`import inklab` only defines `__version__`. Import from submodules, such as `from inklab.run import Run`:

    >>> from inklab.seeding import Seed
    >>> (Seed(7) / "init").number == (Seed(7) / "init").number
    True
"""

__version__ = "0.1.0"
