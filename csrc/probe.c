/* SPDX-License-Identifier: MIT */
/*
 * probe.c - whether this process has a feature of the kernel, by trying it on
 * something small of its own: the version tells neither of a seccomp profile
 * nor of what a distribution has left out or brought back. Nothing is left.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Newer than Debian 12's headers, or its libc; the same number on every architecture. */
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* Linux 5.16 */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum {
	PAGE = 4096,
	STACK_BYTES = 16 * 1024,
	WORD_32 = 2, /* struct futex_waitv: the word has 32 bits */
};

static int as_status(long result)
{
	return result < 0 ? -errno : 0;
}

static int try_membarrier(void)
{
	const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
	const long wanted =
		MEMBARRIER_CMD_GLOBAL_EXPEDITED | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;

	if (commands < 0)
		return -errno;
	return (commands & wanted) == wanted ? 0 : -ENOSYS;
}

static int try_pidfd(void)
{
	const int fd = (int)syscall(SYS_pidfd_open, getpid(), 0u);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* A memfd of one page, written to. */
static int own_file(int *fd_ret)
{
	int status;
	const int fd = memfd_create("memfast-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	status = as_status(ftruncate(fd, PAGE));
	if (status == 0)
		status = as_status(pwrite(fd, "", 1, 0));
	if (status != 0)
		close(fd);
	else
		*fd_ret = fd;
	return status;
}

static int try_seals(void)
{
	int fd;
	int status = own_file(&fd);

	if (status != 0)
		return status;
	status = as_status(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
	close(fd);
	return status;
}

/* A kernel that knows the number and counts nothing is no help either. */
static int try_cachestat(void)
{
	struct {
		uint64_t offset, size;
	} range = {0, 0}; /* to the end */
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} pages = {0};
	int fd;
	int status = own_file(&fd);

	if (status != 0)
		return status;
	status = as_status(syscall(SYS_cachestat, fd, &range, &pages, 0u));
	close(fd);
	return status != 0 ? status : pages.cached != 0 ? 0 : -ENODATA;
}

static int try_populate(void)
{
	const size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;

	if (memory == MAP_FAILED)
		return -errno;
	status = as_status(madvise(memory, size, MADV_POPULATE_WRITE));
	munmap(memory, size);
	return status == -EINVAL ? -ENOSYS : status; /* EINVAL: an advice it does not know */
}

/* A word that is not what we say it is: EAGAIN at once, where the call is known. */
static int try_waitv(void)
{
	const uint32_t word = 0;
	struct {
		uint64_t value, address;
		uint32_t flags, reserved;
	} waiter = {.value = 1, .address = (uintptr_t)&word, .flags = WORD_32};
	const int status = as_status(syscall(SYS_futex_waitv, &waiter, 1u, 0u, NULL, 0));

	return status == -EAGAIN ? 0 : status;
}

static int nothing(void *unused)
{
	(void)unused;
	return 0;
}

/*
 * A child in a user namespace of its own, over before we go on, as vfork(2): no
 * page is copied, however large we are. It ends without SIGCHLD, and nobody
 * else's wait(2) sees it.
 */
static int try_userns(void)
{
	_Alignas(16) char stack[STACK_BYTES];
	sigset_t all, before;
	int status = 0;
	pid_t child;

	sigfillset(&all); /* no handler runs on that stack */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	child = clone(nothing, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_NEWUSER, NULL);
	if (child < 0)
		status = -errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (child < 0)
		return status;
	while (waitpid(child, NULL, (int)__WCLONE) < 0 && errno == EINTR)
		;
	return 0;
}

/* Try a feature: 0 if it works, -ENOSYS, -EPERM or what else the kernel said. */
int mf_probe_try(int feature)
{
	switch (feature) {
	case MF_PROBE_MEMBARRIER:
		return try_membarrier();
	case MF_PROBE_PIDFD:
		return try_pidfd();
	case MF_PROBE_SEALS:
		return try_seals();
	case MF_PROBE_POPULATE:
		return try_populate();
	case MF_PROBE_CACHESTAT:
		return try_cachestat();
	case MF_PROBE_WAITV:
		return try_waitv();
	case MF_PROBE_USERNS:
		return try_userns();
	default:
		return -EINVAL;
	}
}
