"""Confinement of this process on Linux: what it and all that it runs cannot do any more.

Three mechanisms, none of which takes a privilege: limits of the kernel on resources, Landlock (Linux 5.13 and later) on
files, and a seccomp filter on everything that reaches beyond the process. Imported by path in the sandbox: only the
standard library, and nothing of quantexp.

Sources: man pages landlock(7), seccomp(2), prctl(2), setrlimit(2); system call numbers from the kernel's unistd.h.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LIMITS, FILES, CALLS = "limits", "Landlock", "seccomp"
"""Names of the mechanisms."""


def confine(scratch: Path, limits: Mapping[str, int]) -> list[str]:
    """Confine this process, as far as the system lets it.

    Args:
        scratch: the folder that it may write in.
        limits: by names of `resource`, such as RLIMIT_CPU.

    Returns:
        The mechanisms that hold from now on.
    """
    mechanisms: dict[str, Callable[[], bool]] = {LIMITS: lambda: _limit(limits)}
    if sys.platform == "linux":
        mechanisms |= {FILES: lambda: _restrict_files(scratch), CALLS: _filter_calls}
        _prctl(_PDEATHSIG, _SIGKILL)
        _prctl(_DUMPABLE, 0)
        _prctl(_NO_NEW_PRIVS, 1)
    return [name for name, apply in mechanisms.items() if apply()]


def _limit(limits: Mapping[str, int]) -> bool:
    held = True
    for name, most in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        # A second later what ignores the signal of RLIMIT_CPU is killed.
        wanted = most + (name == "RLIMIT_CPU")
        try:
            resource.setrlimit(kind, (most, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)))
        except (ValueError, OSError):
            held = held and name != "RLIMIT_CPU" and hard != resource.RLIM_INFINITY
    return held


_libc = ctypes.CDLL(None, use_errno=True)

_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38
_SIGKILL = 9


def _prctl(option: int, *arguments: int) -> bool:
    given = [ctypes.c_ulong(each) for each in (*arguments, *(0,) * (4 - len(arguments)))]
    return bool(_libc.prctl(option, *given) == 0)


def _call(number: int, *arguments: object) -> int:
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


# Files

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in (1, 2, 3, 4, 5))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = (1 << bit for bit in (7, 8, 13, 14))
_ALL_OF_FILES = (13, 14, 15, 15, 16)
"""Number of rights on files that version 1, 2, ... of Landlock knows."""

_OWN = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
"""Rights in the scratch folder: no devices, sockets, pipes, links or programs."""


def _restrict_files(scratch: Path) -> bool:
    version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    handled = (1 << _ALL_OF_FILES[min(version, len(_ALL_OF_FILES)) - 1]) - 1
    # TCP from version 4 on; signals and abstract sockets from version 6 on.
    fields = [handled, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        rules = [*_list_readable(), (scratch, _OWN)]
        allowed = [_allow(ruleset, path, rights & handled) for path, rights in rules]
        return allowed[-1] and _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        return _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)) == 0
    finally:
        os.close(descriptor)


def _list_readable() -> Iterator[tuple[Path, int]]:
    """Yield what Python needs: its standard library without packages that are installed in it, and system libraries."""
    standard = Path(os.__file__).parent
    yield standard, _READ_DIR
    with os.scandir(standard) as entries:
        for entry in entries:
            if entry.name not in {"site-packages", "dist-packages"}:
                yield Path(entry.path), _READ_FILE
    given = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for folder in {*("/lib", "/lib64", "/usr/lib", "/usr/lib64"), f"{sys.base_prefix}/lib", *filter(None, given)}:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if ".so" in entry.name or "-linux-" in entry.name:
                    yield Path(entry.path), _READ_FILE
    yield Path("/etc/ld.so.cache"), _READ_FILE
    yield Path("/dev/urandom"), _READ_FILE
    yield Path("/dev/null"), _READ_FILE | _WRITE_FILE


# System calls

_X86, _ARM = "x86_64", "aarch64"
_ARCHITECTURES = {_X86: 0xC000003E, _ARM: 0xC00000B7}

_NEWEST = 462
"""System calls after this one are not known here, and refused as if the kernel did not know them either."""

_X32 = 0x40000000
"""Bit in the numbers of a second set of system calls of x86_64."""

_REFUSED: Mapping[str, Sequence[int | None]] = {
    # the network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # processes: none is begun, and no other is touched
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "kill": (62, 129),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "ptrace": (101, 117),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "setpgid": (109, 154), "setsid": (112, 157), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # limits and privileges
    "setrlimit": (160, 164), "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145),
    "setregid": (114, 143), "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159),
    "setfsuid": (122, 151), "setfsgid": (123, 152), "capset": (126, 91), "personality": (135, 92),
    # memory and queues that belong to no process, so that no limit counts them
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180),
    # what Landlock does not cover, or only in later versions
    "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "inotify_init": (253, None), "inotify_init1": (294, 26),
    # the system: namespaces, mounts, keys, modules, clocks, and large parts of the kernel that nothing here needs
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "adjtimex": (159, 171),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "mknod": (133, None), "mknodat": (259, 33),
    "io_setup": (206, 0), "seccomp": (317, 277),
}  # fmt: skip
"""System calls that fail, with their numbers on x86_64 and on aarch64."""

_CLONE, _CLONE3, _PRLIMIT, _TGKILL, _FCNTL, _IOCTL = (56, 220), (435, 435), (302, 261), (234, 131), (72, 25), (16, 29)
_SOCKETPAIR = 53, 199
_EPERM, _ENOSYS = 1, 38
_THREAD = 0x00010000
_OWNERS = (8, 15)
"""Commands of fcntl that have signals sent to a process of one's choice."""

