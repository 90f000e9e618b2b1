"""Ports: a taken one is refused in words, or another is found."""

from __future__ import annotations

import socket

import pytest

from watchroom.errors import ConfigError, LinkError
from watchroom.serve.ports import free_port, is_free, require_free, wait_for_free


def test_taken_port_is_refused_with_a_way_out() -> None:
    """The sentence names the port and the option."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        with pytest.raises(ConfigError, match=rf"port {port} .* in use .*--port N"):
            require_free("127.0.0.1", port, option="--port")
        assert free_port("127.0.0.1", port) != port
    assert free_port("127.0.0.1", port) == port


def test_part_of_a_running_box_tries_again() -> None:
    """A child whose port is taken ends with an error its supervisor retries, not one that ends everything."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(LinkError, match=rf"port {port} .* in use"):
            wait_for_free("127.0.0.1", port)
    wait_for_free("127.0.0.1", port)


def test_any_port_is_a_real_one() -> None:
    """Port 0 in the addresses of a demo would send gateways and simulators to different places."""
    port = free_port("127.0.0.1", 0)
    assert port > 0
    assert is_free("127.0.0.1", port)
