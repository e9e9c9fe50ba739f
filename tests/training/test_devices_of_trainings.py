"""A training takes place on its device alone: nothing of a step lies on the processor, and nobody waits.

The second device of every machine is torch's "meta": tensors with shapes but without values. An operation
that mixes it with the processor fails, and so does one that reads a value.
"""

import pytest
import torch
from synthetic_training import (
    DENOISE,
    DROPOUT_MLP,
    MUON,
    RANGED,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_UNET,
    job_of,
    replicates_of,
    same_bits,
    train,
    trial_config,
)

from inklab.training.accelerators import counter_dtype, device_name, move, prepare
from inklab.training.batches import TensorSet
from inklab.training.compiled import CompiledStep
from inklab.training.population import Population

META = torch.device("meta")
CASES = {
    "sgd": trial_config(),
    "adam, dropout": trial_config(DROPOUT_MLP, optimizer="adam", learning_rate=1e-3),
    "adamw, clipped, averaged": trial_config(
        optimizer="adamw", weight_decay=0.3, schedule="one-cycle", ema_decay=0.7, clip_norm=0.5
    ),
    "momentum, l2, weights": trial_config(
        momentum=0.9, l2=1e-3, learning_rate=0.02, class_weights=(1.0,) * 10, label_smoothing=0.1
    ),
    "muon": trial_config(**MUON),
    "noise": trial_config(corruption=RANGED),
    "denoiser": trial_config(SMALL_AUTOENCODER, **DENOISE),
    "cnn, shifted": trial_config(SMALL_CNN, augmentation={"shift": 1}),
    "u-net": trial_config(SMALL_UNET, **DENOISE),
}  # fmt: skip


def devices(*tensors: torch.Tensor) -> set[torch.device]:
    return {tensor.device for tensor in tensors}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_mixes_no_devices_and_reads_no_value(case, precision, small_data):
    config = CASES[case].model_copy(update={"precision": precision})
    stacked = case not in ("cnn, shifted", "u-net")
    trials = replicates_of(config, 0, 1) if stacked else replicates_of(config, 0)
    population = Population.build(job_of(trials, stacked=stacked, device="meta"), small_data)
    step = CompiledStep(population.step, population.init_state)
    for number, batch in zip(range(2), population.batches.epoch(0), strict=False):
        keys, hyper = population.dropout_keys(0, number), population.schedule.at(number)
        assert devices(*batch, *keys.values(), *hyper) == {META}
        losses = step(batch, keys, hyper)
        assert losses.shape == ((2,) if stacked else ()) and losses.device == META
    tensors = population.net_tensors(step.state)
    assert devices(*tensors.values(), *step.state.compute_params.values()) == {META}
    assert devices(*population.member_net(step.state, 0).state_dict().values()) == {META}


class TestResidentData:
    def test_it_is_copied_to_a_device_once(self, small_data):
        moved = small_data.to(META)
        assert (
            moved is small_data.to(META) is moved.to(META)
            and small_data.to(torch.device("cpu")) is small_data
        )
        assert moved.train.pixels.dtype == torch.uint8 and moved.test.labels.device == META
        assert moved.labels == small_data.labels and moved.shape == small_data.shape

    def test_images_are_taken_where_they_lie(self, small_data):
        images = TensorSet(small_data.train.pixels, small_data.train.labels).to(META).all_images
        assert images.device == META and images.shape == small_data.train.all_images.shape


class TestAccelerators:
    def test_the_processor_needs_no_preparation(self):
        before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
        assert prepare("cpu") == torch.device("cpu")
        assert before == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32)

    def test_tensors_stay_where_they_are_and_steps_are_counted_in_what_a_device_has(self):
        tensor = torch.ones(2)
        assert move(tensor, torch.device("cpu")) is tensor and device_name(torch.device("cpu")) == "cpu"
        assert counter_dtype(torch.device("mps")) == torch.float32
        assert counter_dtype(torch.device("cuda")) == torch.float64


def test_a_named_processor_is_the_default(small_data):
    trials = replicates_of(trial_config(DROPOUT_MLP, corruption=RANGED), 0, 1)
    named, default = train(trials, small_data, device="cpu"), train(trials, small_data)
    assert all(same_bits(*pair) for pair in zip(named, default, strict=True))
