"""Everything that inklab does, in one file of plain torch, to be read from top to bottom.

    python examples/whole_story.py             5,000 real digits; about a minute on two cores
    python examples/whole_story.py --quick     shorter trainings: some 20 seconds, and worse networks

Each step answers one question and prints the answer. inklab adds choices made on validation images, many
replicates trained together, other corruptions, resuming, and the report.
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
SEEDS = 3  # one training says nothing about the variance of the next
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # share of pixels replaced by black or white
TRAINING_STRENGTH = 0.4  # strength that the denoiser is trained on, as in the study
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    """All steps."""
    options = _options()
    epochs = 8 if options.quick else 40

    # 1. What is in the dataset? --------------------------------------------------------------------------
    train, test = load_digits(options.max_images)
    print_step(1, f"{len(train[1]):,} training and {len(test[1]):,} test images of 28 x 28 pixels")
    print("   Pixels are divided by 255 once. Nothing is chosen below, so no validation images are held out.")

    # 2. How good is a small dense network, really? -------------------------------------------------------
    accuracies = []
    for seed in range(SEEDS):
        net = train_net(dense_net(seed), cross_entropy, train, epochs=epochs, seed=seed)
        accuracies.append(accuracy(net, *test))
    mean, low, high = confidence(accuracies)
    print_step(2, f"784-64-64-10: {mean:.2%} correct (95% CI {low:.2%} to {high:.2%} over {SEEDS} seeds)")

    # 3. What if pixels are divided by 255 twice? ---------------------------------------------------------
    scaled_twice = tuple((images / 255, labels) for images, labels in (train, test))
    failed = train_net(dense_net(0), cross_entropy, scaled_twice[0], epochs=min(epochs, 10), seed=0)
    loss = float(cross_entropy(failed, *scaled_twice[1]).detach())
    share = accuracy(failed, *scaled_twice[1])
    print_step(3, f"the same net, divided by 255 twice: {share:.2%} correct, loss {loss:.3f} (ln 10 = 2.303)")
    print("   Nothing crashed. Only the standard deviation of the inputs, 255 times too small, reveals it.")

    # 4. What do convolutions gain? -----------------------------------------------------------------------
    cnn = train_net(conv_net(0), cross_entropy, train, epochs=epochs // 2, seed=0, adam=True)
    print_step(
        4, f"a small convolutional net, {parameters(cnn):,} parameters: {accuracy(cnn, *test):.2%} correct"
    )

    # 5. Can a network denoise images? --------------------------------------------------------------------
    denoiser = train_net(autoencoder(0), denoising, train, epochs=epochs, seed=0, adam=True, batch=64)
    noise = torch.Generator().manual_seed(5)
    noisy = salt_and_pepper(test[0], TRAINING_STRENGTH, noise)
    before, after = psnr(noisy, test[0]), psnr(denoise(denoiser, noisy), test[0])
    print_step(
        5, f"{TRAINING_STRENGTH:.0%} of the pixels replaced: {before:.1f} dB, after denoising {after:.1f} dB"
    )

    # 6. Does denoising first help the classifier? --------------------------------------------------------
    print_step(6, "mean recall over the classes, the same corrupted images for both:")
    better_at = compare_pipelines(cnn, denoiser, *test)
    where = f"from strength {better_at[0]:g}" if better_at else "at none of these strengths"
    print(f"   Denoising first helps {where}.")

    # 7. Can the decoder draw new digits? -----------------------------------------------------------------
    print_step(7, "new images from codes; share that the cnn classifies with a confidence above 90%:")
    generated = new_digits(denoiser, train[0], components=10)
    for name, images in generated.items():
        print(f"   {name:<10} {confident_share(cnn, images):7.1%}")

    rows = [test[0], noisy, denoise(denoiser, noisy), *generated.values()]
    picture([images[:10] for images in rows]).save(options.output)
    codes = " and ".join(generated)
    print(f"\n{options.output}: clean, noisy and denoised digits, then new ones from {codes} codes")


# ------------------------------------------------------------------------------------------------ the images


def load_digits(max_images: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images `(n, 1, 28, 28)` in [0, 1] and labels: MNIST if it is here, or a part."""
    folder = Path(os.environ.get("INKLAB_DATA_DIR") or "nowhere") / "mnist"
    if any(folder.glob("train-images-idx3-ubyte*")):
        parts = [
            (idx(folder, f"{part}-images-idx3"), idx(folder, f"{part}-labels-idx1"))
            for part in ("train", "t10k")
        ]
    else:
        parts = bundled_digits()
    parts[0] = (parts[0][0][:max_images], parts[0][1][:max_images])
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
    draws = torch.rand(images.shape, generator=rng)
    return torch.where(draws < strength, (draws < strength / 2).to(images.dtype), images)


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
    """What a denoiser is trained for: from a noisy copy, drawn anew each step, predict the clean image."""
    inputs = salt_and_pepper(images, TRAINING_STRENGTH, torch.default_generator)
    return F.binary_cross_entropy_with_logits(net(inputs), images)


