"""Checkpoints are complete or absent: two are kept, every byte is checked, other environments are refused."""

import json

import pytest
import torch
from synthetic_training import checkpoints_in, job_of, replicates_of, same_bits, train_one, trial_config

from inklab.errors import CorruptFileError
from inklab.io.files import sha256_of
from inklab.records.outcomes import History
from inklab.training.checkpoint import (
    Checkpoint,
    CheckpointManager,
    MemberProgress,
    NumericEnvironment,
    TrainingInterrupted,
    TrainingProgress,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.checkpoint_files import (
    COMMIT_FILE,
    KEPT_CHECKPOINTS,
    STATE_FILE,
    TENSORS_FILE,
    list_checkpoints,
)
from inklab.training.trainer import train_population

HERE = NumericEnvironment.current(compiled=False)


def checkpoint(epoch=0, step=3, trials=("a", "b"), environment=HERE):
    """The state of a synthetic population; its numbers tell which one it is."""
    tensors = {
        "params/w": torch.full((len(trials), 4), float(epoch * 100 + step)),
        "losses": torch.arange(step * len(trials), dtype=torch.float32).reshape(step, len(trials)),
    }
    history = History(epoch=tuple(range(1, epoch + 1)), train_loss=(0.1 + 0.2,) * epoch)
    members = tuple(MemberProgress(trial=trial, history=history) for trial in trials)
    progress = TrainingProgress(members=members, environment=environment, epoch=epoch, step=step, seconds=1.5)
    return Checkpoint(progress, tensors)


def latest_in(folder, trials=("a", "b")):
    """What a later attempt finds there, and the warnings that it gives."""
    warnings = []
    latest = CheckpointManager(folder / "new", [folder], warnings.append).latest(list(trials), HERE)
    return latest and position(latest), warnings


def position(checkpoint):
    return checkpoint.progress.epoch, checkpoint.progress.step


def flip_bit(raw, index):
    return raw[:index] + bytes([raw[index] ^ 4]) + raw[index + 1 :]


DAMAGE = {
    "empty": lambda raw: b"",
    "the header": lambda raw: flip_bit(raw, 3),
    "the middle": lambda raw: flip_bit(raw, len(raw) // 2),
    "the end": lambda raw: flip_bit(raw, raw.rindex(b"}") if raw.endswith(b"}\n") else len(raw) - 1),
    "cut": lambda raw: raw[:-2],
    "longer": lambda raw: raw + b"\0",
    "other bytes": lambda raw: bytes(len(raw)),
}


class TestFiles:
    def test_a_checkpoint_is_read_as_it_was_written(self, tmp_path):
        written = checkpoint(epoch=2, step=5)
        written.tensors["params/w"][0, 0] = float("nan")
        read = read_checkpoint(write_checkpoint(tmp_path, written))
        assert read.progress == written.progress and read.rows(["b", "a"]) == [1, 0]
        assert read.tensors.keys() == written.tensors.keys()
        for name, value in written.tensors.items():
            assert torch.equal(read.tensors[name].nan_to_num(7), value.nan_to_num(7))

    def test_two_are_kept_and_the_same_position_can_be_written_again(self, tmp_path):
        for epoch, step in ((0, 3), (0, 3), (0, 900), (1, 2), (12, 1), (12, 1)):
            write_checkpoint(tmp_path, checkpoint(epoch, step))
        names = [path.name for path in list_checkpoints([tmp_path])]
        assert names == ["000001-000000002", "000012-000000001"]
        assert len(list(tmp_path.iterdir())) == KEPT_CHECKPOINTS
        assert position(read_checkpoint(list_checkpoints([tmp_path])[-1])) == (12, 1)

    @pytest.mark.parametrize("state", ["[]", "{}", '{"format": 2}', '{"format": 2, "members": 7}'])
    def test_a_state_of_another_form_is_refused(self, state, tmp_path):
        path = write_checkpoint(tmp_path, checkpoint())
        commit = json.loads((path / COMMIT_FILE).read_text())
        (path / STATE_FILE).write_text(state)
        (path / COMMIT_FILE).write_text(json.dumps(commit | {"state_sha256": sha256_of(state.encode())}))
        with pytest.raises(CorruptFileError):
            read_checkpoint(path)


class TestLatest:
    def test_the_furthest_complete_one_is_used(self, tmp_path):
        for epoch, step in ((0, 900), (12, 1), (1, 2)):
            write_checkpoint(tmp_path, checkpoint(epoch, step))
        assert latest_in(tmp_path) == ((12, 1), [])
        (write_checkpoint(tmp_path, checkpoint(13, 1)) / COMMIT_FILE).unlink()
        assert latest_in(tmp_path) == ((12, 1), [])

    @pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE, COMMIT_FILE])
    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_damaged_one_is_skipped_with_one_warning(self, damage, file, tmp_path):
        write_checkpoint(tmp_path, checkpoint(1, 3))
        newest = write_checkpoint(tmp_path, checkpoint(1, 9))
        (newest / file).write_bytes(DAMAGE[damage]((newest / file).read_bytes()))
        with pytest.raises(CorruptFileError):
            read_checkpoint(newest)
        latest, warnings = latest_in(tmp_path)
        assert latest == (1, 3)
        assert len(warnings) == 1 and "epoch 2" in warnings[0] and "\n" not in warnings[0]

    @pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE])
    def test_one_without_a_file_is_damaged(self, file, tmp_path):
        (write_checkpoint(tmp_path, checkpoint()) / file).unlink()
        latest, warnings = latest_in(tmp_path)
        assert latest is None and len(warnings) == 1

    def test_with_both_damaged_there_is_none_and_one_warning(self, tmp_path):
        for step in (3, 9):
            path = write_checkpoint(tmp_path, checkpoint(0, step)) / TENSORS_FILE
            path.write_bytes(flip_bit(path.read_bytes(), 40))
        latest, warnings = latest_in(tmp_path)
        assert latest is None and len(warnings) == 1 and warnings[0].count(TENSORS_FILE) == 2

    @pytest.mark.parametrize(
        "change", [{"torch": "1.0"}, {"cpu": "other"}, {"threads": 77}, {"compiled": True}], ids=str
    )
    def test_one_of_another_environment_is_not_used(self, change, tmp_path):
        write_checkpoint(tmp_path, checkpoint(environment=HERE.model_copy(update=change)))
        latest, (warning,) = latest_in(tmp_path)
        ((key, value),) = change.items()
        assert latest is None and f"{key} {value}, now {getattr(HERE, key)}" in warning

    def test_one_of_other_trials_is_not_used(self, tmp_path):
        write_checkpoint(tmp_path, checkpoint(trials=("a", "b")))
        assert latest_in(tmp_path, ["a", "c"]) == (None, []) and latest_in(tmp_path, ["b"]) == ((0, 3), [])

    def test_earlier_attempts_are_deleted_once_there_are_two_of_this_one(self, tmp_path):
        write_checkpoint(tmp_path / "old", checkpoint(0, 1))
        manager = CheckpointManager(tmp_path / "new", [tmp_path / "old"])
        manager.write(checkpoint(0, 2))
        assert len(list_checkpoints([tmp_path / "old"])) == 1  # damage to the only one
        manager.write(checkpoint(0, 3))
        assert len(list_checkpoints([tmp_path / "old"])) == 0
        assert len(list_checkpoints([tmp_path / "new"])) == 2


