"""Checkpoints are whole or not there: two generations, every byte checked, nothing made otherwise is used."""

import json

import pytest
import torch
from synthetic_training import same_bits, settings, train_one

from inklab.errors import CorruptFileError
from inklab.io.documents import sha256_of
from inklab.training.checkpoint import (
    COMMIT_FILE,
    KEPT_CHECKPOINTS,
    STATE_FILE,
    TENSORS_FILE,
    Checkpoint,
    CheckpointManager,
    TrainingInterrupted,
    list_checkpoints,
    numeric_environment,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.trainer import PopulationJob, Trial, train_population

HERE = numeric_environment(compiled=False)


def checkpoint(epoch=0, step=3, trials=("a", "b"), made=HERE):
    """Where a made-up population stands; its numbers tell which one it is."""
    tensors = {
        "params/w": torch.full((len(trials), 4), float(epoch * 100 + step)),
        "losses": torch.arange(step * len(trials), dtype=torch.float32).reshape(step, len(trials)),
    }
    history = {"epoch": list(range(1, epoch + 1)), "train_loss": [0.1 + 0.2] * epoch}
    return Checkpoint(trials, made, epoch, [history] * len(trials), [None] * len(trials), 1.5, tensors)


def keeper(folder, *before):
    """A keeper that remembers its warnings."""
    told = []
    return CheckpointManager(folder, before, warn=told.append), told


def flipped(raw, place):
    """Bytes with one bit turned."""
    return raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :]


DAMAGE = {
    "empty": lambda raw: b"",
    "the header": lambda raw: flipped(raw, 3),
    "the middle": lambda raw: flipped(raw, len(raw) // 2),
    "the end": lambda raw: flipped(raw, len(raw) - 1),
    "cut": lambda raw: raw[:-2],
    "longer": lambda raw: raw + b"\0",
    "other bytes": lambda raw: bytes(len(raw)),
}


def test_it_is_read_as_it_was_written(tmp_path):
    wanted = checkpoint(epoch=2, step=5)
    wanted.tensors["params/w"][0, 0] = float("nan")
    found = read_checkpoint(write_checkpoint(tmp_path, wanted))
    assert found.progress == (2, 5) and found.histories == wanted.histories
    assert (list(found.trials), found.made_with, found.diverged) == (["a", "b"], HERE, [None, None])
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, value in wanted.tensors.items():
        assert torch.equal(found.tensors[name].nan_to_num(7), value.nan_to_num(7))


def test_two_generations_are_kept_and_the_furthest_is_gone_on_from(tmp_path):
    for epoch, step in ((0, 3), (0, 900), (1, 2), (12, 1)):
        write_checkpoint(tmp_path, checkpoint(epoch, step))
    assert [each.name for each in list_checkpoints([tmp_path])] == ["000001-000000002", "000012-000000001"]
    assert len(list(tmp_path.iterdir())) == KEPT_CHECKPOINTS
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a", "b"], HERE).progress == (12, 1) and not told


def test_the_same_place_can_be_written_again(tmp_path):
    for _ in range(3):
        write_checkpoint(tmp_path, checkpoint())
    assert len(list(tmp_path.iterdir())) == 1
    assert read_checkpoint(list_checkpoints([tmp_path])[0]).progress == (0, 3)


def test_one_that_was_not_finished_does_not_count_and_needs_no_word(tmp_path):
    write_checkpoint(tmp_path, checkpoint(0, 3))
    (write_checkpoint(tmp_path, checkpoint(0, 9)) / COMMIT_FILE).unlink()
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a"], HERE).progress == (0, 3) and not told


@pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE, COMMIT_FILE])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_left_aside_for_the_older_with_one_warning(damage, file, tmp_path):
    write_checkpoint(tmp_path, checkpoint(1, 3))
    newest = write_checkpoint(tmp_path, checkpoint(1, 9))
    (newest / file).write_bytes(DAMAGE[damage]((newest / file).read_bytes()))
    ours, told = keeper(tmp_path / "new", tmp_path)
    with pytest.raises(CorruptFileError):
        read_checkpoint(newest)
    assert ours.latest(["a", "b"], HERE).progress == (1, 3)
    assert len(told) == 1 and "goes on from epoch 2" in told[0] and "\n" not in told[0]


@pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE])
def test_a_missing_part_is_damage(file, tmp_path):
    (write_checkpoint(tmp_path, checkpoint()) / file).unlink()
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a"], HERE) is None and len(told) == 1 and "begins anew" in told[0]


