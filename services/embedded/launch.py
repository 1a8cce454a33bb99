"""Runs first in a server process: give up root's rights, ask to end with the parent, become the server.

Run by its path, `python -I -S launch.py TERMS COMMAND...`, and never imported. Doing the same in `preexec_fn` would run
Python between fork and exec of a process with many threads, where it can deadlock (and warns from Python 3.12 on).
TERMS is the JSON that `Child` of child.py writes: parent, death_signal, in_turn, user (or null),
may_enter_hidden_folders.
"""

import contextlib
import ctypes
import json
import os
import sys

CAP_DAC_OVERRIDE = 1  # linux/capability.h
CAPABILITY_VERSION_3 = 0x20080522
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2


def prctl(libc: ctypes.CDLL, *arguments: int) -> None:
    if libc.prctl(*(ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:5])) != 0:
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


def enter_hidden_folders(libc: ctypes.CDLL) -> None:
    """Keep only one capability of root through the exec: to enter folders such as a 0700 /root."""
    mask = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; low words, high words
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    prctl(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def wait_for_turns() -> None:
    """The same as `services.scheduling.in_turn`, which cannot be imported here."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main() -> None:
    terms, command = json.loads(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    try:
        if terms["user"] is not None:
            uid, gid = terms["user"]
            if libc is not None and terms["may_enter_hidden_folders"]:
                prctl(libc, PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            if libc is not None and terms["may_enter_hidden_folders"]:
                enter_hidden_folders(libc)
        if libc is not None:
            # After setuid, which clears it. The next line detects a parent that died before this one.
            prctl(libc, PR_SET_PDEATHSIG, terms["death_signal"])
            if os.getppid() != terms["parent"]:
                sys.exit("the parent is gone already")
        if terms["in_turn"]:
            wait_for_turns()
        os.execv(command[0], command)  # noqa: S606 — no shell, and the command is ours
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error}")


if __name__ == "__main__":
    main()
