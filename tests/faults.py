"""The faults that mutants.py puts into a copy of the tree, and the test that each must turn red."""

from __future__ import annotations

from typing import NamedTuple

RING, SHARED, ROLE = "csrc/ring.c", "csrc/ring.h", "csrc/role.c"
SENDER, RECEIVER = "csrc/sender.c", "csrc/receiver.c"
WAIT, PROCESS = "csrc/wait.c", "csrc/process.c"
PROCFILE = "csrc/procfile.c"
NAMEDIR, LEFTOVER = "csrc/namedir.c", "csrc/leftover.c"
SYSV, END, LENDING = "csrc/sysv.c", "csrc/fast/end.c", "csrc/fast/lending.c"


class Mutant(NamedTuple):
    """A fault: in this file, each old text, which occurs once, becomes the new one."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    test: str  # "unit|asan|tsan PROGRAM TEST" of tests/csrc/run, or a pytest node
    tries: int = 1  # for a fault that shows only at the right instant


def one(old: str, new: str) -> tuple[tuple[str, str], ...]:
    return ((old, new),)


WAKE_RECEIVER = """\tif (mf_load32_relaxed(&end->shared->receiver_wait.word) == MF_WAIT_ASLEEP)
\t\tmf_wait_wake(&end->shared->receiver_wait);
"""
STORE_CELLS = "\tstore_cells(end, progress, &end->next);\n"
WAKE_SENDER = WAKE_RECEIVER.replace("receiver_wait", "sender_wait")

MUTANTS = (
    # ---- order of stores ----
    Mutant(
        "commit before copy",
        SENDER,
        one(
            "\t\tmemcpy(place, body, body_size);\n\tcommit(end, body_size);\n",
            "\t\tcommit(end, body_size), memcpy(place, body, body_size);\n"
            "\telse\n\t\tcommit(end, body_size);\n",
        ),
        "tsan test_threads smallest",
    ),
    Mutant(
        "receiver's state published before its cells",
        RECEIVER,
        one(
            "\tstore_cells(end, progress, upto);\n\tstore_state(end, progress, upto);\n",
            "\tstore_state(end, progress, upto);\n\tend->cell ^= 1;\n"
            "\tstore_cells(end, progress, upto);\n\tend->cell ^= 1;\n",
        ),
        "unit test_ring_roles whole_after_every",
    ),
    Mutant(
        "sender's state published before its commit",
        SENDER,
        (
            (STORE_CELLS, ""),
            (
                "\t/* The message exists from this store on; before it, nothing happened. */\n",
                STORE_CELLS + STORE_CELLS.replace("cells", "state"),
            ),
            (
                "\tstore_state(end, progress, &end->cursor);\n\tif (end->fenced)",
                "\tif (end->fenced)",
            ),
        ),
        "tests/crash/test_step_kill.py::test_a_sender_killed_anywhere_in_send_leaves_whole_messages",
    ),
    Mutant(
        "commit word not released",
        SENDER,
        one("mf_store_release(&slot->commit,", "mf_store_relaxed(&slot->commit,"),
        "tsan test_threads smallest",
    ),
    Mutant(
        "progress not released",
        SHARED,
        one(
            "mf_store_release(&progress->state, cursor->count << 1",
            "mf_store_relaxed(&progress->state, cursor->count << 1",
        ),
        "tsan test_threads frequent_hand_overs",
    ),
    # ---- sleeping and waking ----
    Mutant(
        "sleeper's membarrier removed",
        WAIT,
        one("\tif (barrier_everywhere() != 0)\n", "\tif (0 && barrier_everywhere() != 0)\n"),
        "unit test_wait no_wakeup_is_lost",
        tries=4,
    ),
    Mutant(
        "sleeper looks before its mark",
        WAIT,
        one("\tif (ready(context) || alarmed(waiter))\n\t\treturn 0;\n", ""),
        "unit test_wait no_wakeup_is_lost",
        tries=4,
    ),
    Mutant(
        "a message wakes nobody",
        SENDER,
        one(WAKE_RECEIVER, ""),
        "unit test_wait message_wakes_receivers",
    ),
    Mutant(
        "room wakes nobody", RECEIVER, one(WAKE_SENDER, ""), "unit test_wait room_wakes_senders"
    ),
    Mutant(
        "wake before commit",
        SENDER,
        (
            (WAKE_RECEIVER, ""),
            (
                STORE_CELLS,
                STORE_CELLS + WAKE_RECEIVER,
            ),
        ),
        "unit test_wait no_wakeup_is_lost_for_messages",
        tries=4,
    ),
    Mutant(
        "close wakes nobody",
        ROLE,
        one("\tmf_fence_full(); /* SYNC sleep */\n\tmf_wait_wake(peer);\n", "\t(void)peer;\n"),
        "unit test_wait close_wakes",
    ),
    Mutant(
        "a dead sleeper is woken for ever",
        WAIT,
        one(
            "mf_swap32_if_acq_rel(&shared->word, MF_WAIT_ASLEEP, MF_WAIT_AWAKE))",
            "mf_swap32_if_acq_rel(&shared->word, MF_WAIT_ASLEEP, MF_WAIT_ASLEEP))",
        ),
        "unit test_wait a_dead_sleeper_costs_one_wakeup",
    ),
    # ---- who lives ----
    Mutant(
        "zombie counted alive",
        PROCESS,
        one(
            "\tclose(item.fd);\n\treturn ready;\n",
            "\tclose(item.fd);\n\treturn 0 * ready;\n",
        ),
        "unit test_process zombie",
    ),
    Mutant(
        "pid namespace ignored",
        PROCESS,
        one(
            "if (space == MF_NAMESPACE_COUNT || space != namespace_index(own))",
            "if (0)",
        ),
        "unit test_process another_pid_namespace",
    ),
    Mutant(
        "unrecorded namespaces taken for one",
        PROCESS,
        one("if (space == MF_NAMESPACE_COUNT || space", "if (space"),
        "unit test_process a_full_table_is_unknown",
    ),
    Mutant(
        "start time ignored",
        PROCESS,
        one("(line.start_ticks ^ claim >> MF_CLAIM_TICKS_SHIFT) << MF_CLAIM_TICKS_SHIFT", "0"),
        "unit test_process a_reused_pid",
    ),
    Mutant(
        "/proc of another namespace trusted",
        PROCESS,
        one(" && line.pid == getpid() &&", " &&"),
        "unit test_process a_foreign_proc",
    ),
    Mutant(
        "two claims of a process are the same word",
        PROCESS,
        one("(number & ((1u << MF_CLAIM_NUMBER_BITS) - 1)) << MF_CLAIM_NUMBER_SHIFT", "0 * number"),
        "unit test_ring_roles a_role_is_handed_on_once",
    ),
    Mutant(
        "fields counted from the first parenthesis",
        PROCESS,
        one("cursor = strrchr(text, ')');", "cursor = strchr(text, ')');"),
        "unit test_process a_name_cannot_pass",
    ),
    Mutant(
        "role stolen from the living",
        ROLE,
        one(
            "mf_process_life(end->claim, owner) != MF_LIFE_DEAD) {",
            "mf_process_life(end->claim, owner) == MF_LIFE_UNKNOWN) {",
        ),
        "unit test_ring_roles a_live_owner_is_not_robbed",
    ),
    Mutant(
        "unknown counted dead",
        ROLE,
        one(
            "mf_process_life(end->claim, owner) != MF_LIFE_DEAD) {",
            "mf_process_life(end->claim, owner) == MF_LIFE_ALIVE) {",
        ),
        "unit test_ring_roles any_word_in_a_role",
    ),
    Mutant(
        "who handed a role on still closes it",
        ROLE,
        one(
            "return mf_swap_if_acq_rel(role, end->claim, word); /* SYNC role */",
            "mf_store_release(role, word);\n\treturn 1;",
        ),
        "unit test_ring_roles a_role_is_handed_on",
    ),
    Mutant(
        "zombie not told by its letter where pidfds are forbidden",
        PROCESS,
        one("gone < 0 && line.state == 'Z' && line.threads <= 1", "0"),
        "unit test_process without_pidfd",
    ),
    Mutant(
        "a first thread that ended taken for the process",
        PROCESS,
        one("line.state == 'Z' && line.threads <= 1", "line.state == 'Z'"),
        "unit test_process without_its_first_thread",
    ),
    Mutant(
        "a lost role waits",
        RECEIVER,
        one("if (role_lost(end, &end->shared->receiver_claim))\n\t\t\treturn -ESTALE;", ";"),
        "unit test_ring_roles a_lost_role_is_told",
    ),
    # ---- successors ----
    Mutant(
        "successor ignores a committed message",
        ROLE,
        one(
            "\tif (committed(end->cursor.count, mf_load_acquire(&slot->commit))) {",
            "\tif (0 && slot) {",
        ),
        "unit test_ring_roles sender_dies",
    ),
    Mutant(
        "receiver's claim forgets the last one's progress",
        ROLE,
        one("\tload_progress(end, &shared->receiver);\n", ""),
        "unit test_ring_roles receiver_dies",
    ),
    # ---- bounds ----
    Mutant(
        "peek does not bound a place",
        RECEIVER,
        one("body_size > end->capacity - offset", "0"),
        "asan test_ring_hostile forged_slots",
    ),
    Mutant(
        "a place between lines is believed",
        RECEIVER,
        one("offset % MF_LINE_BYTES != 0 || ", ""),
        "asan test_ring_hostile forged_slots",
    ),
    Mutant(
        "send does not bound a length",
        SENDER,
        one("\tif (body_size > mf_ring_message_max(end->capacity))\n", "\tif (0)\n"),
        "unit test_ring sizes_at_every_border",
    ),
    Mutant(
        "length loaded twice",
        RECEIVER,
        one(
            "\t*body_size_ret = body_size;\n",
            "\t*body_size_ret = (uint32_t)mf_load_relaxed(&slot->commit);\n",
        ),
        "unit test_ring_hostile before_any_instruction",
    ),
    Mutant(
        "place loaded twice",
        RECEIVER,
        one(
            "*body_ret = end->arena + offset;",
            "*body_ret = end->arena + mf_load_relaxed(&slot->position) % end->capacity;",
        ),
        "unit test_ring_hostile before_any_instruction",
    ),
    Mutant(
        "slot count of the header not checked",
        RING,
        one("mf_load_relaxed(&shared->slot_count) != capacity / sizeof(struct mf_slot)", "0"),
        "unit test_ring_hostile forged_shape",
    ),
    Mutant(
        "a receiver ahead of the sender is believed",
        SENDER,
        one("\tif (end->cursor.count - (state >> 1) > end->slot_count)\n", "\tif (0)\n"),
        "unit test_ring_hostile forged_receiver_progress",
    ),
    Mutant(
        "arena overfilled by a line",
        SENDER,
        one(
            "position + room - end->position_seen <= end->capacity;",
            "position + room - end->position_seen <= end->capacity + MF_LINE_BYTES;",
        ),
        "unit test_ring full_by_arena",
    ),
    Mutant(
        "arena never filled to the last byte",
        SENDER,
        one(
            "position + room - end->position_seen <= end->capacity;",
            "position + room - end->position_seen < end->capacity;",
        ),
        "unit test_ring full_by_arena",
    ),
    Mutant(
        "payload behind a borrowed one freed",
        RECEIVER,
        one("\tif (end->lent != 0)\n", "\tif (0)\n"),
        "unit test_ring borrowed_messages_stay",
    ),
    # ---- the extension ----
    Mutant(
        "view without its pages",
        LENDING,
        one("self->pages = (Pages *)Py_NewRef((PyObject *)end->pages);", "self->pages = NULL;"),
        "tests/unit/test_channel.py::test_a_lent_view_outlives_every_handle",
    ),
    Mutant(
        "borrow freed at exit though views live",
        LENDING,
        one(
            "if (!self->pending || !self->left || self->exports != 0)",
            "if (!self->pending || !self->left)",
        ),
        "tests/unit/test_channel.py::test_views_outlive_the_borrow_and_stall_the_sender_only",
    ),
    Mutant(
        "loan sent in spite of an exception",
        LENDING,
        one("\tif (failed || !pending)\n", "\tif (!pending || failed < 0)\n"),
        "tests/unit/test_channel.py::test_a_loan_is_dropped_on_an_exception_or_when_forgotten",
    ),
    Mutant(
        "fork guard removed",
        END,
        one(
            "\tif (self->open == OPEN && *fast_guard == self->pid)\n",
            "\tif (self->open == OPEN)\n",
        ),
        "tests/ipc/test_channel_processes.py::test_an_end_claimed_before_a_fork_belongs_to_the_parent",
    ),
    Mutant(
        "signals not looked at between slices",
        END,
        one("PyErr_CheckSignals() != 0", "0"),
        "tests/unit/test_channel.py::test_a_signal_handler_runs_while_recv_waits",
    ),
    # ---- figures ----
    Mutant(
        "a kept descriptor is not asked whose it is",
        PROCFILE,
        one("\tif (!is_ours(file)) {\n", "\tif (0) {\n"),
        "tests/unit/test_procfile.py::test_a_number_that_became_another_file_is_left_alone",
    ),
    Mutant(
        "any open file has our mark",
        PROCFILE,
        one("F_GETSIG) == file->mark", "F_GETSIG) != -1"),
        "tests/unit/test_procfile.py::test_another_process_is_not_taken_for_us",
    ),
    Mutant(
        "a forked child reads about its parent",
        PROCFILE,
        one("file->pid == pid ? read_all", "pid > 0 ? read_all"),
        "tests/unit/test_procfile.py::test_a_forked_child_reads_about_itself",
    ),
    Mutant(
        "a file that is no procfs is kept",
        PROCFILE,
        one(" || where.f_type != PROC_SUPER_MAGIC", ""),
        "tests/unit/test_procfile.py::test_a_file_that_is_not_of_procfs_is_not_kept",
    ),
    Mutant(
        "kB is not multiplied",
        "csrc/text.c",
        one("\t\tfield->value = mf_text_kib(field->value);\n", "\t\t;\n"),
        "tests/unit/test_sysmem.py::test_meminfo_has_every_key_of_the_kernel",
    ),
    Mutant(
        "a number is read beyond the end",
        "csrc/text.c",
        one("for (; at < end && is_digit(*at); at++) {", "for (; is_digit(*at); at++) {"),
        "asan test_text cut_anywhere",
    ),
    Mutant(
        "more is available than there is",
        "csrc/meminfo.c",
        one("info->available == 0 || info->available > info->total", "info->available == 0"),
        "tests/unit/test_sysmem.py::test_free_is_by_the_formulas_of_procps",
    ),
    Mutant(
        "a percent is rounded half up",
        "csrc/fast/meminfo.c",
        one("(rest == 0.5L && fmodl(whole, 2) != 0)", "rest == 0.5L"),
        "tests/unit/test_sysmem.py::test_virtual_memory_is_psutils_on_odd_kernels",
    ),
    Mutant(
        "a list of mappings cut short by a death is believed",
        "csrc/procdir.c",
        one(" && pread(maps, &byte, 1, 0) != 1)", " && byte != byte)"),
        "tests/unit/test_procmaps.py::test_a_process_that_dies_meanwhile_is_not_listed_in_part",
    ),
    # ---- segments ----
    Mutant(
        "IPC_RMID skipped",
        SYSV,
        one(
            "\t\tif (shmctl(segment->id, IPC_RMID, NULL) != 0)\n\t\t\tstatus = -errno;\n",
            "\t\tstatus = 0;\n",
        ),
        "tests/unit/test_sysv.py::test_an_anonymous_segment_is_marked_for_removal_at_birth",
    ),
    Mutant(
        "populate skipped",
        SYSV,
        one("\treturn mf_mapping_populate(segment->address, bytes);\n", "\treturn 0;\n"),
        "tests/unit/test_sysv.py::test_an_anonymous_segment_is_marked_for_removal_at_birth",
    ),
    # ---- what the dead left ----
    Mutant(
        "a map that is in use is reaped",
        NAMEDIR,
        one("(status.st_mode & S_ISVTX) != 0 || mf_namedir_lived_on(fd)", "0"),
        "tests/unit/test_objects.py::test_a_name_that_was_taken_anew_stays[map]",
    ),
    Mutant(
        "a newer record is reaped",
        NAMEDIR,
        one("now.segment_id == segment_id && now.nonce == nonce", "now.mode != 0"),
        "tests/unit/test_objects.py::test_a_name_that_was_taken_anew_stays[channel]",
    ),
    Mutant(
        "another user's directory of names is entered",
        NAMEDIR,
        one("status.st_uid != owner)", "status.st_uid == owner + 1)"),
        "tests/unit/test_objects_users.py::"
        "test_a_directory_that_is_not_as_it_must_be_is_one_foreign_object[owner]",
    ),
    Mutant(
        "a record of another IPC namespace is believed",
        "csrc/record.c",
        one("inode == record.ipc_inode ? 0 : -EXDEV", "0"),
        "tests/unit/test_objects.py::test_a_record_of_another_ipc_namespace_is_unknown",
    ),
    Mutant(
        "a creator of another pid namespace is dead",
        LEFTOVER,
        one("\tif (status->shm_cpid == 0 || ", "\tif ("),
        "tests/unit/test_objects.py::test_a_creator_of_another_pid_namespace_is_unknown",
    ),
    Mutant(
        "a segment with pages is reaped",
        LEFTOVER,
        one("!is_pageless(id)", "id < 0"),
        "tests/unit/test_objects.py::test_only_what_a_kill_left_is_dead[touched]",
    ),
    Mutant(
        "a segment that was given away is reaped",
        LEFTOVER,
        one("status->shm_perm.uid != status->shm_perm.cuid", "id < 0"),
        "tests/unit/test_objects.py::test_only_what_a_kill_left_is_dead[given away]",
    ),
    Mutant(
        "a name that goes while it is opened has further names",
        NAMEDIR,
        one("\tif (status->st_nlink == 0)\n\t\treturn -ENOENT;\n", ""),
        "tests/unit/test_name.py::test_a_name_that_goes_while_it_is_opened_is_not_found",
    ),
)
