"""Where a notification may go, and where not."""

import ipaddress
import socket

import pytest

from pipeline.edge.notification.targets import TargetRefusedError, Targets, networks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "localhost",
        "",
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(TargetRefusedError):
        Targets().check(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_what_is_public_is_allowed(address: str) -> None:
    Targets().check(address)


def test_the_operator_allows_networks_but_never_a_clouds_metadata() -> None:
    targets = Targets(networks("10.0.0.0/8, 169.254.0.0/16,fd00::/8"))
    targets.check("10.1.2.3")
    targets.check("::ffff:10.1.2.3")
    targets.check("fd00::1")
    for address in ("192.168.1.1", "169.254.169.254", "fd00:ec2::254"):
        with pytest.raises(TargetRefusedError):
            targets.check(address)


def test_networks_are_separated_by_commas() -> None:
    assert networks("") == ()
    assert networks(" 10.0.0.0/8 ,::1/128,") == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    with pytest.raises(ValueError, match="does not appear"):
        networks("intranet")


def test_inside_the_guard_no_connection_is_made_to_where_it_may_not_go() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        with Targets().guarding() as refused, pytest.raises(TargetRefusedError):
            client.connect(server.getsockname())
        assert refused == ["127.0.0.1 is not a public address (setting notify_networks allows more)"]
        client.connect(server.getsockname())  # outside of it nothing is judged


def test_inside_the_guard_a_local_socket_is_refused() -> None:
    with (
        socket.socket(socket.AF_UNIX) as client,
        Targets().guarding() as refused,
        pytest.raises(OSError, match="address"),
    ):
        client.connect("/nowhere")
    assert len(refused) == 1
