"""Shuts processes in and lets them run programs: a script, with the standard library alone.

    python -s -S -P -B jail.py, with a Unix socket as standard input

Each packet on the socket asks for a sandbox: {"level", "cpu", "memory", "scratch"} with three descriptors, for
requests, for replies, and one that is closed when all of the sandbox is gone. A fork serves it, so a sandbox starts in
milliseconds. It is two processes: a keeper outside, which waits and cleans up, and the guest inside (`guest.py`),
which first loses what it could do harm with: its file system, network, other processes, privileges and dangerous
system calls, as far as the level says. A step that fails ends the guest before it has read a byte: one line
{"fault": ...} says why.

Nothing that decides a verdict is ever in here: no expected output, no test's text beside the program under test.
"""

import ctypes
import json
import os
import platform
import resource
import runpy
import signal
import socket
import struct

PARENT_DEATH_SIGNAL, DUMPABLE, SECCOMP, CHILD_SUBREAPER, NO_NEW_PRIVS = 1, 4, 22, 36, 38  # prctl(2)
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)  # unshare(2)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18  # mount(2)
DETACH = 2  # umount2(2)
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same numbers on every architecture

# seccomp(2). For each architecture its audit number, clone, clone3, what starts a process, and what nobody may call:
# socket ptrace process_vm_readv process_vm_writev mount umount2 unshare setns pivot_root bpf perf_event_open
# userfaultfd io_uring_setup keyctl add_key request_key kexec_load open_by_handle_at pidfd_getfd
ARCHITECTURES = {
    "x86_64": (0xC000003E, 56, 435, (57, 58), (41, 101, 310, 311, 165, 166, 272, 308, 155, 321, 298, 323, 425, 250, 248,
                                             249, 246, 304, 438)),
    "aarch64": (0xC00000B7, 220, 435, (), (198, 117, 270, 271, 40, 39, 97, 268, 41, 280, 241, 282, 425, 219, 217, 218,
                                         104, 265, 438)),
}
LOAD, EQUAL, AT_LEAST, SOME_BITS, END = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of its filters
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NEW_THREAD = 0x00010000  # of clone(2)
EPERM, ENOSYS = 1, 38
SCRATCH_MIB, OPEN_FILES, PROCESSES = 16, 64, 16
FIRST_USER = 200_000  # root turns into one user a sandbox, so that one cannot touch or crowd out another

_libc = ctypes.CDLL(None, use_errno=True)


def system(name, *arguments):
    """Calls a C function that returns -1 on failure. Raises OSError."""
    result = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def main():
    """Forks a keeper for each packet and answers with its process id, until the other side closes or dies."""
    guest = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py"))
    control = socket.socket(fileno=os.dup(0))
    system("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 3)
        if not packet:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            for own, descriptor in enumerate(descriptors[:2]):
                os.dup2(descriptor, own)
                os.close(descriptor)
            os._exit(open_sandbox(json.loads(packet), guest["serve"]))
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())


