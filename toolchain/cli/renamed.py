"""Old spellings that still work in this release, each with a line on stderr that gives the new one.

The next release drops this module.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence

COMMANDS: Mapping[str, str] = {
    "export": "ledger export",
    "import": "ledger import",
    "history": "ledger history",
    "verify": "certificate verify",
    "release sign": "image sign",
    "release verify": "image verify",
    "release sbom": "image sbom",
    "manifests": "kubernetes manifests",
}
_AUDIT = {"--why": "--message"}
FLAGS: Mapping[str, Mapping[str, str]] = {  # by command; what follows the old flag's `=` follows the new one's
    "gate": {"--across": "--allow-difference"},
    "ship": {**_AUDIT, "--despite-gate": "--skip-gate --reason"},
    "unpack": {**_AUDIT, "--despite-gate": "--skip-gate --reason"},
    "rollback": _AUDIT,
}


def current_spelling(argv: Sequence[str]) -> list[str]:
    """`argv` with each old spelling replaced and reported."""
    words = list(argv)
    for count in (1, 2):
        old = " ".join(words[:count])
        if old in COMMANDS:
            _report(old, COMMANDS[old])
            words[:count] = COMMANDS[old].split()
            break
    return [*words[:1], *_flags(words[1:], FLAGS.get(words[0], {}) if words else {})]


def _flags(words: Sequence[str], renamed: Mapping[str, str]) -> Iterator[str]:
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        key, equals, text = word.partition("=")
        new = renamed.get(key.replace("_", "-")) if word.startswith("--") else None
        if new is None:
            yield word
            continue
        _report(key, f"{new}=")
        *switches, last = new.split()
        yield from (*switches, f"{last}{equals}{text}")


def _report(old: str, new: str) -> None:
    print(f"toolchain: '{old}' is now '{new}'; the old spelling will not work in the next release", file=sys.stderr)
