"""Whatever is sent, the response is no 500, and an error is JSON in one line."""

import json

import live_server
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

PATHS = ["predict", "denoise", "generate"]
KEYS = [
    "images", "picture", "pipelines", "corruption", "denoiser", "decoder", "sampler", "count", "seed",
    "positions", "neighbors_of", "sigma", "name", "strength", "more",
]  # fmt: skip

image = some.sampled_from(live_server.encoded_examples()[:3])
leaf = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(), some.text(max_size=20), image,
    some.sampled_from(["cnn", "denoiser+cnn", "denoiser", "mixture", "salt_and_pepper", "../cnn", "AAAA"]),
)  # fmt: skip
value = some.recursive(
    leaf,
    lambda inner: (
        some.lists(inner, max_size=4) | some.dictionaries(some.sampled_from(KEYS), inner, max_size=4)
    ),
)
nearly_valid = some.fixed_dictionaries(
    {"images": some.lists(image, min_size=1, max_size=3)},
    optional={
        "pipelines": some.lists(some.sampled_from(["cnn", "median+cnn", "x"]) | value, max_size=3),
        "corruption": some.fixed_dictionaries(
            {"strength": some.floats(0, 2) | value},
            optional={"seed": some.integers() | value, "name": value},
        ),
    },
)
generation = some.fixed_dictionaries(
    {},
    optional={
        "count": some.integers(-5, 200) | value, "seed": some.integers(0, 2**40) | value,
        "positions": some.lists(some.lists(some.floats(-1, 2), max_size=3), max_size=4) | value,
        "neighbors_of": image | value,
        "sigma": some.floats() | value, "sampler": value, "decoder": value,
    },
)  # fmt: skip
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def sent(path, body):
    server = live_server.shared()
    answer = server.client.post(f"/api/{path}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 404, 413, 422), (answer.status_code, body)
    content = answer.json()
    if answer.status_code != 200:
        assert set(content) == {"error"} and "\n" not in content["error"] and len(content["error"]) < 1000
    return answer.status_code


@quick
@given(some.sampled_from(PATHS), some.one_of(value, nearly_valid, generation))
def test_any_json(path, body):
    sent(path, json.dumps(body))


@quick
@given(some.sampled_from(PATHS), some.binary(max_size=200))
def test_any_bytes(path, body):
    assert sent(path, body) in (400, 422)


VALID = json.dumps({"images": live_server.encoded_examples()[:1], "corruption": {"strength": 0.1}}).encode()
replaced = some.tuples(some.integers(0, len(VALID) - 1), some.integers(0, 255))


@quick
@given(some.lists(replaced, max_size=4))
def test_a_valid_request_with_wrong_bytes(replacements):
    body = bytearray(VALID)
    for index, byte in replacements:
        body[index] = byte
    sent("predict", bytes(body))


def test_a_valid_request_passes():
    assert sent("predict", VALID) == 200


@pytest.fixture(scope="module", autouse=True)
def server_is_up():
    yield
    assert live_server.shared().client.get("/health").status_code == 200
