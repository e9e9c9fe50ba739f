"""Borders of familiarity, the measure of nearness, and what is kept of them."""

import live_server
import numpy as np
import pytest
import torch

from inklab.io.atomic import cache_dir
from inklab.serve import ood
from inklab.serve.network_cache import cached
from inklab.serve.ood import Calibration, energy, is_empty, leave_one_out, nearest_to


def images(count, seed, size=(1, 6, 6)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size)).astype(np.uint8)


class TestNearest:
    def test_with_all_components_it_is_the_squared_distance(self):
        known, asked = images(50, 0), images(20, 1)
        measured = nearest_to(known)(torch.from_numpy(asked).float() / 255)[0][:, 0]
        flat = [torch.from_numpy(each.reshape(len(each), -1)).double() / 255 for each in (asked, known)]
        right = -torch.cdist(*flat).square().amin(dim=1)
        assert (measured.double() - right).abs().max() < 1e-4

    def test_an_image_that_is_known_is_at_hand(self):
        known = images(50, 0)
        assert nearest_to(known)(torch.from_numpy(known).float() / 255)[0].abs().max() < 1e-4

    def test_what_few_components_leave_out_counts(self, monkeypatch):
        monkeypatch.setattr(ood, "COMPONENTS", 3)
        known = np.zeros((40, 1, 6, 6), np.uint8)
        known[:, 0, 0, :3] = images(40, 0, (3,))
        strange = known[:1].copy()
        strange[0, 0, 5] = 255
        near, far = nearest_to(known)(torch.from_numpy(np.concatenate([known[:1], strange])).float() / 255)[
            0
        ][:, 0]
        assert abs(near) < 1e-4 and abs(far + 6) < 1e-3

    def test_among_themselves_nobody_is_their_own_neighbour(self):
        known = images(10, 3)
        flat = known.reshape(10, -1) / 255
        right = [min(((flat[i] - flat[j]) ** 2).sum() for j in range(10) if j != i) for i in range(10)]
        assert np.abs(leave_one_out(known) + right).max() < 1e-6


class TestBorder:
    def test_a_share_lies_beyond_it(self):
        numbers = np.random.default_rng(0).normal(size=10_000)
        border = Calibration.of(numbers, 0.01)
        familiar = border(numbers)
        assert abs((familiar < 0).mean() - 0.01) < 0.001
        assert abs(np.median(familiar) - 1) < 1e-9

    def test_numbers_that_are_all_alike_give_a_border(self):
        assert np.isfinite(Calibration.of(np.ones(5))(np.array([0.5, 1.0]))).all()


def test_energy_is_the_logarithm_of_summed_exponentials():
    logits = np.random.default_rng(0).normal(size=(5, 10)) * 300
    assert np.allclose(energy(logits), torch.logsumexp(torch.from_numpy(logits), dim=1).numpy())


@pytest.mark.parametrize(("ground", "light_on_dark"), [(0, True), (255, False), (90, None)])
def test_next_to_no_ink_is_empty(ground, light_on_dark):
    page = np.full((3, 1, 28, 28), ground, np.uint8)
    page[1, 0, 3, 3:5] = 255 - ground
    page[2, 0, 3:25, 13:15] = 255 - ground
    assert is_empty(page, light_on_dark) == [True, True, False]


class TestKeeping:
    def test_it_is_made_once(self):
        made = []
        for _ in range(2):
            assert cached("once", lambda: made.append(1) or b"content") == b"content"
        assert made == [1]

    @pytest.mark.parametrize(
        "damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"", lambda raw: b"0" + raw[1:]]
    )
    def test_what_is_damaged_is_made_again(self, damage):
        cached("damaged", lambda: b"content")
        path = cache_dir("onnx") / "damaged"
        path.write_bytes(damage(path.read_bytes()))
        assert cached("damaged", lambda: b"again") == b"again"
        assert cached("damaged", lambda: b"not again") == b"again"

    def test_a_cache_that_refuses_stops_nothing(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert cached("refused", lambda: b"content") == b"content"


def test_the_second_start_converts_nothing(monkeypatch):
    live_server.shared()

    def never(*_):
        raise AssertionError("it was converted again")

    monkeypatch.setattr("inklab.serve.network_cache.to_onnx", never)
    monkeypatch.setattr("inklab.serve.ood.to_onnx", never)
    with live_server.serving(live_server.toy_run.finished()) as server:
        live_server.wait_until(lambda: server.service._learning.done())
        answer = server.ask("predict", images=[live_server.text(live_server.examples()[0])])
        assert answer["images"][0]["judgements"][0]["familiarity"] is not None
        assert len(server.ask("generate", count=3)["images"]) == 3
