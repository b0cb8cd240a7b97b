"""Without a network nothing waits: each host is asked once, all at the same time. Calls are counted, not seconds."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from lib import datasets, network
from lib.compositionality.hub_models import load
from lib.datasets import DataError, DataFile, OutOfReachError
from tests.waiting import HANG

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has asked no host yet, without a proxy."""
    monkeypatch.setattr(network, "_reasons", {})
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


@pytest.fixture
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that never returns; gives the names that it was asked for."""
    asked: list[str] = []
    end = threading.Event()

    def hang(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        end.wait()
        raise socket.gaierror("the test is over")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(network, "PATIENCE", 0.3)
    yield asked
    end.set()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A registry of six files on two hosts, an empty mirror and an empty cache."""
    entries = {
        f"x/{i}.csv": DataFile(f"https://{'ab'[i % 2]}.example/{i}.csv", "0" * 64, "CC0", "nobody")
        for i in range(6)
    }
    monkeypatch.setattr(datasets, "registry", lambda: entries)
    monkeypatch.setattr(datasets, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.delenv(datasets.MIRROR_VARIABLE, raising=False)
    return list(entries)


def test_make_data_asks_each_host_once_and_says_one_line(
    no_name_server: list[str], files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert datasets.main() == 1
    assert sorted(no_name_server) == ["a.example", "b.example"]
    [line] = capsys.readouterr().err.splitlines()
    assert "a.example: no answer within 0.3 s; b.example: no answer within 0.3 s" in line
    assert all(name in line for name in files)


def test_one_test_for_data_and_hub(no_name_server: list[str], files: list[str], monkeypatch) -> None:
    """Whoever comes first; afterwards the network is known to be away, also for hosts that were not in the test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert not datasets.reachable(files[:1])
    assert not datasets.reachable(files)
    for name in files:
        assert datasets.locate([name], "auto") is None
        with pytest.raises(OutOfReachError, match="no answer within") as caught:
            datasets.locate([name], "real")
        assert "\n" not in str(caught.value)
    assert datasets.only_cached("some/model")
    assert datasets.only_cached("other/model")
    assert sorted(no_name_server) == ["a.example", "b.example"]


def test_a_hub_model_without_a_name_server(no_name_server: list[str], files: list[str], monkeypatch) -> None:
    """The loader asks the cache alone: the resolver sees the one test, and no try of the libraries."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    import torch

    for revision in ("step0", "step512"):
        with pytest.raises(DataError, match="cannot be had"):
            load("EleutherAI/no-such-model", revision, torch.device("cpu"))
    assert sorted(no_name_server) == ["a.example", "b.example", "huggingface.co"]


def test_a_local_folder_asks_for_nothing(no_name_server: list[str], tmp_path: Path) -> None:
    assert not datasets.only_cached(str(tmp_path))
    assert no_name_server == []


def test_the_variable_of_the_hub_forbids_to_ask(no_name_server: list[str], monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert datasets.only_cached("some/model")
    assert no_name_server == []


LEFT_BEHIND = """
import socket, sys, threading
socket.getaddrinfo = lambda *a, **k: threading.Event().wait()
from lib import network
network.PATIENCE = 0.2
assert network.silent_hosts(["https://a.example/x"])
"""


def test_a_look_up_that_never_ends_holds_up_no_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT_BEHIND], cwd=ROOT, capture_output=True, text=True, timeout=HANG
    )
    assert (done.returncode, done.stderr) == (0, "")


class Server(ThreadingHTTPServer):
    """Answers every request with ``status``; notes its addresses, which are whole where it is used as a proxy."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        self.status, self.seen = status, list[str]()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.server.seen.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(403)
    yield server
    server.shutdown()
    server.server_close()


def test_any_response_is_an_answer(server: Server) -> None:
    assert network.silent_hosts([f"{server.url}/x", f"{server.url}/y"]) == {}
    assert network.silent_hosts([f"{server.url}/z"]) == {}
    assert server.seen == ["/"]


def test_a_proxy_is_asked_in_place_of_the_host(server: Server, monkeypatch) -> None:
    """The names of hosts are the proxy's business: they need not be known here."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    assert network.silent_hosts(["http://no-such-host.invalid/x"]) == {}
    assert server.seen == ["http://no-such-host.invalid/"]


def test_a_host_that_takes_the_call_and_says_nothing_is_silent(monkeypatch) -> None:
    monkeypatch.setattr(network, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert list(network.silent_hosts([url])) == ["127.0.0.1"]


def test_a_host_that_falls_silent_later_is_not_waited_for_again(
    server: Server, monkeypatch, tmp_path: Path
) -> None:
    """It answers the test, and hangs over a file: the next file of the host does not wait."""
    content = b"x"
    entries = {
        f"x/{i}": DataFile(f"{server.url}/{i}", hashlib.sha256(content).hexdigest(), "CC0", "nobody")
        for i in range(3)
    }
    monkeypatch.setattr(datasets, "registry", lambda: entries)
    monkeypatch.setattr(datasets, "cache_dir", lambda: tmp_path)
    monkeypatch.delenv(datasets.MIRROR_VARIABLE, raising=False)
    tried = []

    class Hang:
        def __init__(self, **_: object) -> None:
            pass

        def __call__(self, url: str, *_: object) -> None:
            tried.append(url)
            raise requests.ConnectionError("lost") from TimeoutError("timed out")

    monkeypatch.setattr(datasets.pooch, "HTTPDownloader", Hang)
    for name in entries:
        with pytest.raises(OutOfReachError):
            datasets.download(name)
    assert tried == [f"{server.url}/0"]


def test_one_silent_host_does_not_speak_for_others(server: Server) -> None:
    dead = "http://127.0.0.1:9"
    assert list(network.silent_hosts([dead], others=[server.url])) == ["127.0.0.1"]
    other = Server(200)
    assert (
        network.silent_hosts([other.url]) == {}
    )  # was not in the test, and is asked, since there is a network
    other.shutdown()
    other.server_close()


CACHED = """
import socket, sys, json
asked = []
def refuse(host, *a, **k):
    asked.append(host)
    raise socket.gaierror("no name server")
socket.getaddrinfo = refuse
import torch
from lib.compositionality.hub_models import load
from lib.hub import load_model, snapshot
model, tokenizer = load("somebody/tiny", "step0", torch.device("cpu"), torch.float32)
load_model("AutoModel", "somebody/tiny")
snapshot("somebody/tiny")
print(json.dumps([asked.count("huggingface.co"), len(asked) == len(set(asked)), tokenizer("a b")["input_ids"]]))
"""


def test_models_in_the_cache_of_the_hub_load_without_a_network(tmp_path: Path) -> None:
    """As the hub's cache lies on disk; the only look-up is that of the one test."""
    import tokenizers
    import transformers

    model = tmp_path / "models--somebody--tiny"
    commit = "0" * 40
    folder = model / "snapshots" / commit
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<|endoftext|>": 0, "a": 1, "b": 2}, unk_token="<|endoftext|>")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>").save_pretrained(
        folder
    )
    config = transformers.GPTNeoXConfig(
        vocab_size=3, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.GPTNeoXModel(config).save_pretrained(folder)
    (model / "refs").mkdir()
    for name in ("main", "step0"):
        (model / "refs" / name).write_text(commit)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()
    }
    done = subprocess.run(
        [sys.executable, "-c", CACHED],
        cwd=ROOT,
        env=environment | {"HF_HUB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [1, True, [1, 2]]
