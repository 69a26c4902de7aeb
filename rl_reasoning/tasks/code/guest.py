"""What runs inside the jail, with the standard library alone: runs programs and calls their functions on request.

Requests and replies are JSON, one a line, over what were standard input and output. Each request runs in a fork, so
that one test cannot leave anything to the next but files. Every reply is a claim of the program under test, no more:
a program that forges one says only what it could have said by computing, and whoever asked compares values outside.

    {"program": text}                   writes the file that the other requests run; no reply
    {"run": stdin, "cpu": s}            runs it as a script -> {"stdout", "code", "cpu", "error"}
    {"serve": {}, "cpu": s}             imports it -> {"ready": true}, then answers
        {"call": name, "args", "kwargs"}    -> {"value", "args"} or {"raised", "message"}; values are `encode`d
        {"stop": true}                  -> {"ended": ..., "cpu"}
    {"judge": test, "setup": text, "names": [...], "cpu": s}
                                        runs a test whose functions are elsewhere: emits {"call": ...} and reads the
                                        answers of "serve", then -> {"passed": bool, "why"} and {"ended": ..., "cpu"}
"""

import builtins
import functools
import importlib.util
import json
import os
import random
import resource
import runpy
import select
import signal
import sys
import traceback

LONGEST_OUTPUT = 1 << 16
PROGRAM, TEST = "solution.py", "test.py"


def serve(cpu, refuse_processes):
    """Answers requests on what is descriptor 0, with replies on 1, until the other side closes.

    Args:
      cpu: processor seconds that no program may exceed in one request.
      refuse_processes: called in each fork, before the program: it may start threads and no processes.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for line in requests:
        request = json.loads(line)
        if "program" in request:
            with open(PROGRAM, "w", encoding="utf-8", errors="replace") as file:
                file.write(request["program"])
            continue
        limit = min(cpu, request["cpu"])
        if "run" in request:
            say(replies, run(request["run"], limit, refuse_processes))
        else:
            body = judge if "judge" in request else answer_calls
            pid = fork(limit, refuse_processes, functools.partial(body, request, requests, replies))
            _, status, usage = os.wait4(pid, 0)
            say(replies, {"ended": os.waitstatus_to_exitcode(status), "cpu": usage.ru_utime + usage.ru_stime})


def say(descriptor, reply):
    """Writes one reply."""
    data = json.dumps(reply).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data):]


def fork(cpu, refuse_processes, body):
    """A child with a limit of processor time that does `body` and ends."""
    pid = os.fork()
    if pid:
        return pid
    refuse_processes()
    seconds = max(1, int(cpu + 0.999))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    random.seed(0)
    code = 1
    try:
        body()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        sys.stderr.write("".join(traceback.format_exception_only(error)))
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 255)


def run(stdin, cpu, refuse_processes):
    """Runs the program as a script and collects what it prints, up to `LONGEST_OUTPUT` bytes."""
    source = os.fdopen(os.memfd_create("stdin"), "wb+")
    source.write(stdin.encode(errors="replace"))
    source.seek(0)
    output, error = os.pipe(), os.pipe()

    def body():
        os.dup2(source.fileno(), 0)
        os.dup2(output[1], 1)
        os.dup2(error[1], 2)
        os.closerange(3, 64)
        sys.argv = [PROGRAM]
        runpy.run_path(PROGRAM, run_name="__main__")

    pid = fork(cpu, refuse_processes, body)
    source.close()
    os.close(output[1])
    os.close(error[1])
    printed, complaint = collect(output[0], error[0])
    if len(printed) > LONGEST_OUTPUT:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    lines = complaint.decode(errors="replace").strip().splitlines()
    return {"stdout": printed.decode(errors="replace"), "code": os.waitstatus_to_exitcode(status),
            "cpu": usage.ru_utime + usage.ru_stime, "error": lines[-1][:200] if lines else ""}


def collect(output, error):
    """What a child prints until it closes both pipes, or prints more than `LONGEST_OUTPUT`; of errors only the end."""
    texts = {output: bytearray(), error: bytearray()}
    watched = [output, error]
    while watched and len(texts[output]) <= LONGEST_OUTPUT:
        ready, _, _ = select.select(watched, [], [])
        for descriptor in ready:
            part = os.read(descriptor, 1 << 16)
            texts[descriptor] += part
            if not part:
                watched.remove(descriptor)
        del texts[error][:-4096]
    os.close(output)
    os.close(error)
    return texts[output], texts[error]


def answer_calls(request, requests, replies):
    """Imports the program and calls its functions as asked."""
    specification = importlib.util.spec_from_file_location("solution", PROGRAM)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except BaseException as error:
        say(replies, raised(error))
        return
    say(replies, {"ready": True})
    while "stop" not in (call := json.loads(requests.readline())):
        say(replies, answer(module, call))


def answer(module, call):
    """One call's value, and its arguments afterwards, since a function may change them in place."""
    try:
        arguments, named = decode(call["args"]), decode(call["kwargs"])
        value = getattr(module, call["call"])(*arguments, **named)
        return {"value": encode(value), "args": encode(arguments)}
    except BaseException as error:
        return raised(error)