_TERMINALS = (0x8901, 0x8902, 0x5412, 0x541C)
"""Requests of ioctl that do the same, or that type on a terminal."""

_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_Step = tuple[int, int, int, int]
"""An instruction of a filter: operation, value, steps to skip if it is so, and if not."""


def _filter_calls() -> bool:
    machine = platform.machine()
    if machine not in _ARCHITECTURES or sys.byteorder != "little":
        return False
    _drop_capabilities(machine)
    steps = _list_steps(machine, os.getpid())
    packed = b"".join(struct.pack("=HBBI", code, yes, no, value) for code, value, yes, no in steps)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = struct.pack("@HP", len(steps), ctypes.addressof(buffer))
    return bool(_libc.prctl(_SECCOMP, ctypes.c_ulong(2), program, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0)


def _drop_capabilities(machine: str) -> None:
    """Give up what root may do; anyone else has nothing to give up."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _call(_REFUSED["capset"][machine == _ARM] or 0, header, bytes(24))


def _list_steps(machine: str, process: int) -> list[_Step]:
    """List the filter's instructions; each part ends in a verdict, or passes its call on to the next part."""
    place = machine == _ARM
    steps: list[_Step] = [
        (_LOAD, _ARCHITECTURE, 0, 0),
        (_EQUAL, _ARCHITECTURES[machine], 1, 0),
        (_RETURN, _KILL, 0, 0),
        (_LOAD, _NUMBER, 0, 0),
    ]
    if machine == _X86:
        steps += [(_AT_LEAST, _X32, 0, 1), (_RETURN, _FAIL | _EPERM, 0, 0)]
    steps += [(_AT_LEAST, _NEWEST + 1, 0, 1), (_RETURN, _FAIL | _ENOSYS, 0, 0)]
    for numbers in _REFUSED.values():
        if (number := numbers[place]) is not None:
            steps += [(_EQUAL, number, 0, 1), (_RETURN, _FAIL | _EPERM, 0, 0)]
    allow, refuse = (_RETURN, _ALLOW, 0, 0), (_RETURN, _FAIL | _EPERM, 0, 0)
    parts: list[tuple[int, list[_Step]]] = [
        (_CLONE3[place], [(_RETURN, _FAIL | _ENOSYS, 0, 0)]),  # its arguments cannot be read: clone, which follows, can
        (_CLONE[place], [_argument(0), (_ANY_BIT, _THREAD, 0, 1), allow, refuse]),
        # Two ends of one stream, which asyncio needs; datagrams can be sent to any socket.
        (_SOCKETPAIR[place], [_argument(1), (_AND, 0xF, 0, 0), (_EQUAL, 1, 1, 0), refuse, *_demand(0, 1), allow]),
        (_PRLIMIT[place], [*_demand(0, 0), *_demand(2, 0), *_demand(2, 0, high=True), allow]),  # only to ask
        (_TGKILL[place], [*_demand(0, process), _argument(2), (_EQUAL, _SIGKILL, 0, 1), refuse, allow]),
        (_FCNTL[place], [_argument(1), *_refuse_values(_OWNERS), allow]),
        (_IOCTL[place], [_argument(1), *_refuse_values(_TERMINALS), allow]),
    ]
    for number, part in parts:
        steps += [(_EQUAL, number, 0, len(part)), *part]
    return [*steps, allow]


def _argument(place: int, high: bool = False) -> _Step:
    return _LOAD, _ARGUMENTS + 8 * place + 4 * high, 0, 0


def _demand(place: int, value: int, high: bool = False) -> list[_Step]:
    return [_argument(place, high), (_EQUAL, value, 1, 0), (_RETURN, _FAIL | _EPERM, 0, 0)]


def _refuse_values(values: Sequence[int]) -> list[_Step]:
    return [step for value in values for step in ((_EQUAL, value, 0, 1), (_RETURN, _FAIL | _EPERM, 0, 0))]
