"""Naming a network's file: reading it, messages about it, and what a peer can ask for."""

import hashlib

import pytest

from kipper.common import network_file as module
from kipper.common.architecture import architecture_asked_for, architecture_named
from kipper.common.errors import UserError
from kipper.common.network_file import NetworkFile, named_here, network_file, with_hashes


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch):
    monkeypatch.setattr(module, "NAMED_FILES", {})


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("def make(): ...\n")
    return path


def test_a_reference_is_read_and_hashed(net, monkeypatch):
    monkeypatch.chdir(net.parent)
    found = network_file("net.py:make")
    digest = hashlib.sha256(net.read_bytes()).hexdigest()
    assert found == NetworkFile(str(net), "make", net.read_bytes())
    assert found.name == f"net.py:make#{digest}"
    assert with_hashes("fc1,./net.py:make") == f"fc1,./net.py:make#{digest}"
    assert network_file(f"net.py:make#{digest}") == found


def test_an_architecture_of_a_file_has_its_name_and_no_layers(net):
    architecture = architecture_named(f"{net}:make")
    assert architecture.title == "net.py:make"
    assert architecture.layers == ()
    assert architecture.couples_pixels
    assert architecture.family is None


def test_a_peer_can_only_ask_for_a_file_that_was_named_here(net):
    mine = architecture_named(f"{net}:make")
    assert architecture_asked_for(mine.name) == mine
    assert architecture_asked_for("fc1") == architecture_named("fc1")


def test_a_peer_cannot_have_another_file_read(net, monkeypatch):
    monkeypatch.chdir(net.parent)
    name = f"net.py:make#{hashlib.sha256(net.read_bytes()).hexdigest()}"
    with pytest.raises(UserError, match=r"does not have; .* --architecture=FOLDER/net.py:make\.$"):
        named_here(name)
    network_file(f"{net}:make")
    for other in (f"{net.parent}/{name}", "net.py:make", "../net.py:make#" + "0" * 64, "x" * 9999):
        with pytest.raises(UserError, match="is not a valid name of a network") as caught:
            named_here(other)
        assert len(str(caught.value)) < 300
    for other in (name.replace("make", "main"), name.replace("net", "nets")):
        with pytest.raises(UserError, match="does not have"):
            named_here(other)


def test_a_file_of_other_content_is_refused(net):
    network_file(f"{net}:make")
    with pytest.raises(UserError, match=r"net.py differs from the coordinator"):
        named_here("net.py:make#" + "0" * 64)


def test_a_changed_file_is_refused_under_its_old_hash(net):
    reference = with_hashes(f"{net}:make")
    net.write_text("def make(): return None\n")
    with pytest.raises(UserError, match=r"net.py has changed: its SHA-256 is"):
        network_file(reference)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("net.py", r"'net.py' does not name a network; write FILE.py:FUNCTION"),
        ("net.py:", "does not name a network"),
        ("net.py:1", "does not name a network"),
        ("net.py:make#abc", "does not name a network"),
        ("absent/net.py:make", r"absent/net.py cannot be read \(No such file or directory\)"),
    ],
)
def test_bad_references_are_refused(reference, sentence):
    with pytest.raises(UserError, match=sentence):
        architecture_named(reference)
