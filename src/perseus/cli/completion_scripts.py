"""Completion scripts for bash, zsh and fish, made from the argparse tree."""

import argparse

from perseus.cli import parser as parser_module
from perseus.cli.candidates import EXIT_FILES, FLAGS


def tree() -> dict[str, list[tuple[str, str]]]:
    """For each command's words ("", "fs", "fs put"): what can follow, with its help."""
    found: dict[str, list[tuple[str, str]]] = {}
    _collect(parser_module.build_parser(), "", found)
    return found


def _collect(
    node: argparse.ArgumentParser, words: str, found: dict[str, list[tuple[str, str]]]
) -> None:
    entries = []
    for action in node._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            entries += [(name, helps.get(name, "")) for name in action.choices]
        elif action.option_strings:
            entries.append((action.option_strings[-1], action.help or ""))
        elif action.choices:
            entries += [(str(choice), "") for choice in action.choices]
    found[words] = entries
    for name, child in parser_module.children(node).items():
        _collect(child, f"{words} {name}".strip(), found)


def choices() -> dict[str, list[str]]:
    """The values of flags that have a choice, by the words before ("token create --role")."""
    return {
        f"{words} {name}": [str(choice) for choice in action.choices]
        for words, command in parser_module.leaves().items()
        for action in command._actions
        if action.choices
        for name in action.option_strings
    }


def bash(commands: dict[str, list[tuple[str, str]]]) -> str:
    """The script of bash."""
    cases = "\n".join(
        f"        {words!r}) words={' '.join(name for name, _ in entries)!r} ;;"
        for words, entries in commands.items()
    )
    values = "\n".join(
        f"        {words!r}) words={' '.join(given)!r} values=1 ;;"
        for words, given in choices().items()
    )
    return f"""\
# perseus completion for bash: eval "$(perseus completion bash)"
_perseus() {{
    # Not `path`: that is the search path to zsh.
    local word said= words= values= index
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        [[ $word == -- ]] && {{ COMPREPLY=($(compgen -c -f -- "$2")); return; }}
        [[ $word == -* ]] && continue
        _perseus_known "${{said:+$said }}$word" && said=${{said:+$said }}$word
    done
    case $said in
{cases}
    esac
    case "$said ${{COMP_WORDS[COMP_CWORD - 1]}}" in
{values}
    esac
    if [[ $2 != -* && -z $values ]] && _perseus_asks "$said" "${{COMP_WORDS[COMP_CWORD - 1]}}"; then
        _perseus_ask "$@" && return
    fi
    COMPREPLY=($(compgen -W "$words" -- "$2"))
}}
# What only the cluster knows: nodes, jobs, paths. Fails where local files or flags fit.
_perseus_ask() {{
    local IFS=$'\\n' code
    set -f
    COMPREPLY=($("$1" __complete --bash "$2" "${{COMP_LINE:0:$COMP_POINT}}" 2>/dev/null </dev/null))
    code=$?
    set +f
    [[ $code == {EXIT_FILES} ]] && return 0
    [[ ${{#COMPREPLY[@]}} -gt 0 ]] || return 1
    # They come quoted: in a name as it is the shell would find commands.
    compopt -o noquote 2>/dev/null && compopt -o filenames 2>/dev/null
    # After a folder one goes on.
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == */ ]] && compopt -o nospace 2>/dev/null
    return 0
}}
_perseus_asks() {{
    case $2 in
        {"|".join(FLAGS)}) return 0 ;;
    esac
    case $1 in
        {"|".join(repr(words) for words in parser_module.leaves())}) return 0 ;;
    esac
    return 1
}}
_perseus_known() {{
    case $1 in
        {"|".join(repr(words) for words in commands if words)}) return 0 ;;
    esac
    return 1
}}
complete -o default -F _perseus perseus"""


def zsh(commands: dict[str, list[tuple[str, str]]]) -> str:
    """The script of zsh: bash's, through its own compatibility."""
    return f"""\
# perseus completion for zsh: eval "$(perseus completion zsh)"
autoload -U +X bashcompinit && bashcompinit
{bash(commands)}"""


def fish(commands: dict[str, list[tuple[str, str]]]) -> str:
    """The script of fish."""
    lines = ["# perseus completion for fish: perseus completion fish | source"]
    choices_of = choices()
    for words, entries in commands.items():
        condition = _fish_condition(words, [name for name, _ in entries])
        for name, text in entries:
            about = text.replace("'", "\\'").replace("%%", "%")
            if name.startswith("--"):
                given = choices_of.get(f"{words} {name}")
                what = f"-l {name[2:]}" + (f" -x -a '{' '.join(given)}'" if given else "")
            elif name.startswith("-"):
                what = f"-s {name[1:]}"
            else:
                what = f"-f -a {name}"
            lines.append(f"complete -c perseus -n '{condition}' {what} -d '{about}'")
    # What only the cluster knows: nodes, jobs, paths.
    lines += [
        "function __perseus_ask",
        "    set -l words (commandline -opc) (commandline -ct)",
        "    $words[1] __complete $words[2..-1] 2>/dev/null",
        "end",
        "complete -c perseus -n 'not __fish_use_subcommand' -a '(__perseus_ask)'",
    ]
    return "\n".join(lines)


def _fish_condition(words: str, following: list[str]) -> str:
    if not words:
        return "__fish_use_subcommand"
    conditions = [f"__fish_seen_subcommand_from {word}" for word in words.split()]
    children = " ".join(name for name in following if not name.startswith("-"))
    if children:
        conditions.append(f"not __fish_seen_subcommand_from {children}")
    return "; and ".join(conditions)
