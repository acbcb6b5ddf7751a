"""Where Courier may listen, with pretended network interfaces."""

import collections
import dataclasses
import os
import socket

import psutil
import pytest
from installation import needs_launchpad

from kipper.common.errors import UserError
from kipper.common.settings import ExecutionSettings, WorkerSettings
from kipper.launch.link.joining import check_joining
from kipper.launch.link.open_network import check_open_network, is_loopback, warn_of_open_ports
from kipper.launch.link.worker_process import run_worker

pytestmark = pytest.mark.processes


PUBLIC, PUBLIC6 = "8.8.4.4", "2001:4860:4860::8844"
PRIVATE = "10.1.2.3"

Entry = collections.namedtuple("Entry", "family address")


@pytest.fixture
def interfaces(monkeypatch):
    """Pretends that this machine has the given addresses beside its loopback."""

    def give(*addresses):
        entries = [
            Entry(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            for address in ("127.0.0.1", "::1", "fe80::1%eth0", *addresses)
        ]
        link = Entry(psutil.AF_LINK, "00:00:5e:00:53:01")
        monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": [link, *entries]})

    return give


@pytest.mark.parametrize("public", [PUBLIC, PUBLIC6])
def test_courier_on_a_public_address_is_refused_by_name(interfaces, public):
    interfaces(PRIVATE, public)
    with pytest.raises(UserError, match=f"public address {public} .*--allow_open_network"):
        check_open_network("courier", allow_open_network=False)


def test_the_user_may_answer_for_a_firewall_and_is_warned(interfaces, caplog):
    interfaces(PUBLIC)
    check_open_network("courier", allow_open_network=True)
    assert f"including {PUBLIC}:" in caplog.text


@pytest.mark.parametrize("address", [PRIVATE, "192.168.0.9", "172.17.0.2", "100.64.0.1", "fd00::7"])
def test_a_private_address_is_warned_of(interfaces, caplog, address):
    interfaces(address)
    check_open_network("courier", allow_open_network=False)
    assert f"including {address}:" in caplog.text


def test_loopback_alone_is_silent(interfaces, caplog):
    interfaces()
    check_open_network("courier", allow_open_network=False)
    warn_of_open_ports("courier")
    assert caplog.text == ""


def test_a_public_name_before_a_translated_address_is_refused(interfaces):
    interfaces(PRIVATE)
    with pytest.raises(UserError, match=PUBLIC):
        check_open_network("courier", allow_open_network=False, host=PUBLIC)
    check_open_network("courier", allow_open_network=True, host=PUBLIC)


@pytest.mark.parametrize("host", ["localhost", "no-such-host.invalid", None, ""])
def test_another_name_changes_nothing(interfaces, host):
    interfaces(PRIVATE)
    check_open_network("courier", allow_open_network=False, host=host)


def test_grpc_tls_may_listen_anywhere(interfaces, caplog):
    interfaces(PUBLIC)
    check_open_network("grpc_tls", allow_open_network=False, host=PUBLIC)
    warn_of_open_ports("grpc_tls")
    assert caplog.text == ""


def test_a_run_of_this_machine_alone_is_warned_and_not_refused(interfaces, caplog):
    interfaces(PUBLIC)
    warn_of_open_ports("courier")
    assert "every interface" in caplog.text


@pytest.mark.parametrize(("port", "num_workers"), [(7070, 2), (7070, 0), (None, 0)])
@needs_launchpad
def test_a_run_that_other_hosts_join_is_refused_where_the_network_is_open(
    interfaces, port, num_workers
):
    interfaces(PUBLIC)
    settings = ExecutionSettings(workdir="w", launch="local_mp", port=port, num_workers=num_workers)
    with pytest.raises(UserError, match=PUBLIC):
        check_joining(settings)
    check_joining(dataclasses.replace(settings, allow_open_network=True))
    check_joining(dataclasses.replace(settings, port=None, num_workers=2))


@pytest.mark.parametrize("coordinator", ["192.168.0.1:7070", "gpu-17:7070", "[fd00::1]:7070"])
def test_a_worker_of_another_host_is_refused_where_the_network_is_open(interfaces, coordinator):
    interfaces(PUBLIC)
    with pytest.raises(UserError, match=PUBLIC):
        run_worker(WorkerSettings(coordinator=coordinator))


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
    ],
)
def test_which_names_mean_this_machine(host, is_one):
    assert is_loopback(host) is is_one


def test_this_machines_own_interfaces_can_be_read():
    check_open_network("courier", allow_open_network=True)


class _Command:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (self._path,)


@needs_launchpad
def test_courier_does_run_what_it_is_sent_which_is_why(tmp_path):
    """If this fails, Courier has become safer than docs/security.md says."""
    import courier

    from kipper.launch.link.transports import transport_named
    from kipper.launch.link.transports.transport import ChannelError

    transport = transport_named("courier")
    listener = transport.listen(lambda payload: payload)
    stranger = courier.Client(f"localhost:{listener.port}", wait_for_ready=False)
    with pytest.raises(Exception, match="handle takes bytes"):
        stranger.handle(_Command(str(tmp_path / "on the server")))
    listener.close()
    hostile = courier.Server()
    hostile.Bind("handle", lambda _: _Command(str(tmp_path / "on the client")))
    hostile.Start()
    channel = transport.connect(f"localhost:{hostile.port}")
    with pytest.raises(ChannelError, match="NoneType instead of bytes"):
        channel.submit(b"").result(60)
    channel.close()
    hostile.Stop()
    assert {path.name for path in tmp_path.iterdir()} == {"on the server", "on the client"}
