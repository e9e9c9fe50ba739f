"""Networks as ONNX files that compute the same as the original.

A graph (`graphs.py`) is converted (`onnx_export.py`), compared with the original (`verify.py`) and described
by a model card (`card.py`). `onnx_file.py` reads and runs such files, and others, without torch.
"""
