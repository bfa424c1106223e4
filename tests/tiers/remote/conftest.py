"""A bucket of a real S3 server, which a test can stop, continue and kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from safelight.preview.remote.remote_copy import RemoteCopy

HERE = Path(__file__).parent
# Nothing that Safelight writes, logs or sends may contain these.
KEY, SECRET = "access-key-of-the-test", "secret-key-of-the-test"
LIMIT_S = 60


class S3Server:
    """The server. `url` is its address."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "s3_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the S3 server did not start"

    def hang(self) -> None:
        """Lets the server answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends the server immediately, with everything that it holds."""
        self._process.kill()
        self._process.wait(LIMIT_S)

    def close(self) -> None:
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()


class Bucket:
    """A bucket, as other programs see it."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def names(self, folder: str = "") -> set[str]:
        """Paths of all files in a folder of the bucket."""
        self._files.invalidate_cache()
        root = f"bucket/{folder}".rstrip("/")
        return {path.removeprefix(f"{root}/") for path in self._files.find(root)}

    def read(self, name: str) -> bytes:
        return self._files.cat_file(f"bucket/{name}")

    def type_of(self, name: str) -> str:
        return self._files.call_s3("head_object", Bucket="bucket", Key=name)["ContentType"]

    def buckets(self) -> list[str]:
        self._files.invalidate_cache()
        return self._files.ls("")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    """A server with a bucket named `bucket`, which is the one of this process."""
    server = S3Server()
    settings = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        yield server
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
        server.close()


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("bucket")
    return Bucket(files)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses after failed tries, in seconds. Copies do not wait in this test."""
    pauses: list[float] = []
    without_waiting = partial(RemoteCopy, pause=pauses.append)
    monkeypatch.setattr("safelight.hosts.script.RemoteCopy", without_waiting)
    monkeypatch.setattr("safelight.hosts.diffusers.watched_run.RemoteCopy", without_waiting)
    return pauses


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """A function that waits until something is true."""

    def until(is_true: Callable[[], object]) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not is_true():
            assert time.monotonic() < end_s, "it did not become true in time"
            time.sleep(0.02)

    return until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            # aiobotocore's sessions live as long as the process.
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
