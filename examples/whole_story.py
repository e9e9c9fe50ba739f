"""The whole story of inklab in one file of plain torch: nothing hidden, to be read from top to bottom.

    python examples/whole_story.py             5,000 real digits; about a minute on two cores
    python examples/whole_story.py --quick     shorter trainings: some 20 seconds, and worse networks

Every phase asks one question and prints one answer. What inklab adds: choices made on
validation images, many replicates side by side, other noises, resuming, and the report.
"""

import argparse
import gzip
import os
from collections.abc import Callable
from importlib.resources import files
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
SEEDS = 3  # one training says nothing about training again
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # share of pixels replaced by black or white
DENOISED = 0.4  # strength that the denoiser is trained on, as in the study
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    """Tell the story, phase by phase."""
    options = _options()
    epochs = 8 if options.quick else 40

    # 1. What is there to look at? --------------------------------------------------------------------------
    train, test = load_digits(most=options.most)
    say(1, f"{len(train[1]):,} training and {len(test[1]):,} test images of 28 x 28 pixels")
    print("   Pixels are divided by 255 once. Nothing is chosen below, so no validation images are held out.")

    # 2. How good is a small dense network, really? ---------------------------------------------------------
    accuracies = []
    for seed in range(SEEDS):
        net = train_net(dense_net(seed), cross_entropy, train, epochs=epochs, seed=seed)
        accuracies.append(accuracy(net, *test))
    mean, low, high = confidence(accuracies)
    say(2, f"784-64-64-10: {mean:.2%} correct (95 % CI {low:.2%} to {high:.2%} over {SEEDS} seeds)")

    # 3. What if the images are scaled twice? ---------------------------------------------------------------
    squeezed = tuple((images / 255, labels) for images, labels in (train, test))
    failed = train_net(dense_net(0), cross_entropy, squeezed[0], epochs=min(epochs, 10), seed=0)
    loss = float(cross_entropy(failed, *squeezed[1]).detach())
    share = accuracy(failed, *squeezed[1])
    say(3, f"the same net, divided by 255 twice: {share:.2%} correct, loss {loss:.3f} (ln 10 = 2.303)")
    print("   Nothing crashed. The inputs' spread is 1/255 of what it should be: that is how one finds it.")

    # 4. What do convolutions gain? -------------------------------------------------------------------------
    cnn = train_net(conv_net(0), cross_entropy, train, epochs=epochs // 2, seed=0, adam=True)
    say(4, f"a small convolutional net, {parameters(cnn):,} parameters: {accuracy(cnn, *test):.2%} correct")

    # 5. Can a network give back clean images? --------------------------------------------------------------
    denoiser = train_net(autoencoder(0), denoising, train, epochs=epochs, seed=0, adam=True, batch=64)
    noise = torch.Generator().manual_seed(5)
    noisy = salt_and_pepper(test[0], DENOISED, noise)
    before, after = psnr(noisy, test[0]), psnr(cleaned(denoiser, noisy), test[0])
    say(5, f"{DENOISED:.0%} of the pixels replaced: {before:.1f} dB, after cleaning {after:.1f} dB")

    # 6. Does cleaning first help the classifier? -----------------------------------------------------------
    say(6, "mean true-positive rate over the classes, the same noise for both:")
    helps = noise_table(cnn, denoiser, *test)
    print(
        f"   Cleaning helps from strength {helps[0]:g}." if helps else "   Cleaning helps at none of these."
    )

    # 7. Can the decoder draw new digits? -------------------------------------------------------------------
    say(7, "new images from codes; a digit counts if the cnn is more than 90 % sure of it:")
    drawn = new_digits(denoiser, train[0], components=10)
    for name, images in drawn.items():
        print(f"   {name:<10} {recognised(cnn, images):7.1%}")

    rows = [test[0], noisy, cleaned(denoiser, noisy), *drawn.values()]
    picture([images[:10] for images in rows]).save(options.out)
    print(f"\n{options.out}: clean, noisy and cleaned digits, then new ones from {' and '.join(drawn)} codes")


# ------------------------------------------------------------------------------------------------ the images


def load_digits(most: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images `(n, 1, 28, 28)` in [0, 1] and labels: MNIST if it is here, or a part."""
    folder = Path(os.environ.get("INKLAB_DATA_DIR") or "nowhere") / "mnist"
    if any(folder.glob("train-images-idx3-ubyte*")):
        parts = [
            (idx(folder, f"{part}-images-idx3"), idx(folder, f"{part}-labels-idx1"))
            for part in ("train", "t10k")
        ]
    else:
        parts = bundled_digits()
    parts[0] = (parts[0][0][:most], parts[0][1][:most])
    train, test = (
        (
            torch.from_numpy(pixels.copy()).float().reshape(-1, 1, 28, 28) / 255,
            torch.from_numpy(labels.astype(np.int64)),
        )
        for pixels, labels in parts
    )
    return train, test


def idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file: two zero bytes, a type, the number of axes, their lengths (big-endian), then bytes."""
    path = next(folder.glob(f"{name}-ubyte*"))
    raw = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    axes = raw[3]
    lengths = np.frombuffer(raw, ">i4", count=axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(lengths)


def bundled_digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """5,000 MNIST digits that come with inklab: 400 per class to train, 100 to test."""
    with np.load(str(files("inklab.data") / "mnist5k.npz")) as arrays:
        pixels, labels = arrays["images"], arrays["labels"]
    return [(pixels[:4000], labels[:4000]), (pixels[4000:], labels[4000:])]


def salt_and_pepper(images: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Replace each pixel with probability `strength`, by black or white with equal chance."""
    dice = torch.rand(images.shape, generator=rng)
    return torch.where(dice < strength, (dice < strength / 2).to(images.dtype), images)


# ---------------------------------------------------------------------------------------------- the networks


def dense_net(seed: int) -> nn.Module:
    """784-64-64-10 with ReLU: 55,050 parameters."""
    torch.manual_seed(seed)
    layers = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)]
    return glorot(nn.Sequential(nn.Flatten(), *layers))


def conv_net(seed: int) -> nn.Module:
    """Two convolutions, pooling, dropout, one dense layer: the study's cnn, a tenth of its size."""
    torch.manual_seed(seed)
    convolutions = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.MaxPool2d(3), nn.ReLU()]
    dense = [nn.Flatten(), nn.Dropout(0.5), nn.Linear(32 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, CLASSES)]
    return glorot(nn.Sequential(*convolutions, *dense))


def autoencoder(seed: int) -> nn.Module:
    """784-128-96-128-784: 226,416 parameters. The first half makes codes, the second makes images of them."""
    torch.manual_seed(seed)
    encoder = [nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU()]
    decoder = [nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 784), nn.Unflatten(1, (1, 28, 28))]
    return glorot(nn.Sequential(nn.Sequential(*encoder), nn.Sequential(*decoder)))


def glorot(net: nn.Module) -> nn.Module:
    """Begin as Keras does: weights Glorot uniform, biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return net


def parameters(net: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(value.numel() for value in net.parameters())


# ---------------------------------------------------------------------------------------------- the training


def cross_entropy(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """What a classifier is trained for: minus the log of the probability given to the true class."""
    return F.cross_entropy(net(images), labels)


def denoising(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """What a denoiser is trained for: shown a noisy copy, drawn anew each step, give back the clean image."""
    shown = salt_and_pepper(images, DENOISED, torch.default_generator)
    return F.binary_cross_entropy_with_logits(net(shown), images)


def train_net(
    net: nn.Module,
    loss_of: Loss,
    data: tuple[Tensor, Tensor],
    *,
    epochs: int,
    seed: int,
    adam: bool = False,
    batch: int = 128,
) -> nn.Module:
    """Gradient descent: every image once an epoch, in a new order. Ends in evaluation mode."""
    images, labels = data
    order = torch.Generator().manual_seed(seed)
    optimiser = (
        torch.optim.Adam(net.parameters(), lr=1e-3) if adam else torch.optim.SGD(net.parameters(), lr=0.1)
    )
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(labels), generator=order).split(batch):
            loss = loss_of(net, images[index], labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


# ---------------------------------------------------------------------------------------------- the measures


@torch.inference_mode()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose class is found."""
    return float((net(images).argmax(1) == labels).float().mean())


def confidence(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t: where the mean of very many trainings would lie."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / sqrt(n))
    return mean, mean - half, mean + half


@torch.inference_mode()
def cleaned(denoiser: nn.Module, images: Tensor) -> Tensor:
    """What the denoiser makes of images: the sigmoid turns its logits into pixels."""
    return torch.sigmoid(denoiser(images))


def psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean squared error), averaged over images."""
    return float((-10 * (images - clean).square().mean(dim=(1, 2, 3)).log10()).mean())


@torch.inference_mode()
def noise_table(cnn: nn.Module, denoiser: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Print the rates at each strength; return the strengths at which cleaning is shown to help."""
    helps = []
    print("   strength      cnn   denoiser+cnn   gain, 95 % CI over the images")
    for place, strength in enumerate(STRENGTHS):
        spoilt = salt_and_pepper(images, strength, torch.Generator().manual_seed(100 + place))
        alone, first_cleaned = (
            (cnn(seen).argmax(1) == labels).double() for seen in (spoilt, cleaned(denoiser, spoilt))
        )
        gain = first_cleaned - alone  # 1, 0 or -1 an image: paired, so what both share falls out
        half = 1.96 * float(gain.std()) / sqrt(len(gain))
        low, high = float(gain.mean()) - half, float(gain.mean()) + half
        rates = true_positive_rate(alone, labels), true_positive_rate(first_cleaned, labels)
        print(f"   {strength:8.2f}   {rates[0]:6.1%}   {rates[1]:12.1%}   {low:+.1%} to {high:+.1%}")
        if low > 0:
            helps.append(strength)
    return helps


def true_positive_rate(right: Tensor, labels: Tensor) -> float:
    """Of each class's images the share that is found; then the mean, so that each class counts the same."""
    return float(torch.stack([right[labels == label].mean() for label in range(CLASSES)]).mean())


@torch.inference_mode()
def new_digits(denoiser: nn.Module, images: Tensor, components: int, count: int = 1000) -> dict[str, Tensor]:
    """Images from two kinds of codes: zeros and ones by chance, a mixture fitted to real digits' codes."""
    from sklearn.mixture import GaussianMixture

    encoder, decoder = denoiser
    codes = encoder(images).double().numpy()
    fit = GaussianMixture(components, reg_covar=1e-3 * float(codes.var()), tol=1e-2, random_state=0).fit(
        codes
    )
    drawn = np.random.default_rng(0).permutation(fit.sample(count)[0])  # sample() sorts by component
    sources = {
        "binary": np.random.default_rng(0).integers(0, 2, (count, codes.shape[1])),
        "mixture": drawn.clip(min=0),  # codes come out of a ReLU: the decoder has never seen a negative one
    }
    return {name: torch.sigmoid(decoder(torch.from_numpy(code).float())) for name, code in sources.items()}


@torch.inference_mode()
def recognised(cnn: nn.Module, images: Tensor) -> float:
    """Share of images of which the classifier is over 90 % sure. (It can be sure of garbage: look.)"""
    return float((cnn(images).softmax(1).max(1).values > 0.9).float().mean())


# --------------------------------------------------------------------------------------------- for the reader


def picture(rows: list[Tensor]) -> Image.Image:
    """Rows of ten images as one picture, three times their size."""
    pixels = torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in rows])
    image = Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())
    return image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST)


def say(phase: int, answer: str) -> None:
    """Print a phase's answer."""
    print(f"\n{phase}. {answer}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="shorter trainings")
    parser.add_argument("--most", type=int, default=10_000, help="training images used at most [10000]")
    parser.add_argument("--out", type=Path, default=Path("whole_story.png"), help="the picture written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
