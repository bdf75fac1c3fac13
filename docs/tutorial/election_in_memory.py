"""Step 5, with a mistake: a vote that does not survive."""

from election import Election


class Forgetful(Election):
    """Votes again after a crash."""

    def start(self):
        super().start()
        self.voted_for = ""
