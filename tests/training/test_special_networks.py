"""Networks with frozen or lazy layers, BatchNorm on a single image, and gradients that torch refuses."""

import itertools
import textwrap
from dataclasses import replace
from typing import Any

import pytest
import torch
from synthetic_training import (
    glyphs,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    train,
    train_one,
    training_data,
    trial_config,
)

from inklab.errors import ModelMismatchError
from inklab.networks.network import build_network
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader, batch_sizes
from inklab.training.compiled import CompiledStep
from inklab.training.population import Population, build_normalized
from inklab.training.preflight import preflight

SHAPE = (1, 12, 12)


def network_source(layers: str, after: str = "") -> str:
    return "from torch import nn\n\n\ndef make(classes):\n" + textwrap.indent(
        f"net = nn.Sequential(nn.Flatten(), {layers})\n{after}\nreturn net\n", "    "
    )


@pytest.fixture
def user_net(tmp_path):
    """Writes a function that builds layers after a flatten; returns its name."""
    numbers = itertools.count()

    def write(layers: str, after: str = "") -> str:
        path = tmp_path / f"special_{next(numbers)}.py"
        path.write_text(network_source(layers, after), encoding="utf-8")
        return f"{path}:make"

    return write


DENSE = "nn.Linear(144, 12), nn.ReLU(), nn.Linear(12, classes)"
FREEZE = "net[1].requires_grad_(False)"


def assert_refused(name: str, *facts: str, n_images: int | None = None, **recipe: Any) -> None:
    with pytest.raises(ModelMismatchError) as caught:
        preflight(trial_config(name, **recipe), SHAPE, 10, n_images)
    message = str(caught.value)
    assert "\n" not in message and all(fact in message for fact in facts), message


class TestFrozenParameters:
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("stacked", [True, False])
    def test_they_keep_their_weights_and_the_others_are_trained(self, user_net, data, stacked, precision):
        config = trial_config(
            user_net(DENSE, FREEZE), precision, epochs=2, l2=0.01, clip_norm=0.5, optimizer="adam",
            learning_rate=0.01, ema_decay=0.9,
        )  # fmt: skip
        assert preflight(config, SHAPE, 10).vmappable
        results = train(replicates_of(config, 0, 1, 2), data, stacked=stacked)
        assert same_bits(results[1], train_one(config, data, replicate=1, stacked=stacked))
        for replicate, result in enumerate(results):
            fresh = build_normalized(config, SHAPE, 10, Seed(0) / "replicate" / replicate / "weights")
            for name, value in result.net.named_parameters():
                assert torch.equal(value, fresh.get_parameter(name)) == name.startswith("net.1."), name
            assert result.history.train_loss[1] < result.history.train_loss[0]

    def test_they_are_no_part_of_the_penalty_nor_of_the_gradients_norm(self, user_net, data):
        """The same as torch's loop over the parameters that require a gradient."""
        config = trial_config(user_net(DENSE, FREEZE), l2=0.05, clip_norm=0.3, learning_rate=0.5)
        result = train_one(config, data, stacked=False)
        seed = Seed(0) / "replicate" / 0
        net = build_normalized(config, SHAPE, 10, seed / "weights")
        trained = [value for value in net.parameters() if value.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.5)
        for batch in BatchLoader(data, config.recipe, [seed], stacked=False).epoch(0):
            loss = torch.nn.functional.cross_entropy(net(batch.inputs.float() / 255), batch.labels)
            penalty = sum(value.square().sum() for value in trained if value.dim() > 1)
            optimizer.zero_grad()
            (loss + 0.05 * penalty).backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.3)
            optimizer.step()
        for name, value in result.net.named_parameters():
            torch.testing.assert_close(value, net.get_parameter(name), rtol=1e-4, atol=1e-6)

    @pytest.mark.slow
    def test_a_compiled_step_leaves_them_alone(self, user_net, data, tmp_path):
        config = trial_config(user_net(DENSE, FREEZE))
        populations = [Population.build(job_of(replicates_of(config, 0, 1)), data) for _ in range(2)]
        batch = next(populations[0].batches.epoch(0))
        eager, compiled = (CompiledStep(population.step, population.init_state) for population in populations)
        compiled.compile(batch, {}, populations[0].schedule.at(0), folder=tmp_path)
        for step in range(3):
            hyper = populations[0].schedule.at(step)
            torch.testing.assert_close(compiled(batch, {}, hyper), eager(batch, {}, hyper))
        for name, value in eager.state.buffers.items():
            assert torch.equal(compiled.state.buffers[name], value)

    def test_a_network_with_nothing_else_is_refused(self, user_net):
        assert_refused(user_net(DENSE, "net.requires_grad_(False)"), "all are frozen", "requires_grad")


