"""``doctor``: what is wrong here and in the cluster, each with the command that mends it.

The local findings come first, for they often explain why the cluster cannot be
asked. The exit code is 1 when something is an error.
"""

import os
import stat
import time
from pathlib import Path

from perseus.cli import fast
from perseus.cli.main import Invocation
from perseus.client import context as contexts
from perseus.client.context import Context
from perseus.client.messages import Finding
from perseus.errors import InvalidError, PerseusError
from perseus.shellwords import as_file

CLOCK_SKEW_MAXIMUM_S = 60.0
CERTIFICATE_WARNING_S = 14 * 86400.0


def doctor(invocation: Invocation) -> int:
    """Shows the findings; 1 when one is an error."""
    findings = examine(invocation)
    if invocation.console.as_json:
        invocation.console.json(findings)
    else:
        _show(invocation, findings)
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _show(invocation: Invocation, findings: list[Finding]) -> None:
    console = invocation.console
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for finding in findings:
        word = console.colour(f"{finding.severity}:", colours.get(finding.severity, "dim"))
        # What is said of a node begins with its name already.
        is_named = not finding.subject or finding.message.startswith(finding.subject)
        subject = "" if is_named else f"{finding.subject}: "
        console.line(f"{word} {console.sentence(subject + finding.message)}")
        if finding.command:
            console.line(f"    {console.sentence(finding.command)}")
    if not findings:
        console.say("all is well")


def examine(invocation: Invocation) -> list[Finding]:
    """All findings, local ones first."""
    try:
        context = invocation.context(may_start=False)
    except PerseusError as error:
        return [Finding("error", "context", error.message, error.hint or "perseus context ls")]
    if contexts.is_embedded(context) and not fast.answers(context.socket):
        text = "the cluster of this machine alone is not running; the next command starts it"
        return [*_certificate(context), Finding("note", "daemon", text, "perseus run -- true")]
    findings = [*_file(context), *_socket(context), *_certificate(context)]
    return findings + _ask(invocation, context, bool(findings))


def _file(context: Context) -> list[Finding]:
    try:
        mode = stat.S_IMODE(os.stat(context.path).st_mode) if context.path else 0
    except OSError:
        return []
    if context.key_pem and mode & 0o077:
        text = f"others can read {context.path}, which holds a private key"
        return [Finding("warning", "context", text, f"chmod 600 {as_file(context.path)}")]
    return []


def _socket(context: Context) -> list[Finding]:
    path = context.socket
    if not path or fast.answers(path):
        return []
    if not os.path.exists(path):
        text = f"no daemon runs here: its socket {path} is not there"
        return [Finding("error", "daemon", text, _start_command(path))]
    if not os.access(path, os.W_OK):
        owner = os.stat(path).st_uid
        text = f"this user may not use the daemon's socket {path} (it is of user {owner})"
        return [Finding("error", "daemon", text, "perseus login HOST:PORT --token T")]
    text = f"nothing answers on {path}: the daemon has stopped or was killed"
    return [Finding("error", "daemon", text, _start_command(path))]


def _start_command(socket_path: str) -> str:
    data = Path(socket_path).parent.parent
    folder = data.parent
    if (folder / "context.json").exists() and data.name.startswith("node-"):
        return f"perseus dev restart {data.name} --dir {as_file(folder)}"
    return f"perseus start --data {as_file(data)}"


def _certificate(context: Context) -> list[Finding]:
    if not context.certificate_pem:
        return []
    from perseus.identity import subject
    from perseus.identity.files import duration_text

    try:
        certificate = subject.read(context.certificate_pem.encode())
    except (InvalidError, ValueError) as error:
        return [Finding("error", "certificate", str(error), _login(context))]
    now_s = time.time()
    if now_s >= certificate.not_after_s:
        text = f"the certificate in {context.path} has expired"
        return [Finding("error", "certificate", text, _login(context))]
    if now_s < certificate.not_before_s:
        text = f"the certificate in {context.path} is not valid yet: this machine's clock is off"
        return [Finding("error", "clock", text, "date; sudo timedatectl set-ntp true")]
    left_s = certificate.not_after_s - now_s
    if left_s < CERTIFICATE_WARNING_S:
        text = f"the certificate in {context.path} expires in {duration_text(left_s)}"
        return [Finding("warning", "certificate", text, _login(context))]
    return []


def _login(context: Context) -> str:
    return f"perseus login {context.address or 'HOST:PORT'} --token T"


def _ask(invocation: Invocation, context: Context, known: bool) -> list[Finding]:
    """What the cluster itself says; that it cannot be asked, if nothing explained it yet."""
    try:
        info = invocation.cluster.info()
        findings = invocation.cluster.diagnose()
    except PerseusError as error:
        if known:
            return []
        return [Finding("error", context.name, error.message, _way_out(error.hint))]
    skew_s = time.time() - info.master_time_s
    if info.master_time_s and abs(skew_s) > CLOCK_SKEW_MAXIMUM_S:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"this machine's clock is {abs(skew_s):.0f} s {way} the master's"
        findings.insert(0, Finding("warning", "clock", text, "sudo timedatectl set-ntp true"))
    if info.cluster_id and context.cluster_id and info.cluster_id != context.cluster_id:
        text = f"the context is of cluster {context.cluster_id}, but {info.cluster_id} answers"
        findings.insert(0, Finding("error", "context", text, "perseus context ls"))
    return findings


def _way_out(hint: str) -> str:
    """The hint, without the advice to ask the doctor, who is speaking."""
    parts = [part.strip() for part in hint.split(";")]
    kept = [part for part in parts if part and "perseus doctor" not in part]
    return "; ".join(kept) or "on the master's machine: perseus start"