def train_net(
    net: nn.Module,
    loss_function: Loss,
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
    optimizer = (
        torch.optim.Adam(net.parameters(), lr=1e-3) if adam else torch.optim.SGD(net.parameters(), lr=0.1)
    )
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(labels), generator=order).split(batch):
            loss = loss_function(net, images[index], labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


# ---------------------------------------------------------------------------------------------- the metrics


@torch.inference_mode()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that are classified correctly."""
    return float((net(images).argmax(1) == labels).float().mean())


def confidence(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95% interval of Student's t, for the mean of very many trainings."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / sqrt(n))
    return mean, mean - half, mean + half


@torch.inference_mode()
def denoise(denoiser: nn.Module, images: Tensor) -> Tensor:
    """Denoised images: the sigmoid turns logits into pixels."""
    return torch.sigmoid(denoiser(images))


def psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean squared error), averaged over images."""
    return float((-10 * (images - clean).square().mean(dim=(1, 2, 3)).log10()).mean())


@torch.inference_mode()
def compare_pipelines(cnn: nn.Module, denoiser: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Print the recall at each strength; return those at which denoising first is significantly better."""
    better_at = []
    print("   strength      cnn   denoiser+cnn   gain, 95% CI over the images")
    for index, strength in enumerate(STRENGTHS):
        corrupted = salt_and_pepper(images, strength, torch.Generator().manual_seed(100 + index))
        baseline, denoised = (
            (cnn(inputs).argmax(1) == labels).double() for inputs in (corrupted, denoise(denoiser, corrupted))
        )
        gain = denoised - baseline  # 1, 0 or -1 per image: paired, so that common errors cancel
        half = 1.96 * float(gain.std()) / sqrt(len(gain))
        low, high = float(gain.mean()) - half, float(gain.mean()) + half
        recalls = mean_recall(baseline, labels), mean_recall(denoised, labels)
        print(f"   {strength:8.2f}   {recalls[0]:6.1%}   {recalls[1]:12.1%}   {low:+.1%} to {high:+.1%}")
        if low > 0:
            better_at.append(strength)
    return better_at


def mean_recall(correct: Tensor, labels: Tensor) -> float:
    """The share of each class's images that is classified correctly, averaged over the classes."""
    return float(torch.stack([correct[labels == label].mean() for label in range(CLASSES)]).mean())


@torch.inference_mode()
def new_digits(denoiser: nn.Module, images: Tensor, components: int, count: int = 1000) -> dict[str, Tensor]:
    """Images from two kinds of codes: random zeros and ones, and a mixture fitted to the codes of digits."""
    from sklearn.mixture import GaussianMixture

    encoder, decoder = denoiser
    codes = encoder(images).double().numpy()
    fit = GaussianMixture(components, reg_covar=1e-3 * float(codes.var()), tol=1e-2, random_state=0).fit(
        codes
    )
    samples = np.random.default_rng(0).permutation(fit.sample(count)[0])  # sample() sorts by component
    sources = {
        "binary": np.random.default_rng(0).integers(0, 2, (count, codes.shape[1])),
        "mixture": samples.clip(min=0),  # codes are outputs of a ReLU, never negative
    }
    return {name: torch.sigmoid(decoder(torch.from_numpy(code).float())) for name, code in sources.items()}


@torch.inference_mode()
def confident_share(cnn: nn.Module, images: Tensor) -> float:
    """Share of images that the classifier is over 90% confident about; it can be confident about garbage."""
    return float((cnn(images).softmax(1).max(1).values > 0.9).float().mean())


# --------------------------------------------------------------------------------------------- the output


def picture(rows: list[Tensor]) -> Image.Image:
    """Rows of ten images as one picture, three times their size."""
    pixels = torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in rows])
    image = Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())
    return image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST)


def print_step(step: int, answer: str) -> None:
    """Print the answer of a step."""
    print(f"\n{step}. {answer}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="shorter trainings")
    parser.add_argument("--max-images", type=int, default=10_000, help="training images, at most [10000]")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("whole_story.png"), help="the picture that is written"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
