"""`kipper certificates`: the files it makes, and files that it refuses to overwrite or read."""

import datetime
import pathlib
import stat

import pytest
from cryptography import x509

from kipper.common.errors import UserError, WriteError
from kipper.launch.link import certificates
from kipper.launch.link.certificates import make_certificates, read_certificates
from kipper.launch.main import run

NAMES = {"ca.pem", "cert.pem", "key.pem"}


@pytest.fixture
def folder(tmp_path):
    make_certificates(str(tmp_path / "tls"))
    return tmp_path / "tls"


def test_the_files_are_for_their_owner_alone(folder):
    assert {path.name for path in folder.iterdir()} == NAMES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in folder.parent.iterdir()] == ["tls"]


def test_the_certificate_is_for_both_ends_and_cannot_sign(folder):
    made = read_certificates(str(folder))
    certificate = x509.load_pem_x509_certificate(made.certificate)
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kipper"]
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    usage = x509.oid.ExtendedKeyUsageOID
    assert set(purposes) == {usage.SERVER_AUTH, usage.CLIENT_AUTH}
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    lasts = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    assert 360 < lasts.days < 366


def test_the_certificate_names_hosts_and_loopback_for_peers_that_check_them(tmp_path):
    assert run(["certificates", str(tmp_path / "tls"), "--hosts=10.0.0.1,fd00::1,node-2.lab"]) == 0
    certificate = x509.load_pem_x509_certificate((tmp_path / "tls" / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kipper", "localhost", "node-2.lab"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "10.0.0.1", "fd00::1"]


@pytest.mark.parametrize("hosts", ["10.0.0.1,", "node 2", "-x", "10.0.0.1:6379", "knöt"])
def test_what_is_no_host_is_refused_before_anything_is_made(tmp_path, hosts, capsys):
    assert run(["certificates", str(tmp_path / "tls"), f"--hosts={hosts}"]) == 2
    assert "as in --hosts=10.0.0.1,node2." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_authoritys_key_is_kept_nowhere(folder):
    made = read_certificates(str(folder))
    authority = x509.load_pem_x509_certificate(made.authority)
    certificate = x509.load_pem_x509_certificate(made.certificate)
    assert authority.public_key() != certificate.public_key()
    assert sum(path.read_bytes().count(b"PRIVATE KEY-----\n") for path in folder.iterdir()) == 2


def test_each_run_has_an_authority_of_its_own(folder, tmp_path):
    make_certificates(str(tmp_path / "other"))
    assert (folder / "ca.pem").read_bytes() != (tmp_path / "other" / "ca.pem").read_bytes()


@pytest.mark.parametrize("present", ["folder", "file", "certificates"])
def test_existing_files_are_not_overwritten(tmp_path, present):
    path = tmp_path / "tls"
    if present == "file":
        path.write_text("mine")
    elif present == "folder":
        path.mkdir()
        (path / "notes").write_text("mine")
    else:
        make_certificates(str(path))
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with pytest.raises(UserError, match="exists"):
        make_certificates(str(path))
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "tls").mkdir()
    make_certificates(str(tmp_path / "tls"))
    assert {path.name for path in (tmp_path / "tls").iterdir()} == NAMES


def test_no_partial_files_are_left(tmp_path, monkeypatch):
    def fail(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificates, "write_atomically", fail)
    with pytest.raises(WriteError, match="No space left on device"):
        make_certificates(str(tmp_path / "tls"))
    assert list(tmp_path.iterdir()) == []


def _swap(folder: pathlib.Path, other: pathlib.Path, name: str) -> None:
    (folder / name).write_bytes((other / name).read_bytes())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ca.pem", "is not signed by ca.pem"),
        ("cert.pem", "is not signed by ca.pem"),
        ("key.pem", "is not the key of cert.pem"),
    ],
)
def test_files_of_two_folders_are_refused(folder, tmp_path, name, sentence):
    make_certificates(str(tmp_path / "other"))
    _swap(folder, tmp_path / "other", name)
    with pytest.raises(UserError, match=sentence):
        read_certificates(str(folder))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_missing_or_damaged_file_is_named(folder, name):
    (folder / name).write_text("nothing of the kind")
    with pytest.raises(UserError, match="not a certificate or key in PEM"):
        read_certificates(str(folder))
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        read_certificates(str(folder))


@pytest.mark.parametrize("days", [-2, 400])
def test_certificates_of_another_time_are_refused(folder, monkeypatch, days):
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    monkeypatch.setattr(certificates, "_now", lambda: then)
    with pytest.raises(UserError, match="not today"):
        read_certificates(str(folder))


def _at(monkeypatch, now):
    monkeypatch.setattr(certificates, "_now", lambda: now)


def test_the_end_of_certificates_is_told_at_the_start_a_day_before_and_then(
    folder, monkeypatch, caplog
):
    ends = certificates.expiry_of(read_certificates(str(folder)))
    days = [datetime.timedelta(days=each) for each in (13.5, 7, 0.99, 0.5, -0.01, -3)]
    notice = certificates.ExpiryNotice(ends)
    told = []
    for left in days:
        _at(monkeypatch, ends - left)
        for _ in range(3):
            notice.look()
        told.append(len(caplog.messages))
    assert told == [1, 1, 2, 2, 3, 3]
    assert f"expire at {ends:%Y-%m-%d %H:%M} UTC, in 13.5 days" in caplog.messages[0]
    assert "in 1.0 days" in caplog.messages[1]
    assert "have expired" in caplog.messages[2]


@pytest.mark.parametrize(("left", "lines"), [(15, 0), (0.5, 1), (-1, 1)])
def test_at_the_start_only_a_near_end_is_told_and_only_once(
    folder, monkeypatch, caplog, left, lines
):
    ends = certificates.expiry_of(read_certificates(str(folder)))
    _at(monkeypatch, ends - datetime.timedelta(days=left))
    notice = certificates.ExpiryNotice(ends)
    for _ in range(3):
        notice.look()
    assert len(caplog.messages) == lines


def test_a_key_that_everybody_can_read_is_warned_of(folder, caplog):
    read_certificates(str(folder))
    assert caplog.text == ""
    (folder / "key.pem").chmod(0o644)
    read_certificates(str(folder))
    assert "can be read by everybody" in caplog.text


def test_the_command(tmp_path, capsys):
    path = tmp_path / "tls"
    assert run(["certificates", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "valid until" in printed
    assert "--transport=grpc_tls --certificates=DIR" in printed
    read_certificates(str(path))
    assert run(["certificates", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"kipper: {path} exists")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--folder"], ["--unknown=1"]])
def test_the_command_without_a_folder(arguments, capsys):
    assert run(["certificates", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