def raised(error):
    """An exception as a reply."""
    return {"raised": type(error).__name__, "message": str(error)[:200]}


def judge(request, requests, replies):
    """Runs a test's text; names in `names` are functions that the other side answers for."""
    with open(TEST, "w", encoding="utf-8") as file:
        file.write(request["setup"] + "\n" + request["judge"] + "\n")

    def proxy(name):
        def function(*arguments, **named):
            try:
                call = {"call": name, "args": encode(list(arguments)), "kwargs": encode(named)}
            except TypeError as error:
                say(replies, {"fault": f"the test passes what cannot be passed on: {error}"})
                raise
            say(replies, call)
            return take(json.loads(requests.readline()), arguments)
        return function

    try:
        runpy.run_path(TEST, init_globals={name: proxy(name) for name in request["names"]}, run_name="test")
    except Exception as error:
        say(replies, {"passed": False, "why": "".join(traceback.format_exception_only(error))[:200].strip()})
        return
    say(replies, {"passed": True, "why": ""})


def take(reply, arguments):
    """The value of a call; changes lists, sets and dicts among the arguments as the function did."""
    if "raised" in reply:
        kind = getattr(builtins, str(reply["raised"]), None)
        if not isinstance(kind, type) or not issubclass(kind, Exception) or kind is UnicodeDecodeError:
            kind = RuntimeError
        raise kind(reply["message"])
    value, after = decode(reply["value"]), decode(reply["args"])
    for old, new in zip(arguments, after, strict=True):
        if type(old) is type(new) and isinstance(old, list):
            old[:] = new
        elif type(old) is type(new) and isinstance(old, dict | set):
            old.clear()
            old.update(new)
    return value


def encode(value):
    """A plain value as JSON. Raises TypeError for anything else: only values leave a process, never objects."""
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, bytes | bytearray):
        return [type(value).__name__, list(value)]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in value.items()]]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if hasattr(value, "__next__"):
        return ["iter", [encode(item) for _, item in zip(range(LONGEST_OUTPUT), value, strict=False)]]
    raise TypeError(f"a value of type {type(value).__name__} cannot be compared")


def decode(value):
    """The value behind `encode`'s JSON."""
    if not isinstance(value, list):
        return value
    kind, parts = value
    if kind in ("complex", "range"):
        return {"complex": complex, "range": range}[kind](*parts)
    if kind in ("bytes", "bytearray"):
        return {"bytes": bytes, "bytearray": bytearray}[kind](parts)
    if kind == "dict":
        return {decode(key): decode(item) for key, item in parts}
    items = [decode(item) for item in parts]
    makers = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return iter(items) if kind == "iter" else makers[kind](items)
