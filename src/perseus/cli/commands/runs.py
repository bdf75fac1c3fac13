"""``perseus algo run`` and what belongs to it: algorithms on the cluster, for real.

``check`` ends with 0 when nothing speaks against the run, 1 when a property does not hold, and
3 when nothing speaks against what is there of the traces, and a part of them is not.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from perseus.amounts import counted
from perseus.cli.commands import watching
from perseus.cli.commands.simulated import keep_picture
from perseus.cli.commands.simulation import NODES_MAXIMUM, fix_hashes
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.hosting.check import check as check_run
from perseus.hosting.check import live
from perseus.hosting.merge import Traces
from perseus.hosting.replay import Checked
from perseus.hosting.run import Run
from perseus.hosting.runs import Process, Runs
from perseus.proto.v1 import algo_pb2
from perseus.sim import diagram, trace

# Exit codes of ``check``.
_EXITS = {"held": 0, "broken": 1, "not known": 3}


def run(invocation: Invocation) -> int:
    """Starts a run; prints its id alone once each process has begun. ^C ends what has begun."""
    options, console = invocation.options, invocation.console
    if not 1 <= options.nodes <= NODES_MAXIMUM:
        raise UsageError(f"--nodes {options.nodes} is not possible", hint=f"1 to {NODES_MAXIMUM}")
    runs = Runs(invocation.cluster)
    made = runs.start(options.target, options.nodes, options.workload, console.say)
    if console.as_json:
        about = {"run": made.run, "target": made.target, "workload": made.workload}
        console.json(about | {"nodes": made.nodes})
        return 0
    console.line(made.run)
    processes = counted(len(made.nodes), "process", "processes")
    console.say(f"{processes} on {counted(len(set(made.nodes.values())), 'node')}, until stopped:")
    console.say(f"perseus algo watch {made.run}, and perseus algo stop {made.run}")
    return 0


def ps(invocation: Invocation) -> int:
    """All runs, or the processes of one."""
    runs, console = Runs(invocation.cluster), invocation.console
    if invocation.options.run is None:
        return _list(runs, invocation)
    found = runs.look(runs.get(invocation.options.run))
    if console.as_json:
        console.json([_as_json(each) for each in found])
        return 0
    rows = [_row(each) for each in found]
    console.table(
        ("PROCESS", "NODE", "STATE", "RESTARTS", "SENT", "HEARD", "DROPPED", "FAULTS"), rows
    )
    return 0


def _list(runs: Runs, invocation: Invocation) -> int:
    console = invocation.console
    found = [(each, "running" if runs.is_active(each) else "stopped") for each in runs.all()]
    if console.as_json:
        console.json(
            [
                {
                    "run": each.run,
                    "target": each.target,
                    "workload": each.workload,
                    "state": state,
                    "nodes": each.nodes,
                }
                for each, state in found
            ]
        )
        return 0
    rows = [(each.run, state, str(len(each.nodes)), each.target) for each, state in found]
    console.table(("RUN", "STATE", "PROCESSES", "ALGORITHM"), rows)
    return 0


def _row(process: Process) -> tuple[str, ...]:
    status = process.status
    if status is None:
        return (process.id, process.node, process.state, "", "", "", "", process.error)
    counts = (status.restarts, status.sent, status.heard, status.dropped)
    return (process.id, process.node, process.state, *map(str, counts), watching.faults(process))


def _as_json(process: Process) -> dict[str, Any]:
    status = process.status or algo_pb2.ProcessStatus()
    return {
        "process": process.id,
        "node": process.node,
        "job_id": process.job_id,
        "state": process.state,
        "restarts": status.restarts,
        "sent": status.sent,
        "heard": status.heard,
        "dropped": status.dropped,
        "deaf_to": list(status.deaf_to),
        "loss": status.loss,
        "delay_s": status.delay_s,
        "ending": status.ending,
        "stuck_s": status.stuck_s,
        "stuck_in": status.stuck_in,
        "stuck_at": status.stuck_at,
        "error": process.error,
    }


# What happened.


def watch(invocation: Invocation) -> int:
    """The processes and their latest events, drawn anew; where there is no terminal, events as
    they come."""
    options, console, runs = invocation.options, invocation.console, Runs(invocation.cluster)
    found = runs.get(options.run)
    wanted = runs.members(found, [options.process]) if options.process else list(found.nodes)
    since_s = found.started_at_s if options.all else time.time()
    lines = live(runs, found, wanted, since_s)
    if watching.is_drawn(console):
        events = (event for line in lines for event in _events(line, found.started_at_s))
        watching.show(console, runs, found, wanted, watching.Latest(events))
        return 0
    for line in lines:
        if console.as_json:
            console.json(line)
            continue
        for event in _events(line, found.started_at_s):
            console.line(str(event))
        sys.stdout.flush()
    return 0


def _events(line: dict[str, Any], started_at_s: float) -> list[trace.Happened]:
    at_s, who = line["at"] - started_at_s, line["p"]
    what = str(line.get("what", ""))
    made = [trace.Happened(at_s, line["k"], who, what, line.get("from", ""))]
    made += [trace.Happened(at_s, "send", who, s[2], s[0]) for s in line.get("s", ())]
    return made


def check(invocation: Invocation) -> int:
    """The properties, on the traces."""
    fix_hashes()
    options, console, runs = invocation.options, invocation.console, Runs(invocation.cluster)
    found = runs.get(options.run)
    with tempfile.TemporaryDirectory(prefix="perseus-") as folder:
        checked, traces = check_run(runs, found, Path(folder))
    if console.as_json:
        console.json(_checked_as_json(found, checked) | _traces_as_json(checked, traces))
    else:
        _tell(invocation, checked, traces)
    if options.picture:
        said = {"held": "all properties held", "not known": "not known, a part is not there"}
        title = f"run {found.run}: {checked.violation or said[_verdict(checked)]}"
        keep_picture(options.picture, diagram.svg(checked.events, title))
        console.say(f"the picture is in {options.picture}")
    return _EXITS[_verdict(checked)]


def _verdict(checked: Checked) -> str:
    """A key of ``_EXITS``."""
    if checked.violation is not None:
        return "broken"
    return "not known" if checked.missing else "held"


def _tell(invocation: Invocation, checked: Checked, traces: Traces) -> None:
    console, options = invocation.console, invocation.options
    if options.trace:
        console.line(trace.text(checked.events))
    if options.diagram:
        console.line(diagram.text(checked.events))
    if checked.violation is not None:
        words = console.colour("broken", "red")
        console.line(f"{words} after {checked.violation.at_s:.3f} s: {checked.violation}")
    else:
        for (kind, name), said in checked.properties.items():
            console.line(f"{kind:10}  {name}: {said}")
    if not checked.properties:
        console.say("it has no properties: that each step was taken as it says was checked alone")
    if _verdict(checked) == "not known":
        taken = sum(traces.taken.values())
        console.line(
            f"{console.colour('not known', 'yellow')}: {taken} of {taken + traces.cut} events"
            " were checked, and not all of the run is known"
        )
    console.say(
        f"{counted(checked.steps, 'step')}, {counted(checked.messages, 'message')},"
        f" {counted(checked.crashes, 'crash', 'crashes')} in {checked.lasted_s:.1f} s"
    )
    for sentence in checked.missing:
        console.warn(sentence)
    if traces.cut and not traces.missing:
        console.say(f"the last {traces.cut} events came while the traces were read")


def _checked_as_json(found: Run, checked: Checked) -> dict[str, Any]:
    violation = checked.violation
    return {
        "run": found.run,
        "violation": None
        if violation is None
        else {"property": violation.name, "said": violation.said, "at_s": violation.at_s},
        "properties": [
            {"kind": kind, "name": name, "said": said}
            for (kind, name), said in checked.properties.items()
        ],
        "steps": checked.steps,
        "messages": checked.messages,
        "crashes": checked.crashes,
        "seconds": checked.lasted_s,
    }


def _traces_as_json(checked: Checked, traces: Traces) -> dict[str, Any]:
    return {
        "verdict": _verdict(checked),
        "checked": [
            {"process": process, "events": taken, "left_out": len(traces.lines[process]) - taken}
            for process, taken in traces.taken.items()
        ],
        "cut": traces.cut,
        "torn": traces.torn,
        "missing": checked.missing,
    }


def stop(invocation: Invocation) -> int:
    """Ends a run."""
    options, console, runs = invocation.options, invocation.console, Runs(invocation.cluster)
    found = runs.get(options.run)
    away = runs.stop(found, keep=options.keep)
    if console.as_json:
        console.json({"run": found.run, "away": away})
    for node in away:
        console.warn(f"{node} is away; what was durable there goes when it comes back")
    if options.keep:
        console.say(
            f"what was durable stays on the nodes, in their data folders' algo/{found.run};"
            f" perseus algo stop {found.run} removes it"
        )
    console.say(f"its record and traces are kept; perseus fs rm -r {found.folder}")
    return 0
