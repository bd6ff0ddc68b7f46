/* SPDX-License-Identifier: MIT */
/*
 * wait.c - the wait ladder: spin a little, then sleep on a futex.
 *
 * Who sleeps says so in a word of its own; who commits looks at that word and
 * makes a system call only if it says ASLEEP. Both sides store, then load what
 * the other stored, so one of them must see the other: that takes a full fence
 * on each side, or none on the committing side if the sleeper runs
 * membarrier(2), which puts the fence into every running thread of a process
 * that registered. Half a microsecond once per sleep instead of a drained
 * store buffer (a cache miss) per message.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	SPIN_MIN_NS = 2 * 1000,
	SPIN_MAX_NS = 50 * 1000, /* what a sleep and a wake-up cost: spinning longer never pays */
	SLICE_NO_BARRIER_NS =
		10 * 1000 * 1000, /* a wake-up lost for want of membarrier costs this */
	LOOKS_PER_CLOCK = 16,
};

uint64_t mf_wait_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* vDSO: no system call */
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/*
 * Let other processes' membarrier(2) reach this one. Returns 0, or a negative
 * errno where the kernel (before 4.16) or a seccomp profile lacks it: then
 * this process must fence for itself.
 */
int mf_wait_register(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0
		       ? 0
		       : -errno;
}

/* The word is left as it is: threads of a former owner may still sleep under its mark. */
void mf_wait_init(struct mf_waiter *waiter, struct mf_wait_layout *shared, uint64_t *waits)
{
	waiter->shared = shared;
	waiter->waits = waits;
	waiter->spin_ns = SPIN_MAX_NS;
	waiter->slice_ns = MF_WAIT_FIRST_NS;
	waiter->alarm = NULL;
}

static int barrier_everywhere(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0 ? 0 : -errno;
}

/*
 * Wake whoever sleeps here. The exchange takes the ASLEEP mark away first, so
 * that a sleeper who died costs one needless system call and not one each time.
 */
void mf_wait_wake(struct mf_wait_layout *shared)
{
	if (mf_load32_relaxed(&shared->word) == MF_WAIT_ASLEEP &&
	    mf_swap32_if_acq_rel(&shared->word, MF_WAIT_ASLEEP, MF_WAIT_AWAKE)) /* SYNC sleep */
		syscall(SYS_futex, &shared->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int alarmed(const struct mf_waiter *waiter)
{
	return waiter->alarm != NULL && mf_load32_relaxed(waiter->alarm) != 0;
}

static int spin(struct mf_waiter *waiter, int (*ready)(const void *), const void *context,
		uint64_t deadline_ns)
{
	uint64_t now = mf_wait_clock_ns();
	const uint64_t stop =
		now + waiter->spin_ns < deadline_ns ? now + waiter->spin_ns : deadline_ns;

	do {
		for (int look = 0; look < LOOKS_PER_CLOCK; look++) {
			if (ready(context) || alarmed(waiter)) {
				if (waiter->spin_ns < SPIN_MAX_NS)
					waiter->spin_ns *= 2;
				return 0;
			}
			mf_pause();
		}
		now = mf_wait_clock_ns();
	} while (now < stop);
	if (waiter->spin_ns > SPIN_MIN_NS)
		waiter->spin_ns /= 2;
	return -ETIMEDOUT;
}

/*
 * Wait until ready(context), one slice at the longest.
 *
 * Returns 0 (look again: it is ready, or somebody woke us), -EINTR (run the
 * signal handlers, then come back) or -ETIMEDOUT (the slice is over: see
 * whether the peer lives and whether the deadline has passed). A raised alarm
 * is a reason to look as well.
 */
int mf_wait_slice(struct mf_waiter *waiter, int (*ready)(const void *), const void *context,
		  uint64_t deadline_ns)
{
	struct timespec slice;
	uint64_t now, slice_ns;
	long status;

	if (spin(waiter, ready, context, deadline_ns) == 0)
		return 0;
	now = mf_wait_clock_ns();
	if (now >= deadline_ns)
		return -ETIMEDOUT;
	mf_store32_relaxed(&waiter->shared->word, MF_WAIT_ASLEEP);
	slice_ns = waiter->slice_ns;
	mf_fence_full(); /* SYNC sleep: our mark before our look; the other side does the reverse */
	if (barrier_everywhere() != 0)
		slice_ns = slice_ns < SLICE_NO_BARRIER_NS ? slice_ns : SLICE_NO_BARRIER_NS;
	/*
	 * The mark is never taken back, only answered: another thread may sleep
	 * under it. At worst it costs the peer one needless wake-up.
	 */
	if (ready(context) || alarmed(waiter))
		return 0;
	if (deadline_ns - now < slice_ns)
		slice_ns = deadline_ns - now;
	slice.tv_sec = (time_t)(slice_ns / 1000000000u);
	slice.tv_nsec = (long)(slice_ns % 1000000000u);
	mf_add_relaxed(waiter->waits, 1);
	status = syscall(SYS_futex, &waiter->shared->word, FUTEX_WAIT, MF_WAIT_ASLEEP, &slice, NULL,
			 0);
	if (status == 0 || errno == EAGAIN)
		return 0;
	return errno == EINTR ? -EINTR : -ETIMEDOUT;
}

/* One turn of a caller's own spin loop. */
void mf_wait_pause(void)
{
	mf_pause();
}
