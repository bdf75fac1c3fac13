"""Certificates carry their subject; what does not belong together is told apart."""

import contextlib
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import AlreadyExistsError, InvalidError, NotFoundError, RefusedError
from perseus.identity import files, roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity, check_validity
from perseus.identity.subject import (
    BACKDATE_S,
    Subject,
    bears_mark_of,
    fingerprint,
    read,
    server_name,
    subject_of,
    to_der,
    validity_of,
)
from perseus.proto.v1 import common_pb2

NOW_S = 1_800_000_000.0
AUTHORITY = Authority.create("c-1", NOW_S)
KEY_PEM, REQUEST_PEM = files.new_key_and_request("anyone")
NODE = Subject("node", "kitchen-pc", roles.NODE, "n0000001")
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=16).filter(str.isprintable)


def _sign(subject: Subject, lifetime_s: float = 3600.0, time_s: float = NOW_S) -> bytes:
    return AUTHORITY.sign(REQUEST_PEM, subject, lifetime_s, time_s)


NODE_DER = to_der(_sign(NODE))


def _identity(folder: Path, subject: Subject = NODE, time_s: float = NOW_S) -> Identity:
    return Identity.of(folder, AUTHORITY.ca_pem, _sign(subject, time_s=time_s), KEY_PEM)


@given(NAMES, st.sampled_from(roles.LADDER))
def test_user_subject_round_trip(name: str, role: int) -> None:
    subject = Subject("user", name, role)
    assert subject_of(_sign(subject)) == subject


@given(NAMES, st.text("0123456789abcdef", min_size=1, max_size=16), st.booleans())
def test_node_subject_round_trip(name: str, node_id: str, is_master: bool) -> None:
    subject = Subject("node", name, roles.NODE, node_id, is_master)
    assert subject_of(to_der(_sign(subject))) == subject


def test_reader_agrees_with_cryptography() -> None:
    pem = _sign(NODE)
    theirs = x509.load_pem_x509_certificate(pem)
    ours = read(pem)
    assert ours.not_before_s == theirs.not_valid_before_utc.timestamp() == NOW_S - BACKDATE_S
    assert ours.not_after_s == theirs.not_valid_after_utc.timestamp() == NOW_S + 3600
    assert ours.cluster_id == "c-1"
    assert validity_of(AUTHORITY.ca_pem)[1] > NOW_S + 10 * 365 * 86400


@pytest.mark.parametrize("time_s", [2_600_000_000.0, 4_000_000_000.0])
def test_dates_past_2050_are_read(time_s: float) -> None:
    assert read(_sign(NODE, time_s=time_s)).not_after_s == time_s + 3600


def test_only_the_master_bears_its_name() -> None:
    def names(subject: Subject) -> list[str]:
        certificate = x509.load_pem_x509_certificate(_sign(subject))
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)

    master = Subject("node", "kitchen-pc", roles.NODE, "n0000001", is_master=True)
    assert names(NODE) == [server_name("c-1", "node")]
    assert names(master) == [server_name("c-1", "node"), server_name("c-1", "master")]
    assert names(Subject("user", "ada", roles.USER)) == []


def test_a_node_named_like_a_user_stays_a_node() -> None:
    tricky = Subject("node", "x/../user/admin/eve", roles.NODE, "n/user")
    assert subject_of(_sign(tricky)) == tricky


@given(st.binary(max_size=600))
def test_garbage_is_no_certificate(data: bytes) -> None:
    with pytest.raises(InvalidError):
        read(b"\x30" + data)


@given(st.data())
def test_damaged_certificate_is_read_or_refused(data: st.DataObject) -> None:
    der = bytearray(NODE_DER)
    at = data.draw(st.integers(0, len(der) - 1))
    der[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InvalidError):
        read(bytes(der[: data.draw(st.integers(at, len(der)))]))


@pytest.mark.parametrize(
    "subject",
    [
        Subject("user", "eve", roles.NODE),
        Subject("user", "eve", roles.UNSPECIFIED),
        Subject("user", "eve", roles.ADMIN, is_master=True),
        Subject("node", "kitchen-pc", roles.NODE),
        Subject("node", "kitchen-pc", roles.ADMIN, "n1"),
        Subject("user", "", roles.USER),
        Subject("user", "n" * 65, roles.USER),
        Subject("user", "two\nlines", roles.USER),
    ],
)
def test_impossible_subjects_are_not_signed(subject: Subject) -> None:
    with pytest.raises(InvalidError):
        _sign(subject)


def test_requests_are_checked() -> None:
    weak = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    rsa_pem = request.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    for request_pem in (b"", b"nonsense", REQUEST_PEM[:-60], REQUEST_PEM * 60, rsa_pem):
        with pytest.raises(InvalidError):
            AUTHORITY.sign(request_pem, NODE, 60.0, NOW_S)


def test_authority_is_kept_and_never_replaced(tmp_path: Path) -> None:
    AUTHORITY.save(tmp_path)
    assert (tmp_path / files.CA_KEY_FILE).stat().st_mode & 0o777 == 0o600
    loaded = Authority.load(tmp_path)
    assert (loaded.cluster_id, loaded.fingerprint) == ("c-1", AUTHORITY.fingerprint)
    with pytest.raises(AlreadyExistsError):
        Authority.create("c-2", NOW_S).save(tmp_path)
    other = Authority.create("c-3", NOW_S)
    (tmp_path / files.CA_FILE).write_bytes(other.ca_pem)
    with pytest.raises(InvalidError, match="not the key"):
        Authority.load(tmp_path)
    with pytest.raises(NotFoundError):
        Authority.load(tmp_path / "elsewhere")