class TestManager:
    @pytest.mark.parametrize("interval", [None, 60.0])
    def test_nothing_is_computed_or_written_before_it_is_time(self, interval, tmp_path):
        checkpoints_in(tmp_path, interval=interval).maybe_save(lambda: pytest.fail("computed a checkpoint"))
        assert not list(tmp_path.iterdir())

    def test_the_question_is_not_asked_at_every_step(self, tmp_path):
        questions = []
        checkpoints = checkpoints_in(tmp_path, should_stop=lambda: questions.append(1) is not None)
        checkpoints.poll_interval = 60.0
        for _ in range(5):
            checkpoints.maybe_save(checkpoint)
        assert len(questions) == 1

    def test_a_stop_leaves_a_checkpoint(self, tmp_path):
        with pytest.raises(TrainingInterrupted):
            checkpoints_in(tmp_path, should_stop=lambda: True).maybe_save(checkpoint)
        assert len(list_checkpoints([tmp_path])) == 1

    def test_trainings_in_subfolders_are_separate(self, tmp_path):
        first, other = (
            checkpoints_in(tmp_path / "b", tmp_path / "a", interval=0.0).subfolder(name) for name in "xy"
        )
        first.maybe_save(checkpoint)
        write_checkpoint(tmp_path / "a" / "y", checkpoint(4, 1))
        assert first.latest(["a"], HERE) is None
        assert position(other.latest(["a"], HERE)) == (4, 1)


def test_tensors_of_another_network_are_refused(tmp_path, data):
    """A complete checkpoint, but not of this network."""
    write_checkpoint(tmp_path, checkpoint(trials=("trial-0",)))
    job = job_of(replicates_of(trial_config(), 0))
    with pytest.raises(CorruptFileError):
        train_population(job, data, checkpoints=checkpoints_in(tmp_path / "new", tmp_path))


def test_checkpoints_after_every_step_do_not_change_a_training(data, tmp_path):
    config = trial_config(epochs=2)
    checkpoints = checkpoints_in(tmp_path, interval=0.0)
    (result,) = train_population(job_of(replicates_of(config, 0)), data, checkpoints=checkpoints)
    assert same_bits(result, train_one(config, data))
    assert [position(read_checkpoint(path)) for path in list_checkpoints([tmp_path])] == [(1, 6), (1, 7)]
