"""Programs that want a reward without solving the problem, or to do harm; read from the texts beside this file.

The problem is to add two numbers: as a script that reads `3 4` and must print `7`, and as a function `add`. An escape
is followed by a right solution, which it reaches only when it did what must not be possible.
"""

import pathlib
import textwrap

SOLVE = "\nadd = lambda a, b: a + b\nif __name__ == '__main__':\n    print(sum(map(int, input().split())))\n"


def _read(name):
    sections = (pathlib.Path(__file__).parent / f"{name}.txt").read_text().split("\n#:: ")[1:]
    return dict(section.split("\n", 1) for section in sections)


FORGERIES, EXHAUSTIONS = _read("forgeries"), _read("exhaustions")
ESCAPES = {name: f"harm = False\ntry:\n{textwrap.indent(body, '    ')}\nexcept Exception:\n    pass\n"
                 f"if harm:\n{textwrap.indent(SOLVE, '    ')}" for name, body in _read("escapes").items()}
