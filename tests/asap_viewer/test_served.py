"""Serving arrays: the right bytes, only to whom they belong, only as long as needed."""

import gzip

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from asap_viewer.served import BROWSER_COOKIE, Blob, Owner, ServedLimits, VolumeServer
from core.errors import ConfigError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(clock) -> VolumeServer:
    return VolumeServer(ServedLimits(max_held_bytes=10_000, idle_s=100, grace_s=10), clock)


def client_of(served: VolumeServer, browser: str = "") -> TestClient:
    app = FastAPI()
    app.include_router(served.router())
    return TestClient(app, cookies={BROWSER_COOKIE: browser} if browser else {})


def ramp(dtype: str = "int16") -> np.ndarray:
    return np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)


def test_bytes_are_little_endian_and_x_runs_fastest(served):
    url = served.publish(Blob(ramp(">i2")), Owner("page", "me"))
    body = client_of(served, "me").get(url).content
    read = np.frombuffer(body, "<i2")
    assert read[1 + 2 * (2 + 3 * 3)] == ramp()[1, 2, 3]
    assert len(read) == 24


def test_body_is_compressed_once_and_plain_for_who_cannot_unpack(served):
    blob = Blob(ramp())
    url = served.publish(blob, Owner("page", "me"))
    packed = client_of(served, "me").get(url, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    plain = client_of(served, "me").get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content == gzip.decompress(blob.gzipped())
    assert blob.gzipped() is blob.gzipped()


def test_known_content_is_answered_with_304(served):
    url = served.publish(Blob(ramp()), Owner("page", "me"))
    client = client_of(served, "me")
    first = client.get(url)
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(url, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


def test_unknown_address_and_foreign_browser_get_nothing(served):
    url = served.publish(Blob(ramp()), Owner("page", "me"))
    assert client_of(served, "me").get(url).status_code == 200
    assert client_of(served, "other").get(url).status_code == 404
    assert client_of(served).get(url).status_code == 404
    assert client_of(served, "me").get(url[:-1] + "_").status_code == 404
    assert client_of(served, "me").get(url, headers={"If-None-Match": "*"}).status_code == 200


def test_addresses_differ_between_browsers_and_sessions_without_cookies(served):
    blob = Blob(ramp())
    owners = [Owner("a", "me"), Owner("b", "you"), Owner("c"), Owner("d")]
    urls = [served.publish(blob, owner) for owner in owners]
    assert len(set(urls)) == 4
    assert all(len(url.rsplit("/", 1)[1]) >= 32 for url in urls)


def test_reloading_the_page_finds_the_same_address(served, clock):
    url = served.publish(Blob(ramp()), Owner("before", "me"))
    served.forget("before")
    clock.now = 5
    assert served.publish(Blob(ramp()), Owner("after", "me")) == url
    clock.now = 30
    served.sweep()
    assert client_of(served, "me").get(url).status_code == 200


def test_ended_session_takes_its_arrays_with_it(served, clock):
    mine = served.publish(Blob(ramp()), Owner("mine", "me"))
    yours = served.publish(Blob(ramp()), Owner("yours", "you"))
    served.forget("mine")
    clock.now = 10
    assert client_of(served, "me").get(mine).status_code == 404
    assert client_of(served, "you").get(yours).status_code == 200
    assert len(served) == 1


def test_idle_arrays_go_and_used_ones_stay(served, clock):
    idle = served.publish(Blob(ramp()), Owner("a", "me"))
    used = served.publish(Blob(ramp("uint8")), Owner("a", "me"))
    clock.now = 90
    assert served.find(used.rsplit("/", 1)[1], "me") is not None
    clock.now = 110
    assert served.find(idle.rsplit("/", 1)[1], "me") is None
    assert served.find(used.rsplit("/", 1)[1], "me") is not None


def test_least_recently_used_goes_when_memory_is_full(served):
    random = np.random.default_rng(1)
    urls = []
    for _ in range(4):
        blob = Blob(random.integers(0, 256, (16, 16, 16)).astype(np.uint8))
        urls.append(served.publish(blob, Owner("a", "me")))
        assert client_of(served, "me").get(urls[-1]).status_code == 200
    assert [client_of(served, "me").get(url).status_code for url in urls] == [404, 404, 200, 200]


def test_one_array_shown_to_many_counts_once(served):
    blob = Blob(np.random.default_rng(1).integers(0, 256, (20, 20, 20)).astype(np.uint8))
    urls = [served.publish(blob, Owner(str(k), str(k))) for k in range(5)]
    assert client_of(served, "0").get(urls[0]).status_code == 200
    assert 7_000 < served.held_bytes() < 9_000
    assert client_of(served, "4").get(urls[4]).status_code == 200


def test_impossible_limits_are_refused():
    with pytest.raises(ConfigError, match="positive"):
        ServedLimits(idle_s=0)
