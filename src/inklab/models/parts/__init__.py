"""What networks are made of: modules of our own and what can be read off any module. These import torch."""