class TestLazyLayers:
    LAYERS = "nn.LazyLinear(12), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(classes)"

    def test_they_take_their_sizes_and_are_trained_like_others(self, user_net, data):
        config = trial_config(user_net(self.LAYERS), epochs=2)
        assert preflight(config, SHAPE, 10).parameters == 144 * 12 + 12 + 24 + 12 * 10 + 10
        first, second = train(replicates_of(config, 0, 1), data, stacked=False)
        assert same_bits(second, train_one(config, data, replicate=1, stacked=False))
        assert not same_bits(first.net, second.net)
        assert first.history.train_loss[1] < first.history.train_loss[0]

    def test_weights_come_from_the_seed_and_statistics_are_untouched(self, user_net):
        config = trial_config(user_net(self.LAYERS)).network
        nets = [build_network(config, SHAPE, 10, Seed(number)) for number in (3, 3, 4)]
        assert same_bits(nets[0], nets[1]) and not same_bits(nets[0], nets[2])
        assert not nets[0][2].running_mean.any() and nets[0].training

    def test_one_that_is_never_called_is_refused(self, user_net):
        assert_refused(user_net(DENSE, "net[0].idle = nn.LazyLinear(3)"), "lazy layers", "0.idle.weight")

    def test_a_failure_names_the_true_reason(self, user_net):
        assert_refused(user_net("nn.LazyLinear(12), nn.Linear(13, classes)"), "lazy layers", "2x12 and 13x10")


class TestSingleImages:
    NORMED = "nn.Linear(144, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, classes)"

    @pytest.fixture
    def data_of_65(self):
        """65 training images: two batches of 32, and one image."""
        return training_data(*glyphs(105, seed=2), train=65, validation=20)

    def test_a_last_batch_of_one_is_part_of_the_one_before_it(self, user_net, data_of_65, tmp_path):
        config = trial_config(user_net(self.NORMED), epochs=2, schedule="linear")
        preflight(config, SHAPE, 10, 65)
        job = job_of(replicates_of(config, 0), stacked=False)
        batches = Population.build(job, data_of_65).batches
        assert [len(batch.labels) for batch in batches.epoch(0)] == [32, 33] and len(batches) == 2
        labels = torch.cat([batch.labels for batch in batches.epoch(0)])
        assert torch.equal(labels.sort()[0], data_of_65.train.labels.sort()[0])
        [result] = train(replicates_of(config, 0), data_of_65, stacked=False)
        assert not result.divergence and len(result.history.epoch) == 2
        [resumed] = stopped_and_resumed(job, data_of_65, tmp_path, [1, 2])
        assert same_bits(result, resumed)

    @pytest.mark.parametrize(
        "scale", ["y.std(0)", "y.var(0, unbiased=False).sqrt()"], ids=["NaN output", "NaN gradient"]
    )
    def test_nor_does_a_network_with_statistics_of_its_own_see_one_image(self, user_net, data_of_65, scale):
        divide = f"lambda y: y / ({scale} + 0.1 if net.training else 1)"
        name = user_net("nn.Linear(144, classes)", f"net.forward = lambda x: ({divide})(net[1](net[0](x)))")
        [result] = train(replicates_of(trial_config(name, epochs=2), 0), data_of_65, stacked=False)
        assert not result.divergence and len(result.history.epoch) == 2
        assert_refused(name, "batches of one image", "standard deviation", batch_size=1)

    def test_networks_that_can_be_trained_on_one_image_are(self, user_net, data_of_65):
        """Their numbers do not move."""
        population = Population.build(job_of(replicates_of(trial_config(user_net(DENSE)), 0)), data_of_65)
        assert population.batches.batch_sizes == [32, 32, 1]

    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [
            ((65, 32), [32, 33]),
            ((33, 32), [33]),
            ((64, 32), [32, 32]),
            ((66, 32), [32, 32, 2]),
            ((1, 32), [1]),
        ],
    )
    def test_only_a_single_image_is_merged(self, sizes, expected):
        assert batch_sizes(*sizes, merge_single=True) == expected

    def test_where_every_batch_has_one_image_it_is_refused(self, user_net):
        name = user_net(self.NORMED)
        assert_refused(name, "batches of one image", "BatchNorm", batch_size=1)
        assert_refused(name, "batches of one image", n_images=1)
        preflight(trial_config(user_net(DENSE), batch_size=1), SHAPE, 10, 1)


