"""Certificates of a run hold in that run, and open no door of a daemon."""

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from perseus.errors import InvalidError
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import new_key_and_request
from perseus.identity.subject import RunSubject, Subject, read, read_of_run
from perseus.rpc.callers import CertificateReader

NOW_S = 1_700_000_000.0
PROCESS = RunSubject("7k3m", "n1")
CONTROL = RunSubject("7k3m", "ann lee", is_control=True)


def _signed(subject: RunSubject) -> bytes:
    authority = Authority.create("lab", NOW_S)
    return authority.sign_of_run(new_key_and_request("x")[1], subject, 3600.0, NOW_S)


@pytest.mark.parametrize("subject", [PROCESS, CONTROL])
def test_it_says_which_run_and_who(subject: RunSubject) -> None:
    assert read_of_run(_signed(subject)) == ("lab", subject)


@pytest.mark.parametrize("subject", [PROCESS, CONTROL])
def test_daemons_know_nobody_by_it(subject: RunSubject) -> None:
    certificate = _signed(subject)
    with pytest.raises(InvalidError, match="names nobody"):
        read(certificate)
    with pytest.raises(InvalidError, match="names nobody"):
        CertificateReader("lab").caller(certificate, "tls")


def test_others_are_nobody_in_a_run() -> None:
    authority = Authority.create("lab", NOW_S)
    subject = Subject("user", "ann", roles.ADMIN)
    certificate = authority.sign(new_key_and_request("x")[1], subject, 3600.0, NOW_S)
    with pytest.raises(InvalidError, match="not one of a run"):
        read_of_run(certificate)


@pytest.mark.parametrize(("subject", "may_serve"), [(PROCESS, True), (CONTROL, False)])
def test_only_processes_may_serve(subject: RunSubject, may_serve: bool) -> None:
    certificate = x509.load_pem_x509_certificate(_signed(subject))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usage) == may_serve


@pytest.mark.parametrize(
    "subject", [RunSubject("a.b", "n1"), RunSubject("", "n1"), RunSubject("a", "n1/x")]
)
def test_names_that_cannot_be_are_refused(subject: RunSubject) -> None:
    with pytest.raises(InvalidError, match="cannot be the id"):
        _signed(subject)


def test_a_process_may_call_nothing_but_processes() -> None:
    assert roles.allows(roles.PROCESS, roles.PROCESS, False)
    for required in (roles.VIEWER, roles.USER, roles.ADMIN, roles.NODE, roles.TOKEN):
        assert not roles.allows(roles.PROCESS, required, True)
    for caller in (*roles.LADDER, roles.NODE, roles.TOKEN):
        assert not roles.allows(caller, roles.PROCESS, True)
