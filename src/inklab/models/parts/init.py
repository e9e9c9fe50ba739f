"""How weights begin."""

from torch import nn


def glorot(net: nn.Module) -> nn.Module:
    """Draw dense and convolutional weights Glorot uniform and set biases to zero, in place: what Keras does.

    Glorot and Bengio 2010, eq. 16: uniform on +-sqrt(6 / (fan_in + fan_out)).

    Returns:
        The same network.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
