"""Who is missing is named, on every process that is there."""

import contextlib
import json
import socket
import threading
import time

import pytest

from maskjax.errors import UserError
from maskjax.train.rollcall import roll_call


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def call_all(address, claims, timeout):
    """What each process of (index, count, delay) gets: its list of names or its error."""
    found = {}

    def one(number, index, count, delay):
        time.sleep(delay)
        try:
            found[number] = roll_call(address, count, index, f"host-{number}", timeout)
        except UserError as error:
            found[number] = str(error)

    threads = [
        threading.Thread(target=one, args=(number, *claim)) for number, claim in enumerate(claims)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(claims))]


@pytest.mark.parametrize("late", [0, 2])
def test_all_learn_the_names_of_all_whoever_comes_last(address, late):
    claims = [(index, 3, 0.3 * (index == late)) for index in range(3)]
    assert call_all(address, claims, 20) == [["host-0", "host-1", "host-2"]] * 3


def test_the_missing_are_named_on_every_process_that_is_there(address):
    for found in call_all(address, [(0, 4, 0), (2, 4, 0)], 1.0):
        assert "4 processes expected, 2 present after 1 s" in found
        assert "missing process 1, 3; present: 0 (host-0), 2 (host-1)" in found


def test_process_0_is_missing(address, monkeypatch):
    monkeypatch.setattr("maskjax.train.rollcall._PATIENCE", 0.2)
    with pytest.raises(UserError, match=f"process 1 of 2: process 0 did not answer at {address}"):
        roll_call(address, 2, 1, "host", 0.3)


def test_two_of_one_number(address):
    for found in call_all(address, [(0, 3, 0), (1, 3, 0), (1, 3, 0.3)], 5)[:2]:
        assert found == "two processes say that they are process 1: host-1 and host-2"


def test_another_count(address):
    for found in call_all(address, [(0, 2, 0), (1, 3, 0)], 5):
        assert "process 1 (host-1) expects 3 processes, process 0 (host-0) 2" in found


def test_a_process_may_come_again_and_strangers_do_no_harm(address):
    host, port = address.split(":")

    def disturb():
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as line:
                line.sendall(b"GET / HTTP/1.1\n")
                break
        for said in ({"index": 1, "count": 3, "name": "dead"}, {"index": 1}, [1, 2]):
            with socket.create_connection((host, int(port))) as line:
                line.sendall(json.dumps(said).encode() + b"\n")

    thread = threading.Thread(target=disturb)
    thread.start()
    found = call_all(address, [(0, 3, 0), (2, 3, 0.5), (1, 3, 0.5)], 20)
    thread.join()
    assert found == [["host-0", "host-2", "host-1"]] * 3


@pytest.mark.parametrize("address", ["host", "host:", ":80", "host:http"])
def test_an_address_without_port_is_refused(address):
    with pytest.raises(UserError, match="must be HOST:PORT"):
        roll_call(address, 2, 0, "me", 1)
