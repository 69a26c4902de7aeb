"""The program in an answer: the last fenced block of Python after the thinking."""

PYTHON = frozenset(("", "python", "python3", "py"))


def program_of(text: str) -> str | None:
    """The last closed fenced block of Python after the last </think>; None when there is none.

    A text that opens <think> and never closes it was cut off in the middle of its thoughts: None. Linear in the text.
    """
    rest = text.rpartition("</think>")[2]
    if "<think>" in rest:
        return None
    block: list[str] | None = None
    program = None
    for line in rest.splitlines():
        mark = line.strip()
        if block is None and mark.startswith("```"):
            block, language = [], mark[3:].strip().lower()
        elif block is not None and mark == "```":
            program = "\n".join(block) + "\n" if language in PYTHON else program
            block = None
        elif block is not None:
            block.append(line)
    return program if program and program.strip() else None
