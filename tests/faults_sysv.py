"""Faults in the administration of System V objects; mutants.py adds them to those of faults.py."""

from __future__ import annotations

from faults import Mutant, one

LIST, ON_EXIT, SYSV = "csrc/sysvlist.c", "memfast/onexit.py", "memfast/sysv.py"
REMOVE = "tests/unit/test_sysv_remove.py::test_"
LEFT_ALONE = f"{REMOVE}what_changed_between_choice_and_removal_is_left_alone"
EXIT = "tests/ipc/test_remove_on_exit.py::test_"

MUTANTS = (
    Mutant(
        "an id that names another object by now is removed",
        LIST,
        one("return id == seen->id && ", "return "),
        LEFT_ALONE,
    ),
    Mutant(
        "a segment that has another owner by now is removed",
        LIST,
        one("(int64_t)now->uid == seen->uid && ", ""),
        LEFT_ALONE,
    ),
    Mutant(
        "an orphan that somebody has attached meanwhile is removed",
        LIST,
        one("seen->only_unused && status.shm_nattch != 0", "0"),
        LEFT_ALONE,
    ),
    Mutant(
        "a creator of another pid namespace counts as dead",
        LIST,
        one(
            "mf_process_exists(creator_pid) == 0",
            "(creator_pid == 0 || mf_process_exists(creator_pid) == 0)",
        ),
        f"{REMOVE}a_creator_of_another_pid_namespace_is_unknown",
    ),
    Mutant(
        "the owner is not asked about",
        SYSV,
        one("lambda one: one.uid == uid", "lambda one: True"),
        f"{REMOVE}each_choice_removes_what_it_says",
    ),
    Mutant(
        "a process of another IPC namespace is taken for a user",
        SYSV,
        one(' or os.stat(f"/proc/{pid}/ns/ipc").st_ino != here', ""),
        "tests/unit/test_sysv_list.py::test_another_ipc_namespace_s_processes_are_not_users",
    ),
    Mutant(
        "a fork removes what its parent asked for",
        ON_EXIT,
        one("        if pid != os.getpid():\n", "        if pid == 0:\n"),
        f"{EXIT}a_fork_removes_nothing",
    ),
    Mutant(
        "a signal removes and does not kill",
        ON_EXIT,
        one("        os.kill(os.getpid(), number)\n", ""),
        f"{EXIT}the_handler_that_was_there_is_called",
    ),
    Mutant(
        "nobody is asked",
        "memfast/cli/ipcrm.py",
        one("    if not yes:\n", "    if False:\n"),
        "tests/unit/test_cli_ipcrm.py::test_without_a_terminal_it_does_not_go_beyond_what_was_typed",
    ),
    Mutant(
        "a file of a limit that the kernel refused stays",
        "memfast/sysctl.py",
        one(
            "path)\n    except BaseException:\n        os.unlink(staged)\n",
            "path)\n    except BaseException:\n",
        ),
        "tests/unit/test_sysv_limits.py::test_if_the_kernel_refuses_no_file_is_written",
    ),
)
