"""What a README holds for a machine to check: the commands of its ```sh blocks, and the file tree.

The tree is the fenced block with a line that begins with `toolchain/`: a path a line (or several, with a space
between), indented by its depth, then two spaces or more and what it is for. Lines of box-drawing are read too.
"""

import re
import shlex

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"^[\w.*{}-]+(/[\w.*{}-]+)*/?$")


def commands(text: str) -> list[list[str]]:
    """The simple commands of the sh blocks' lines that name toolchain or make, as words.

    Prompts, comments, pipes and redirections are left out.
    """
    found = []
    for language, block in FENCE.findall(text):
        if language in ("sh", "bash", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                # others (a curl with JSON over several lines) may be no whole command by themselves
                if re.search(r"\b(toolchain|make)\b", line):
                    found += _simple(line.strip().removeprefix("$ "))
    return found


def shell_lines(text: str) -> list[list[str]]:
    """Every simple command of the sh blocks, whatever it names."""
    blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
    return [words for block in blocks for line in block.splitlines() for words in _simple(line)]


def inline_commands(text: str) -> list[list[str]]:
    """`make x` and `toolchain x` in running text and tables; not those with a placeholder (`…`)."""
    outside = FENCE.sub("", text)
    found = re.findall(r"`((?:[A-Z]+=\S+ )?(?:make|toolchain) [^`…]+)`", outside)
    return [_after_settings(shlex.split(words)) for words in found]


def _after_settings(words: list[str]) -> list[str]:
    """`QUICK=1 make x` as `make x QUICK=1`, which is the same."""
    settings = [word for word in words[:1] if "=" in word]
    return words[len(settings) :] + settings


def _simple(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "…:@%+,^"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            parts.append([])
        else:
            parts[-1].append(word)
    # what follows a `|` or a `>` is no command of ours and is passed over by its name
    return [words for words in parts if words]


def tree(text: str) -> list[str] | None:
    """Every path of the file tree, from the root (`deploy/runtime/`); None when the README has none."""
    for _, block in FENCE.findall(text):
        if re.search(r"^toolchain/", block, re.MULTILINE):
            return _entries(block)
    return None


def _entries(block: str) -> list[str]:
    found: list[str] = []
    above = [(-1, "")]
    for line in block.splitlines():
        bare = re.sub(r"[│├└─]", " ", line)
        if not bare.strip():
            continue
        depth = len(bare) - len(bare.lstrip())
        while above[-1][0] >= depth:
            above.pop()
        names = _names(bare.strip())
        found += [above[-1][1] + name for name in names]
        if len(names) == 1 and names[0].endswith("/"):
            above.append((depth, above[-1][1] + names[0]))
    return found


def _names(line: str) -> list[str]:
    """`http.py  grpc.py   thin skins` -> two names: the words before the description, which is no path."""
    names: list[str] = []
    for column in re.split(r"\s{2,}", line):
        words = column.replace(",", " ").split()
        if names and not all(PATH.match(word) and re.search(r"[./]|^[A-Z]\w+file$", word) for word in words):
            break
        names += words
    return names
