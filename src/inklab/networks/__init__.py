"""Networks: one decorated function each. torch is imported only when one is built."""