def test_with_both_damaged_training_begins_anew_and_says_so_once(tmp_path):
    for step in (3, 9):
        path = write_checkpoint(tmp_path, checkpoint(0, step)) / TENSORS_FILE
        path.write_bytes(flipped(path.read_bytes(), 40))
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a", "b"], HERE) is None
    assert len(told) == 1 and told[0].endswith("training begins anew") and told[0].count("is damaged") == 2


@pytest.mark.parametrize("key", HERE)
def test_what_was_made_otherwise_is_not_gone_on_from(key, tmp_path):
    write_checkpoint(tmp_path, checkpoint(made={**HERE, key: "other"}))
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a"], HERE) is None
    assert len(told) == 1 and f"{key} other, now {HERE[key]}" in told[0]


def test_those_of_earlier_attempts_go_when_two_newer_ones_are_there(tmp_path):
    write_checkpoint(tmp_path / "old", checkpoint(0, 1))
    ours = CheckpointManager(tmp_path / "new", [tmp_path / "old"], every=0.0, look=0.0)
    ours.maybe_save(lambda: checkpoint(0, 2))
    assert len(list_checkpoints([tmp_path / "old"])) == 1, "with one of its own, a damaged one would cost all"
    ours.maybe_save(lambda: checkpoint(0, 3))
    assert len(list_checkpoints([tmp_path / "old"])) == 0 and len(list_checkpoints([tmp_path / "new"])) == 2


@pytest.mark.parametrize("told", ["[]", "{}", '{"format": 1}', '{"format": 1, "trials": 7}'])
def test_what_was_put_together_by_hand_is_refused(told, tmp_path):
    kept = write_checkpoint(tmp_path, checkpoint())
    hashes = json.loads((kept / COMMIT_FILE).read_text())
    (kept / STATE_FILE).write_text(told)
    (kept / COMMIT_FILE).write_text(json.dumps(hashes | {STATE_FILE: sha256_of(told.encode())}))
    with pytest.raises(CorruptFileError, match="is not a checkpoint of format 1"):
        read_checkpoint(kept)


def test_other_trials_are_none_of_ours(tmp_path):
    write_checkpoint(tmp_path, checkpoint(trials=("a", "b")))
    ours, told = keeper(tmp_path / "new", tmp_path)
    assert ours.latest(["a", "c"], HERE) is None and not told
    assert list(ours.latest(["b"], HERE).trials) == ["a", "b"]


class TestKeeper:
    """When it writes."""

    def test_at_every_look_if_asked_for(self, tmp_path):
        ours = CheckpointManager(tmp_path, every=0.0, look=0.0)
        for step in (1, 2, 3):
            ours.maybe_save(lambda step=step: checkpoint(0, step))
        assert [read_checkpoint(each).progress for each in list_checkpoints([tmp_path])] == [(0, 2), (0, 3)]

    def test_not_before_it_is_time(self, tmp_path):
        ours = CheckpointManager(tmp_path, look=0.0)
        ours.maybe_save(lambda: pytest.fail("asked where it stands"))
        assert not tmp_path.exists() or not list(tmp_path.iterdir())

    def test_at_once_when_asked_to_stop(self, tmp_path):
        ours = CheckpointManager(tmp_path, asked_to_stop=lambda: True, look=0.0)
        with pytest.raises(TrainingInterrupted):
            ours.maybe_save(checkpoint)
        assert len(list_checkpoints([tmp_path])) == 1


def test_tensors_of_another_network_are_refused(tmp_path, data):
    """A checkpoint that was put together by hand: whole, but not of this network."""
    told = settings(epochs=1)
    group = PopulationJob([Trial("a", told, 0)], lifted=True, random=False, seed=0)
    write_checkpoint(tmp_path, checkpoint(trials=("a",)))
    with pytest.raises(CorruptFileError, match="has no 'params/"):
        train_population(group, data, keeper=CheckpointManager(tmp_path / "new", [tmp_path]))


def test_watched_is_unwatched(data, tmp_path):
    """Checkpoints after every step change nothing."""
    told = settings(epochs=2)
    group = PopulationJob([Trial("trial-0", told, 0)], lifted=True, random=False, seed=0)
    (kept,) = train_population(group, data, keeper=CheckpointManager(tmp_path, every=0.0, look=0.0))
    assert same_bits(kept, train_one(told, data)) and list_checkpoints([tmp_path])
    manifest = json.loads((list_checkpoints([tmp_path])[-1] / STATE_FILE).read_text())
    assert (manifest["epoch"], manifest["step"]) == (1, 7)