class TestGradientsThatTorchRefuses:
    def test_changes_in_place_are_one_line(self, user_net):
        layers = "nn.Linear(144, 12), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Linear(12, classes)"
        assert_refused(user_net(layers), "no gradient", "inplace=False")
        both = "nn.Linear(144, 12), nn.ReLU(inplace=True), nn.Dropout(0.3, inplace=True)"
        assert_refused(user_net(f"{both}, nn.Linear(12, classes)"), "no gradient", "inplace=False")

    def test_a_relu_in_place_that_torch_allows_is_trained(self, user_net, data):
        layers = "nn.Linear(144, 12), nn.ReLU(inplace=True), nn.Linear(12, classes)"
        config = trial_config(user_net(layers), epochs=2)
        preflight(config, SHAPE, 10)
        result = train_one(config, data, stacked=False)
        assert result.history.train_loss[1] < result.history.train_loss[0]

    @pytest.mark.parametrize(
        ("body", "facts"),
        [
            ("return {}['no']", ["fails on", "KeyError"]),
            ("return net(batch.inputs).square()", ["(4, 10)", "one number"]),
            ("return 3.0", ["float", "one number"]),
        ],
    )
    def test_objectives_that_give_no_loss_are_one_line(self, tmp_path, body, facts):
        path = tmp_path / "loss.py"
        path.write_text(f"def loss(net, batch):\n    {body}\n", encoding="utf-8")
        assert_refused("mlp", *facts, objective=f"{path}:loss")


def test_control_flow_on_data_runs_uncompiled(tmp_path, data):
    path = tmp_path / "branching.py"
    path.write_text(
        textwrap.dedent(
            """
            from torch import nn

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.dense = nn.Linear(144, 10)

                def forward(self, images):
                    logits = self.dense(images.flatten(1))
                    return logits if logits.sum() > 0 else -logits
            """
        ),
        encoding="utf-8",
    )
    config = trial_config(f"{path}:Net", epochs=2)
    job = job_of(replicates_of(config, 0), stacked=False)
    [plain] = train(job.trials, data, stacked=False)
    [compiled] = train(replace(job, compiled=True).trials, data, stacked=False, compiled=True)
    assert compiled.compile_error and not compiled.compiled and same_bits(plain, compiled)


class TestOneImage:
    """What is predicted is often one image, and the last batch may be one."""

    def test_a_network_that_drops_the_dimension_of_the_batch_is_refused(self, user_net):
        name = user_net("nn.Linear(144, classes)", "net.forward = lambda x: net[1](net[0](x)).squeeze()")
        assert_refused(name, "returns (10,) for 1 image", "(1, 10)", "squeeze()")

    def test_a_network_that_gives_nan_for_one_image_is_refused(self, user_net):
        after = "net.forward = lambda x: (lambda y: y / y.std(0))(net[1](net[0](x)))"
        assert_refused(user_net("nn.Linear(144, classes)", after), "NaN", "1 image", "self.training")

    def test_a_network_that_needs_pairs_is_refused(self, user_net):
        after = "net.forward = lambda x: net[1](net[0](x)).view(2, len(x) // 2, 10).view(len(x), 10)"
        assert_refused(user_net("nn.Linear(144, classes)", after), "(1, 1, 12, 12)", "fixed batch size")