def open_sandbox(limits, serve):
    """Keeper and guest; the exit code says nothing that anyone relies on."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    system("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    system("prctl", CHILD_SUBREAPER, 1, 0, 0, 0)
    level = limits["level"]
    uid = other_user(level, FIRST_USER + os.getpid() % 100_000)
    try:
        if level == "namespace" and leave_namespaces(alone=uid is None):
            uid = None
        processes = 0 if level == "namespace" or uid else processes_of_user()
        pid = os.fork()
        if pid:
            return keep(pid)
        shut_in(level, limits, uid, processes)
    except OSError as error:
        fault = json.dumps({"fault": f"isolation {level}: {error}"})
        os.write(1, fault.encode() + b"\n")
        return 1
    serve(limits["cpu"], refuse_processes)
    return 0


def keep(guest):
    """Waits for the guest, then kills whatever is left of it. SIGTERM ends the guest at once."""
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(guest, signal.SIGKILL))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    while os.wait()[0] != guest:
        pass  # a stray that ended by itself
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    me = os.getpid()
    while strays := read(f"/proc/{me}/task/{me}/children").split():
        for pid in map(int, strays):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return 0


def other_user(level, uid):
    """The user that root turns into, one that owns nothing; None where this process has to stay who it is.

    That is so without privileges, in a container that knows no such user, and where that user could not read
    Python's own library, unless the library is shown at another root.
    """
    if os.geteuid() != 0:
        return None
    ranges = [map(int, line.split()) for line in read("/proc/self/uid_map").splitlines()]
    known = any(first <= uid < first + count for first, _, count in ranges)
    path, readable = os.path.dirname(os.__file__), True
    while path != "/":
        readable, path = readable and bool(os.stat(path).st_mode & 1), os.path.dirname(path)
    return uid if known and (readable or level == "namespace") else None


def leave_namespaces(alone):
    """New mount, process, network, IPC and host name spaces; `alone` or without privileges a new user name space.

    Returns whether it is a new user name space, in which there is one user and no other to turn into.
    """
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    if not alone:
        try:
            system("unshare", flags)
            return False
        except PermissionError:
            flags |= NEWUSER  # root of a container, which is less than root
    uid, gid = os.getuid(), os.getgid()
    system("unshare", flags | NEWUSER)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{uid} {uid} 1")
    write("/proc/self/gid_map", f"{gid} {gid} 1")
    return True


def shut_in(level, limits, uid, processes):
    """Everything that the guest loses, in an order in which each step can still be done. Raises OSError."""
    visible = [os.path.dirname(os.__file__), *filter(os.path.isdir, ("/lib", "/lib64", "/usr/lib", "/usr/lib64"))]
    if level == "namespace":
        change_root(visible)
    os.chdir("/scratch" if level == "namespace" else limits["scratch"])
    if level == "landlock":
        restrict_files(visible, limits["scratch"])
    for name, value in (("AS", limits["memory"]), ("NOFILE", OPEN_FILES), ("FSIZE", SCRATCH_MIB << 20), ("CORE", 0),
                        ("NPROC", processes + PROCESSES)):
        kind = getattr(resource, f"RLIMIT_{name}")
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
    drop_privileges(uid)
    system("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    refuse_calls()


def change_root(visible):
    """A root of memory: the given folders read-only at their places, an empty /scratch, /dev/null, and nothing else."""
    system("mount", None, b"/", None, REC | PRIVATE, None)
    descriptors = [(path, os.open(path, os.O_PATH)) for path in visible]
    null = os.open(os.devnull, os.O_PATH)
    sources = [(path, f"/proc/self/fd/{fd}") for path, fd in descriptors]
    staged = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"  # any folder will do
    system("mount", b"tmpfs", staged.encode(), b"tmpfs", NOSUID | NODEV, b"size=1m,mode=755")
    for path, source in sources:
        if not os.path.islink(path):
            bind(source, staged + path)
        else:
            os.makedirs(os.path.dirname(staged + path), exist_ok=True)
            os.symlink(os.readlink(path), staged + path)
    os.makedirs(staged + "/scratch")
    system("mount", b"tmpfs", (staged + "/scratch").encode(), b"tmpfs", NOSUID | NODEV | NOEXEC,
           f"size={SCRATCH_MIB}m,nr_inodes=1024,mode=1777".encode())
    os.makedirs(staged + "/dev")
    open(staged + "/dev/null", "w").close()
    system("mount", f"/proc/self/fd/{null}".encode(), (staged + "/dev/null").encode(), None, BIND, None)
    for _, descriptor in [*descriptors, (None, null)]:
        os.close(descriptor)
    os.chdir(staged)
    system("pivot_root", b".", b".")
    system("umount2", b".", DETACH)
    system("mount", None, b"/", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV, None)


def bind(source, target):
    """Shows a folder read-only at another place."""
    os.makedirs(target, exist_ok=True)
    system("mount", source.encode(), target.encode(), None, BIND | REC, None)
    kept = os.statvfs(target).f_flag
    # A flag that the original has may not be dropped inside a user name space; 4096 of statvfs is mount's 1 << 21.
    flags = kept & (NOEXEC | 1024 | 2048) | (1 << 21 if kept & 4096 else 0)
    system("mount", None, target.encode(), None, REMOUNT | BIND | RDONLY | NOSUID | NODEV | flags, None)


def restrict_files(visible, scratch):
    """Landlock: reading below `visible`, everything below `scratch`, no TCP, no signals to the outside."""
    version = system("syscall", LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    everything = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    ruleset = struct.pack("QQQ", everything, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    handle = system("syscall", LANDLOCK_CREATE, ruleset, ctypes.c_size_t(size), 0)
    # Bits: execute 1, write a file 2, read a file 4, read a folder 8.
    for path, access in [*((path, 0b1101) for path in visible), (os.devnull, 0b0110), (scratch, everything)]:
        folder = os.open(path, os.O_PATH)
        system("syscall", LANDLOCK_ADD, handle, 1, struct.pack("=Qi", access & everything, folder), 0)
        os.close(folder)
    system("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    system("syscall", LANDLOCK_RESTRICT, handle, 0)
    os.close(handle)


def drop_privileges(uid):
    """No capability is left, nor can one come back; root becomes the user `uid`."""
    if uid is not None:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except PermissionError as error:
            raise OSError(error.errno, f"cannot become user {uid}: {error}") from error
        system("prctl", DUMPABLE, 1, 0, 0, 0)
    system("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6))
    system("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)


def refuse_calls():
    """Calls that reach the network, other processes or the kernel's insides fail from here on. Raises OSError."""
    audit, clone, clone3, _, refused = architecture()
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (END, 0, 0, KILL), (LOAD, 0, 0, 0)]
    steps += [(AT_LEAST, 0, 1, 0x40000000), (END, 0, 0, KILL)]  # the x32 calls of x86_64
    steps += [step for number in refused for step in ((EQUAL, 0, 1, number), (END, 0, 0, ERRNO | EPERM))]
    steps += [(EQUAL, 0, 1, clone3), (END, 0, 0, ERRNO | ENOSYS)]  # libc then uses clone, whose flags can be read
    steps += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (SOME_BITS, 0, 1, NEWUSER), (END, 0, 0, ERRNO | EPERM)]
    add_filter(steps)


def refuse_processes():
    """Starting a process fails from here on, threads can be started; ends with its parent. Raises OSError."""
    system("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _, clone, _, starters, _ = architecture()
    steps = [(LOAD, 0, 0, 0)]
    steps += [step for number in starters for step in ((EQUAL, 0, 1, number), (END, 0, 0, ERRNO | EPERM))]
    steps += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (SOME_BITS, 1, 0, NEW_THREAD), (END, 0, 0, ERRNO | EPERM)]
    add_filter(steps)


def architecture():
    """The numbers of this machine's system calls. Raises OSError when there is no list of them."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(ENOSYS, f"no list of system calls for {machine}; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[machine]


def add_filter(steps):
    """Adds a seccomp filter that allows what its steps let pass."""
    steps = [*steps, (END, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    system("prctl", SECCOMP, 2, struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)), 0, 0)


def processes_of_user():
    """Processes and threads that this user has already, which count against its limit."""
    mine = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            mine += len(os.listdir(f"/proc/{name}/task")) if os.stat(f"/proc/{name}").st_uid == os.getuid() else 0
        except OSError:
            continue  # it ended meanwhile
    return mine


def read(path):
    """A text file's content."""
    with open(path) as file:
        return file.read()


def write(path, text):
    """Writes a text file in one piece."""
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
