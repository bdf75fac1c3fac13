"""Step 5: one leader, by votes of a majority, and terms."""

from dataclasses import dataclass

from perseus.algo import Process, always, durable, eventually, on, sometimes


@dataclass(frozen=True)
class Vote:
    """Asks for a vote; ``progress`` says how far the candidate is."""

    term: int
    progress: tuple


@dataclass(frozen=True)
class Voted:
    """A vote."""

    term: int


@dataclass(frozen=True)
class Lead:
    """The leader lives."""

    term: int


class Election(Process):
    """Who hears nothing of a leader stands for the next term."""

    term: int = durable(0)
    voted_for: str = durable("")

    def start(self):
        self.leads = False
        self.votes = set()
        self.timer = self.after((1.0, 2.0), self.stand)

    def be_patient(self):
        self.timer.cancel()
        self.timer = self.after((1.0, 2.0), self.stand)

    def see(self, term):
        if term > self.term:
            self.term, self.voted_for, self.leads = term, "", False
            self.be_patient()

    def stand(self):
        self.be_patient()
        self.term += 1
        self.voted_for = self.id
        self.votes = {self.id}
        self.broadcast(Vote(self.term, self.progress()))

    def progress(self):
        return ()

    @on(Vote)
    def vote(self, sender, message):
        self.see(message.term)
        is_free = self.voted_for in ("", sender)
        if message.term == self.term and is_free and message.progress >= self.progress():
            self.voted_for = sender
            self.be_patient()
            self.send(sender, Voted(self.term))

    @on(Voted)
    def voted(self, sender, message):
        if message.term == self.term and not self.leads:
            self.votes.add(sender)
            if len(self.votes) >= self.majority:
                self.lead()

    def lead(self):
        self.leads = True
        self.beat()

    def beat(self):
        self.timer.cancel()
        self.timer = self.after(0.2, self.beat)
        for peer in self.peers:
            self.send(peer, self.news(peer))

    def news(self, peer):
        return Lead(self.term)

    @on(Lead)
    def led(self, sender, message):
        self.see(message.term)
        if message.term == self.term:
            self.be_patient()


@always(Election)
def one_leader_in_a_term(view):
    """The ghost remembers who led in each term."""
    node = view.changed
    return not node.leads or view.ghost.setdefault(node.term, node.id) == node.id


@eventually(Election, within_s=30)
def somebody_leads(view):
    """When the faults are over."""
    return any(node.leads for node in view.processes)


@sometimes(Election)
def a_leader_is_followed_by_another(view):
    """Else the runs prove little."""
    return view.changed.leads and view.changed.term > 1