@pytest.mark.parametrize("cluster_id", ["", "a.b", "A", "-a", "a" * 41])
def test_cluster_id_is_a_dns_label(cluster_id: str) -> None:
    with pytest.raises(InvalidError):
        Authority.create(cluster_id, NOW_S)


def test_identity_is_kept_and_open_keys_are_closed(tmp_path: Path) -> None:
    _identity(tmp_path).save()
    os.chmod(tmp_path / files.KEY_FILE, 0o644)
    loaded = Identity.load(tmp_path)
    assert loaded.subject == NODE
    assert loaded.cluster_id == "c-1"
    assert (tmp_path / files.KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_missing_identity_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="perseus login"):
        Identity.load(tmp_path)


def test_certificate_of_another_authority_is_told(tmp_path: Path) -> None:
    other = Authority.create("c-1", NOW_S)
    assert not bears_mark_of(_sign(NODE), other.fingerprint)
    with pytest.raises(InvalidError, match="another authority"):
        Identity.of(tmp_path, other.ca_pem, _sign(NODE), KEY_PEM)


def test_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    import time

    key_pem, _ = files.new_key_and_request("other")
    certificate_pem = _sign(NODE, time_s=time.time())
    identity = Identity.of(tmp_path, AUTHORITY.ca_pem, certificate_pem, key_pem)
    identity.save()
    with pytest.raises(InvalidError, match="do not belong together"):
        identity.server_ssl_context()


def test_a_renewal_that_breaks_off_leaves_a_certificate_and_its_key(tmp_path: Path) -> None:
    import time

    now_s = time.time()
    old = _identity(tmp_path, time_s=now_s)
    old.save()
    key_pem, request_pem = files.new_key_and_request("anyone")
    certificate_pem = AUTHORITY.sign(request_pem, NODE, 3600.0, now_s)
    following = tmp_path / files.NEXT_KEY_FILE
    following.write_bytes(key_pem)
    loaded = Identity.load(tmp_path)
    assert loaded.key_pem == old.key_pem
    loaded.server_ssl_context()
    (tmp_path / files.CERTIFICATE_FILE).write_bytes(certificate_pem)
    loaded = Identity.load(tmp_path)
    assert (loaded.certificate_pem, loaded.key_pem) == (certificate_pem, key_pem)
    loaded.server_ssl_context()
    assert not following.exists()


def test_times_are_checked(tmp_path: Path) -> None:
    identity = _identity(tmp_path)
    identity.check_time(NOW_S)
    with pytest.raises(RefusedError, match="expired 60 minutes ago"):
        identity.check_time(NOW_S + 7200)
    with pytest.raises(RefusedError, match="a clock is off"):
        check_validity(identity.certificate, NOW_S - 3600, "here")
    with pytest.raises(RefusedError):
        Identity.of(tmp_path, AUTHORITY.ca_pem, _sign(NODE, 1.0, 1e9), KEY_PEM).client_ssl_context()


def test_renewal_is_due_at_a_third(tmp_path: Path) -> None:
    identity = _identity(tmp_path)
    # Counted from when it was made, not from when it begins.
    lifetime_s = 3600
    assert not identity.needs_renewal(identity.expires_at_s - lifetime_s / 3 - 1)
    assert identity.needs_renewal(identity.expires_at_s - lifetime_s / 3)
    following = identity.renewed(_sign(NODE, time_s=NOW_S + 2000), AUTHORITY.ca_pem, KEY_PEM)
    assert following.expires_at_s == identity.expires_at_s + 2000
    with pytest.raises(InvalidError):
        identity.renewed(_sign(Subject("user", "eve", roles.ADMIN)), AUTHORITY.ca_pem, KEY_PEM)


def test_contexts_ask_for_certificates(tmp_path: Path) -> None:
    import time

    identity = _identity(tmp_path, time_s=time.time())
    identity.save()
    for context in (identity.server_ssl_context(), identity.client_ssl_context()):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_fingerprint_has_160_bits() -> None:
    assert len(fingerprint(AUTHORITY.ca_pem)) == 32
    assert fingerprint(AUTHORITY.ca_pem) != fingerprint(Authority.create("c-1", NOW_S).ca_pem)


def test_roles_are_those_of_the_protocol() -> None:
    for role, word in roles.WORDS.items():
        assert common_pb2.Role.Value(f"ROLE_{word.upper()}") == role
    assert len(roles.WORDS) + 1 == len(common_pb2.Role.values())


@pytest.mark.parametrize("node_may_call", [False, True])
def test_who_may_call_what(node_may_call: bool) -> None:
    allowed = {
        (caller, required)
        for caller in range(6)
        for required in range(6)
        if roles.allows(caller, required, node_may_call)
    }
    ladder = {(c, r) for c in roles.LADDER for r in roles.LADDER if c >= r}
    beside = {(roles.NODE, roles.NODE), (roles.TOKEN, roles.TOKEN)}
    nodes = {(roles.NODE, r) for r in roles.LADDER} if node_may_call else set()
    assert allowed == ladder | beside | nodes
