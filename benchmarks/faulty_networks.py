"""Networks with one fault each, for the benchmark of diagnoses."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inklab.networks.classifiers import cnn, compact, mlp
from inklab.networks.denoisers import autoencoder, unet
from inklab.networks.layers import Dropout
from inklab.records.record import Shape
from inklab.training.objectives import objective


class UserNet(nn.Module):
    """As many tutorials write it: torch's own layers and initial weights, activations as functions."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * (shape[1] // 4) * (shape[2] // 4), 64)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits."""
        features = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        features = functional.max_pool2d(functional.relu(self.conv2(features)), 2)
        logits: Tensor = self.fc2(functional.relu(self.fc1(features.flatten(1))))
        return logits


class UserDenoiser(nn.Module):
    """Convolutions down to a quarter of the side and up again."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(16, shape[0], 2, stride=2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits of pixels; sides that four does not divide are cut."""
        logits: Tensor = self.up(self.down(images))
        return logits[..., : images.shape[-2], : images.shape[-1]]


class Around(nn.Module):
    """A network with something done to its inputs or outputs."""

    def __init__(self, net: nn.Module, fault: str) -> None:
        super().__init__()
        self.net, self.fault = net, fault

    def forward(self, images: Tensor) -> Tensor:
        """Images to outputs."""
        scale = {"divides": 1 / 255, "multiplies": 255.0}.get(self.fault, 1.0)
        outputs: Tensor = self.net(images * scale)
        match self.fault:
            case "softmax":
                return outputs.softmax(1)
            case "sigmoid":
                return outputs.sigmoid()
            case "relu":
                return outputs.relu()
        return outputs


def faulty(shape: Shape, classes: int, *, base: str, fault: str = "") -> nn.Module:
    """One of four networks, with a fault or, for "", without."""
    dropout = 0.95 if fault == "dropout" else 0.0
    net: nn.Module
    match base:
        case "mlp":
            net = mlp(shape, classes, hidden=[100, 50], dropout=dropout)
        case "cnn":
            net = cnn(shape, classes, channels=[8, 16], hidden=64, dropout=dropout or 0.5)
        case "compact":
            net = compact(shape, classes, channels=[16, 32], stem_kernel=5, dropout=dropout)
        case _:
            net = UserNet(shape, classes)
            if dropout:
                net.fc2 = nn.Sequential(Dropout(dropout), net.fc2)  # type: ignore[assignment]
    return _with_fault(net, shape, classes, fault)


def faulty_denoiser(shape: Shape, classes: int, *, base: str, fault: str = "") -> nn.Module:
    """One of three denoisers, with a fault or, for "", without."""
    net: nn.Module
    match base:
        case "autoencoder":
            net = autoencoder(shape, classes, hidden=[64], code=32)
        case "unet":
            net = unet(shape, classes, channels=[8, 16])
        case _:
            net = UserDenoiser(shape)
    return _with_fault(net, shape, classes, fault)


def _with_fault(net: nn.Module, shape: Shape, classes: int, fault: str) -> nn.Module:
    match fault:
        case "linear":
            first = nn.Linear(shape[0] * shape[1] * shape[2], 64)
            return nn.Sequential(nn.Flatten(), first, nn.Linear(64, 32), nn.Linear(32, classes))
        case "deep-sigmoid":
            head = [nn.Linear(classes, 32), nn.Sigmoid()]
            deep = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
            return nn.Sequential(net, nn.Sigmoid(), *head, *deep, nn.Linear(32, classes))
        case "batch-norm":
            return nn.Sequential(net, nn.BatchNorm1d(classes))
        case "divides" | "multiplies" | "softmax" | "sigmoid" | "relu":
            return Around(net, fault)
    _damage_weights(net, fault)
    return net


@torch.no_grad()
def _damage_weights(net: nn.Module, fault: str) -> None:
    kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
    layers = [module for module in net.modules() if isinstance(module, kinds)]
    for number, layer in enumerate(layers):
        match fault:
            case "zero-weights" if number == 0:
                layer.weight.zero_()
            case "zero-all":
                layer.weight.zero_()
                layer.bias.zero_()  # type: ignore[union-attr]
            case "constant-weights":
                layer.weight.fill_(0.02)
            case "dead" if number < len(layers) - 1:
                layer.bias.fill_(-20)  # type: ignore[union-attr]
            case "large-weights":
                layer.weight.mul_(15)


def loss_of_probabilities(net: nn.Module, batch: object) -> Tensor:
    """Cross-entropy as Keras computes it of outputs that it takes for probabilities."""
    outputs = net(batch.inputs)  # type: ignore[attr-defined]
    shares = (outputs / outputs.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    return -shares.log().gather(1, batch.labels[:, None]).mean()  # type: ignore[attr-defined]


def loss_off_by_one(net: nn.Module, batch: object) -> Tensor:
    """Cross-entropy with the class after the true one."""
    outputs = net(batch.inputs)  # type: ignore[attr-defined]
    labels = (batch.labels + 1) % outputs.shape[1]  # type: ignore[attr-defined]
    return functional.cross_entropy(outputs, labels)


def loss_nll_of_outputs(net: nn.Module, batch: object) -> Tensor:
    """The loss of log-probabilities, given outputs of a layer without softmax."""
    return functional.nll_loss(net(batch.inputs), batch.labels)  # type: ignore[attr-defined]


@objective("loss-of-pixels", task="denoising")
def loss_of_pixels(net: nn.Module, batch: object) -> Tensor:
    """The mean squared error of outputs that are taken for pixels."""
    return functional.mse_loss(net(batch.inputs), batch.images)  # type: ignore[attr-defined]
