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


def he(net: nn.Module) -> nn.Module:
    """Draw convolutional weights He normal, dense ones Glorot uniform, and set biases to zero, in place.

    He et al. 2015, eq. 10: normal with variance 2 / fan_in, which keeps the size of what goes through ReLUs.

    Returns:
        The same network.
    """
    for module in glorot(net).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net
