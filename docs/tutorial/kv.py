"""Step 7: a map that behaves as one copy, on five machines that fail."""

from log import Entry, Log

from perseus.algo import on
from perseus.algo.workloads.caller import KEY_MISSING, PRECONDITION_FAILED, UNAVAILABLE, Error
from perseus.algo.workloads.lin_kv import Cas, CasOk, Read, ReadOk, Write, WriteOk


class Node(Log):
    """Answers when what was asked for is committed."""

    def start(self):
        super().start()
        self.values = {}
        # By place in the log who waits for it, and the term in which it got there.
        self.waiting = {}

    @on(Read)
    @on(Write)
    @on(Cas)
    def asked(self, sender, message):
        if not self.leads:
            self.reply(Error(UNAVAILABLE, "somebody else leads"))
            return
        self.log.append(Entry(self.term, message))
        self.waiting[len(self.log)] = self.term, self.asker
        self.beat()

    def apply(self, entry):
        answer = self.do(entry.command)
        term, asker = self.waiting.pop(self.commit, (0, None))
        if term == entry.term:
            self.reply(answer, asker)

    def do(self, command):
        if command is None:
            return None
        if isinstance(command, Write):
            self.values[command.key] = command.value
            return WriteOk()
        if command.key not in self.values:
            return Error(KEY_MISSING)
        value = self.values[command.key]
        if isinstance(command, Read):
            return ReadOk(value)
        if value != command.from_:
            return Error(PRECONDITION_FAILED)
        self.values[command.key] = command.to
        return CasOk()
