/* SPDX-License-Identifier: MIT */
/*
 * process.c - who a process is, and whether it still lives.
 *
 * A process is dead only on the kernel's word: its pid is gone from a pid
 * namespace that we share, or names a process with another start time, or is a
 * zombie. Whatever cannot be known counts as alive: a false "alive" is a
 * delay, a false "dead" is corruption.
 *
 * A verdict is always asked for anew. A pidfd that is kept (watch.c) is only
 * ever a reason to ask: a daemonizer may have closed it, and its number may
 * have come to name another file.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3; the same number on every architecture */
#endif

static int inode_of(const char *path, uint32_t *inode_ret)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return -errno;
	*inode_ret = (uint32_t)status.st_ino; /* proc_alloc_inum: nsfs inodes have 32 bits */
	return 0;
}

/* What a pid and a start time refer to, as seen from here: pid and time namespace in one word. */
static int own_namespaces(uint64_t *inodes_ret)
{
	uint32_t pid_inode = 0, time_inode = 0;
	int status = inode_of("/proc/self/ns/pid", &pid_inode);

	if (status != 0)
		return status;
	status = inode_of("/proc/self/ns/time", &time_inode); /* time namespaces: Linux 5.6 */
	if (status != 0 && status != -ENOENT)
		return status;
	*inodes_ret = (uint64_t)pid_inode << 32 | time_inode;
	return 0;
}

/* What a stat file says of a process: proc_pid_stat(5), fields 1, 3, 20 and 22. */
struct stat_line {
	int64_t pid;
	char state;
	int64_t threads;
	uint64_t start_ticks; /* after boot */
};

/* The name in field 2 may hold spaces and parentheses: count from the last ')'. */
static int parse_stat(const char *text, struct stat_line *line)
{
	const char *cursor = strrchr(text, ')');

	if (cursor == NULL || cursor[1] == '\0')
		return -EPROTO;
	line->pid = strtoll(text, NULL, 10);
	line->state = cursor[2];
	for (int field = 2; cursor != NULL && field < 22; field++) {
		if (field == 20)
			line->threads = strtoll(cursor, NULL, 10);
		cursor = strchr(cursor + 1, ' ');
	}
	if (cursor == NULL)
		return -EPROTO;
	line->start_ticks = strtoull(cursor, NULL, 10);
	return 0;
}

static int read_stat(const char *path, struct stat_line *line)
{
	char text[1024];
	ssize_t length;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	length = read(fd, text, sizeof text - 1);
	if (length < 0)
		length = -errno;
	close(fd);
	if (length < 0)
		return (int)length; /* -ESRCH: it died between open and read */
	text[length] = '\0';
	return parse_stat(text, line);
}

/* The index of our namespaces in the table, entered if there is room. */
static unsigned enter_namespace(struct mf_namespaces_layout *namespaces, uint64_t inodes)
{
	for (unsigned i = 0; i < MF_NAMESPACE_COUNT; i++) {
		uint64_t *word = &namespaces->inodes[i];

		if (mf_load_acquire(word) == inodes ||	   /* SYNC namespace */
		    mf_swap_if_acq_rel(word, 0, inodes) || /* SYNC namespace */
		    mf_load_acquire(word) == inodes)	   /* SYNC namespace */
			return i;
	}
	return MF_NAMESPACE_COUNT;
}

int mf_process_claim_pid(uint64_t claim)
{
	return (int)(claim & ((UINT64_C(1) << MF_CLAIM_PID_BITS) - 1));
}

static unsigned namespace_index(uint64_t claim)
{
	return (unsigned)(claim >> MF_CLAIM_PID_BITS) & MF_NAMESPACE_COUNT;
}

/*
 * Say who we are in one word that others can check. Where /proc is missing, or
 * is that of another pid namespace (unshare --pid without --mount-proc), the
 * word says "unknown": nobody could tell our death from there.
 */
