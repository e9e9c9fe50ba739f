"""Networks as ONNX files that are proved to compute the same, and such files read back with care.

A bundle's network (`networks.py`) is converted (`convert.py`), compared with the original (`compare.py`) and
described by a card (`card.py`). `reading.py` reads a file from anywhere, without torch.
"""
