"""Label smoothing and class weights against torch's cross_entropy and scikit-learn's balanced weights."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from synthetic_training import (
    SMALL_MLP,
    glyphs,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    train_one,
    training_data,
    trial_config,
    with_recipe,
)
from torch.nn import functional

from inklab.errors import ConfigError
from inklab.records.recipe import Recipe
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader, TensorSet, TrainingData
from inklab.training.objectives import Batch, objectives
from inklab.training.population import Population, build_normalized
from inklab.training.trainer import train_population

WEIGHTS = tuple(0.25 * (k + 1) for k in range(10))
SETTINGS = [
    {"label_smoothing": 0.1}, {"label_smoothing": 1.0}, {"class_weights": WEIGHTS},
    {"class_weights": "balanced"}, {"label_smoothing": 0.3, "class_weights": "balanced"},
]  # fmt: skip


@pytest.fixture(scope="module")
def uneven():
    """Class k has about k shares of the training images; class 0 none."""
    whole = training_data(*glyphs(700, seed=1), train=600, validation=50)
    kept = torch.cat([(whole.train.labels == k).nonzero()[: 6 * k, 0] for k in range(10)]).sort()[0]
    train_set = TensorSet(whole.train.pixels[kept], whole.train.labels[kept])
    return TrainingData(train_set, whole.validation, whole.test, whole.labels)


def torch_weights(setting, labels):
    weights = setting.get("class_weights")
    if weights == "balanced":
        present = np.unique(labels)
        balanced = torch.zeros(10)
        balanced[present] = torch.tensor(
            compute_class_weight("balanced", classes=present, y=labels.numpy()), dtype=torch.float32
        )
        return balanced
    return None if weights is None else torch.tensor(weights)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["classify", "classify-adversarial"])
def test_losses_are_those_of_torch(uneven, setting, name):
    labels = uneven.train.labels
    objective = objectives[name].for_training(Recipe(**setting), labels, 10)
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    images = torch.rand(64, 1, 1, 1)
    # A network that ignores its images: adversarial ones then have the same loss.
    loss = objective.loss(lambda inputs: logits + 0 * inputs.sum(), Batch(images, labels[:64], images))
    expected = functional.cross_entropy(
        logits, labels[:64], weight=torch_weights(setting, labels),
        label_smoothing=setting.get("label_smoothing", 0.0),
    )  # fmt: skip
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_training_is_that_of_torch(uneven, setting):
    config = trial_config(SMALL_MLP, learning_rate=0.3, **setting)
    result = train_one(config, uneven, stacked=False)
    seed, losses = Seed(0) / "replicate" / 0, []
    net = build_normalized(config, uneven.shape, 10, seed / "weights")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    weights = torch_weights(setting, uneven.train.labels)
    for batch in BatchLoader(uneven, config.recipe, [seed], stacked=False).epoch(0):
        loss = functional.cross_entropy(
            net(batch.inputs.float() / 255), batch.labels, weight=weights,
            label_smoothing=setting.get("label_smoothing", 0.0),
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.history.train_loss[0] == pytest.approx(np.mean(losses), rel=1e-4)
    for name, value in result.net.named_parameters():
        torch.testing.assert_close(value, net.get_parameter(name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS[2:], ids=str)
def test_a_member_is_trained_as_alone_and_resumed(uneven, setting, tmp_path):
    config = trial_config(SMALL_MLP, epochs=2, **setting)
    job = job_of(replicates_of(config, 0, 1, 2))
    together = train_population(job, uneven)
    assert same_bits(together[1], train_one(config, uneven, replicate=1))
    assert all(map(same_bits, together, stopped_and_resumed(job, uneven, tmp_path, [4, 7])))
    plain = train_one(trial_config(SMALL_MLP, epochs=2), uneven, replicate=1)
    assert not same_bits(together[1].net, plain.net)


def test_evaluation_is_plain(uneven):
    """With the same weights as another training, the validation loss is the same."""
    config = trial_config(SMALL_MLP, learning_rate=1e-12)
    weighted = with_recipe(config, class_weights="balanced", label_smoothing=0.4)
    first, other = train_one(config, uneven), train_one(weighted, uneven)
    assert first.history.validation_loss == pytest.approx(other.history.validation_loss, rel=1e-5)
    assert first.history.train_loss[0] != pytest.approx(other.history.train_loss[0], rel=1e-3)


def test_a_compiled_step_is_not_used_for_data_with_another_balance(uneven, data):
    """The weights are constants of the compiled program (test_compiled.py trains with them)."""
    config = trial_config(SMALL_MLP, class_weights="balanced")
    keys = {
        Population.build(job_of(replicates_of(config, 0, 1)), tensors).cache_key
        for tensors in (data, uneven, data)
    }
    assert len(keys) == 2


def test_an_objective_of_the_users_own_may_take_them(uneven, tmp_path):
    path = tmp_path / "losses.py"
    path.write_text(
        "def plain(net, batch):\n    return net(batch.inputs).square().mean()\n\n\n"
        "def twice(net, batch, *, cross_entropy=None):\n"
        "    return 2 * cross_entropy(net(batch.inputs), batch.labels)\n",
        encoding="utf-8",
    )
    recipe = Recipe(objective=f"{path}:twice", class_weights=WEIGHTS)
    own, labels = objectives.resolve(recipe.objective), uneven.train.labels[:9]
    own.check(recipe, 10, 0)
    logits, images = torch.randn(9, 10), torch.rand(9, 1, 2, 2)
    loss = own.for_training(recipe, labels, 10).loss(lambda _: logits, Batch(images, labels, images))
    built_in = objectives["classify"].for_training(recipe, labels, 10)
    torch.testing.assert_close(loss, 2 * built_in.loss(lambda _: logits, Batch(images, labels, images)))
    with pytest.raises(ConfigError, match=r"losses.py:plain.*does not use it.*classify.*cross_entropy"):
        objectives.resolve(f"{path}:plain").check(recipe, 10, 0)


@pytest.mark.parametrize(
    ("name", "setting", "reason"),
    [
        ("reconstruct", {"label_smoothing": 0.1}, "label_smoothing .* 'reconstruct' does not use it"),
        ("classify-smoothed", {"class_weights": "balanced"}, "'classify-smoothed' does not use it"),
        ("classify", {"class_weights": (1.0, 2.0)}, "2 numbers, but the data has 10 classes"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line(name, setting, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        objectives[name].check(Recipe(objective=name, **setting), 10, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"label_smoothing": 1.1}, {"label_smoothing": -0.1}, {"class_weights": "even"},
        {"class_weights": [1.0, 0.0]}, {"class_weights": 2},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(ConfigError):
        Recipe.parse(fields)


def test_weights_and_plain_trainings_are_other_trials(data):
    config = trial_config(SMALL_MLP)
    identities = {str(with_recipe(config, **setting).identity) for setting in ({}, *SETTINGS)}
    assert len(identities) == 1 + len(SETTINGS)
    assert all("label_smoothing" not in identity for identity in [str(config.identity)])