uint64_t mf_process_claim(struct mf_namespaces_layout *namespaces)
{
	const uint64_t number = mf_add_relaxed(&namespaces->claims, 1);
	uint64_t inodes, space = MF_NAMESPACE_COUNT;
	struct stat_line line = {0};

	if (read_stat("/proc/self/stat", &line) == 0 && line.pid == getpid() &&
	    own_namespaces(&inodes) == 0)
		space = enter_namespace(namespaces, inodes);
	return (uint64_t)getpid() | space << MF_CLAIM_PID_BITS |
	       (number & ((1u << MF_CLAIM_NUMBER_BITS) - 1)) << MF_CLAIM_NUMBER_SHIFT |
	       line.start_ticks << MF_CLAIM_TICKS_SHIFT;
}

static int pidfd_open(int64_t pid)
{
	const long fd = syscall(SYS_pidfd_open, (pid_t)pid, 0u); /* close-on-exec by itself */

	return fd < 0 ? -errno : (int)fd;
}

/*
 * 1 if the process is a zombie, or gone; 0 if it runs; a negative errno if that
 * cannot be said. Signal 0 sends nothing, and needs no descriptor: it tells
 * what is gone, but not a zombie from the living.
 */
static int exited(int64_t pid)
{
	struct pollfd item = {.events = POLLIN};
	int ready;

	item.fd = pidfd_open(pid);
	if (item.fd < 0)
		return item.fd == -ESRCH || (kill((pid_t)pid, 0) != 0 && errno == ESRCH) ? 1
											 : item.fd;
	ready = poll(&item, 1, 0);
	if (ready < 0)
		ready = -errno;
	close(item.fd);
	return ready;
}

/*
 * Whether the process behind a claim still lives, as the process behind our own
 * claim in the same table sees it. A claim may come from hostile memory: a pid
 * of 0 is nobody, and the field is too short for a negative one.
 */
int mf_process_life(uint64_t own, uint64_t claim)
{
	const unsigned space = namespace_index(claim);
	const int pid = mf_process_claim_pid(claim);
	struct stat_line line;
	char path[40];
	int gone;

	if (pid == 0)
		return MF_LIFE_DEAD;
	if (space == MF_NAMESPACE_COUNT || space != namespace_index(own))
		return MF_LIFE_UNKNOWN;
	gone = exited(pid);
	if (gone == 1)
		return MF_LIFE_DEAD;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	switch (read_stat(path, &line)) {
	case 0:
		break;
	case -ESRCH:
		return MF_LIFE_DEAD;
	default: /* hidepid=, no descriptors left, ...; -ENOENT too */
		return gone == 0 ? MF_LIFE_ALIVE : MF_LIFE_UNKNOWN;
	}
	if ((line.start_ticks ^ claim >> MF_CLAIM_TICKS_SHIFT) << MF_CLAIM_TICKS_SHIFT != 0)
		return MF_LIFE_DEAD; /* the pid has a new owner */
	/* Without a pidfd the letter tells; a zombie with threads is a leader that left early. */
	return gone < 0 && line.state == 'Z' && line.threads <= 1 ? MF_LIFE_DEAD : MF_LIFE_ALIVE;
}

/*
 * A pidfd of the process behind a claim, or a negative errno: -ESRCH if it is
 * dead, -EXDEV if its namespace is not ours. The claim is checked after the
 * open, so the descriptor cannot be of a process that took the pid over.
 */
int mf_process_open(uint64_t own, uint64_t claim)
{
	const int fd = pidfd_open(mf_process_claim_pid(claim));
	const int life = mf_process_life(own, claim);

	if (life == MF_LIFE_ALIVE || fd < 0)
		return life == MF_LIFE_DEAD ? -ESRCH : life == MF_LIFE_UNKNOWN ? -EXDEV : fd;
	close(fd);
	return life == MF_LIFE_DEAD ? -ESRCH : -EXDEV;
}

/*
 * Whether any process has this pid in our namespace, as 1 or 0, for records
 * that hold nothing but a pid (shmid_ds). A zombie counts as gone.
 */
int mf_process_exists(int64_t pid)
{
	/* 0 is a process of another namespace: unknown, and unknown counts as alive. */
	return pid <= 0 || exited(pid) != 1;
}
