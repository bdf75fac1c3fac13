"""What an argument without a help of its own means, in every command that has it."""

import argparse

MEANINGS = {
    "path": "path in the filestore",
    "node": "a node's name",
    "source": "the path that there is",
    "target": "the path that shall be; a folder ends with /",
    "label": "a label and its value",
    "token": "its id, as `perseus token ls` shows it",
    "name": "a context by its name, or its file",
    "shell": "the shell",
    "topic": "a command",
}


def explain(command: argparse.ArgumentParser) -> None:
    """Gives its arguments without a help the one that their name has everywhere."""
    for action in command._actions:
        if not action.option_strings and action.help is None:
            action.help = MEANINGS.get(action.dest)
