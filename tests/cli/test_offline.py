"""Nothing is told to anybody: the demo, a service and its lists run where every way out of this machine is refused.

Each process of theirs begins with a hook that notes and refuses what is sent beyond loopback, or asked of a name
server. It sees what Python's own sockets do; what a library did in C without them it would not see.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from serving_people import free_port, key_in, started

AT_START = """
import ipaddress, os, sys

SENT = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getnameinfo"}
ASKED = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}

def stays(host):
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

def hook(event, told):
    if event in SENT:
        address = told[-1]
        host = address[0] if isinstance(address, tuple) else None  # a path, or where the socket is connected to
    elif event in ASKED:
        host = told[0]
    else:
        return
    if not stays(host):
        with open(os.environ["TRIED"], "a") as file:
            file.write(f"{event} {host}\\n")
        raise OSError(f"{event} {host}: this machine has no way out")

sys.addaudithook(hook)
with open(os.environ["TRIED"] + ".hooked", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def cut_off(tmp_path: Path) -> Mapping[str, str]:
    """Returns an environment in which every process of Python is cut off."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start/sitecustomize.py").write_text(AT_START)
    paths = [str(tmp_path / "start"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "TRIED": str(tmp_path / "tried")}


def tried(environment: Mapping[str, str]) -> list[str]:
    """Return what was refused, by processes of which one at least had the hook."""
    assert Path(environment["TRIED"] + ".hooked").read_text()
    path = Path(environment["TRIED"])
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def within(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.mark.parametrize(
    ("code", "noted"),
    [
        ("socket.create_connection(('192.0.2.1', 80), 1)", ["socket.getaddrinfo 192.0.2.1"]),
        ("socket.socket().connect(('192.0.2.1', 80))", ["socket.connect 192.0.2.1"]),
        ("socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))", ["socket.connect 2001:db8::1"]),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", ["socket.sendto 192.0.2.1"]),
        ("socket.gethostbyname('somewhere.example')", ["socket.gethostbyname somewhere.example"]),
        ("import urllib.request; urllib.request.urlopen('http://a.example')", ["socket.getaddrinfo a.example"]),
        ("import requests; requests.get('http://192.0.2.1', timeout=1)", ["socket.getaddrinfo 192.0.2.1"]),
        ("import subprocess; subprocess.run([sys.executable, '-c', INNER])", ["socket.connect 192.0.2.2"]),
        ("s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())", []),
        ("a, b = socket.socketpair(); a.sendmsg([b'x'])", []),
    ],
)
def test_the_hook_refuses_and_notes_what_leaves_and_nothing_else(
    cut_off: Mapping[str, str], code: str, noted: list[str]
) -> None:
    inner = "INNER = \"import socket; socket.socket().connect(('192.0.2.2', 80))\""
    command = [sys.executable, "-c", f"import socket, sys\n{inner}\n{code}"]
    done = subprocess.run(command, env=os.environ | cut_off, check=False, capture_output=True, text=True, timeout=60)
    assert tried(cut_off) == noted
    assert ("no way out" in done.stderr) is bool(noted)


def test_the_demo_and_its_service_make_lists_with_no_way_out(
    tmp_path: Path, csv_file: Path, cut_off: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, out = free_port(), str(tmp_path / "made")
    words = ["demo", "--from", str(csv_file), "--out", out, "--cache", str(tmp_path / "cache")]
    command = (sys.executable, "-m", "discreet", *words, "--serve", "--port", str(port))
    with within(cut_off, monkeypatch), started(*command) as (_, told):
        assert "everything fits" in "".join(told)
        (line,) = [json.loads(each) for each in told if each.startswith("{")]
        headers = {"Authorization": f"Bearer {line['app_key']}"}
        url = f"http://127.0.0.1:{port}/api/v1"
        listed = requests.get(f"{url}/recommend/{line['person']}", headers=headers, timeout=20).json()
        assert listed["items"]
        assert listed["mode"] == "personalised"
    assert tried(cut_off) == []


def test_a_service_starts_with_no_way_out(
    tmp_path: Path, cut_off: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    command = (sys.executable, "-m", "discreet", "serve", str(tmp_path / "service"), "--port", str(port))
    with within(cut_off, monkeypatch), started(*command) as (_, told):
        headers = {"Authorization": f"Bearer {key_in(told)}"}
        for path in ("/inventory", "/access", "/duties"):
            assert requests.get(f"http://127.0.0.1:{port}/api/v1{path}", headers=headers, timeout=20).ok
    assert tried(cut_off) == []
