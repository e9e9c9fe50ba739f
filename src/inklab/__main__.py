"""`python -m inklab` is `inklab`."""

from inklab.cli import main

if __name__ == "__main__":
    main()
