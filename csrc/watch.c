/* SPDX-License-Identifier: MIT */
/*
 * watch.c - threads that wake sleepers when a process they wait for dies.
 *
 * A waiter sleeps on a futex, and no system call of an ordinary process sleeps
 * on a futex and a pidfd at once. Waking every 50 ms to ask costs 13 ms of CPU
 * in 5 s here; a thread asleep on a pidfd costs nothing. There is one for each
 * process that somebody has waited for in vain for 10 ms, until that process
 * dies (docs/decisions/0002 compares it with robust futexes).
 *
 * Such a thread has a descriptor table of its own (close_range(2) with
 * CLOSE_RANGE_UNSHARE, Linux 5.9), so neither a daemonizer that closes every
 * descriptor nor a fork nor RLIMIT_NOFILE can meet it. It touches nothing of
 * Python's, blocks every signal, and only ever raises an alarm: the waiter then
 * asks the kernel anew.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same number on every architecture */
#endif
#define CLOSE_RANGE_UNSHARE_FLAG 2u

enum {
	STACK_BYTES = 64 * 1024,
};

/* One thread. Two claims of one process differ in their number only. */
struct watcher {
	struct watcher *next;
	struct mf_watch *watch;
	uint64_t own;
	uint64_t claim;
};

struct mf_watch {
	pthread_mutex_t lock; /* guards the rest; never held across a call that waits */
	struct mf_watched *first;
	struct watcher *watchers;
	int broken; /* threads cannot watch here: an old kernel, or a seccomp profile */
};

static int same_process(uint64_t one, uint64_t other)
{
	const uint64_t number = ((UINT64_C(1) << MF_CLAIM_NUMBER_BITS) - 1)
				<< MF_CLAIM_NUMBER_SHIFT;

	return (one | number) == (other | number);
}

static void raise_alarm(struct mf_watched *watched)
{
	mf_store32_relaxed(&watched->alarm, 1);
	mf_fence_full(); /* SYNC sleep: the alarm before our look; the sleeper does the reverse */
	mf_wait_wake(watched->sleeper);
}

static void raise_alarms(struct watcher *self, int broken)
{
	struct mf_watch *watch = self->watch;
	struct watcher **link = &watch->watchers;

	pthread_mutex_lock(&watch->lock);
	watch->broken |= broken;
	for (struct mf_watched *item = watch->first; item != NULL; item = item->next)
		if (same_process(item->claim, self->claim))
			raise_alarm(item);
	while (*link != self)
		link = &(*link)->next;
	*link = self->next;
	pthread_mutex_unlock(&watch->lock);
}

static void *watch_thread(void *context)
{
	struct watcher *self = context;
	struct pollfd item = {.events = POLLIN, .fd = -ENOSYS};
	int ready = -1;

	if (syscall(SYS_close_range, 0u, UINT_MAX, CLOSE_RANGE_UNSHARE_FLAG) == 0)
		item.fd = mf_process_open(self->own, self->claim);
	if (item.fd >= 0)
		do
			ready = poll(&item, 1, -1);
		while (ready < 0 && errno == EINTR);
	/* The descriptors go with the table, which goes with the thread. */
	raise_alarms(self, ready < 0 && item.fd != -ESRCH);
	free(self);
	return NULL;
}

static int start_thread(struct watcher *self)
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	int status = pthread_attr_init(&attributes);

	if (status != 0)
		return -status;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = pthread_create(&thread, &attributes, watch_thread, self);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -status;
}

/*
 * Make the place where a process keeps what it watches; once in a process, and
 * anew in a forked child, which has its parent's memory but not the threads.
 */
int mf_watch_make(struct mf_watch **watch_ret)
{
	struct mf_watch *watch = calloc(1, sizeof *watch);

	if (watch == NULL)
		return -ENOMEM;
	pthread_mutex_init(&watch->lock, NULL);
	*watch_ret = watch;
	return 0;
}

/* Have a thread for that process, if there is none yet; the lock is held. */
static int have_watcher(struct mf_watch *watch, uint64_t own, uint64_t claim)
{
	struct watcher *watcher = watch->watchers;
	int status;

	if (watch->broken)
		return -EPIPE;
	for (; watcher != NULL; watcher = watcher->next)
		if (same_process(watcher->claim, claim))
			return 0;
	watcher = calloc(1, sizeof *watcher);
	if (watcher == NULL)
		return -ENOMEM;
	watcher->watch = watch;
	watcher->own = own;
	watcher->claim = claim;
	status = start_thread(watcher);
	if (status != 0) {
		free(watcher);
		return status;
	}
	watcher->next = watch->watchers; /* it cannot end before: ending takes the lock */
	watch->watchers = watcher;
	return 0;
}

/*
 * Raise the alarm and wake the sleeper when the process behind `claim` dies.
 * Returns 0, -ESRCH if it is dead, -EXDEV if it lives in a pid namespace from
 * which we cannot see it die, or another negative errno if it cannot be watched.
 */
int mf_watch_add(struct mf_watch *watch, struct mf_watched *watched, struct mf_wait_layout *sleeper,
		 uint64_t own, uint64_t claim)
{
	const int life = mf_process_life(own, claim);
	int status;

	if (life != MF_LIFE_ALIVE)
		return life == MF_LIFE_DEAD ? -ESRCH : -EXDEV;
	pthread_mutex_lock(&watch->lock);
	status = have_watcher(watch, own, claim);
	if (status == 0) {
		watched->claim = claim;
		watched->sleeper = sleeper;
		watched->next = watch->first;
		watch->first = watched;
	}
	pthread_mutex_unlock(&watch->lock);
	return status;
}

/* Stop watching; after it no thread knows of `watched` or its sleeper. */
void mf_watch_remove(struct mf_watch *watch, struct mf_watched *watched)
{
	struct mf_watched **link;

	if (watched->claim == 0)
		return;
	pthread_mutex_lock(&watch->lock);
	for (link = &watch->first; *link != NULL && *link != watched; link = &(*link)->next)
		;
	if (*link != NULL)
		*link = watched->next;
	watched->claim = 0;
	mf_store32_relaxed(&watched->alarm, 0);
	pthread_mutex_unlock(&watch->lock);
}

/* Whether the watched process may have died: a reason to ask, not an answer. */
int mf_watch_alarm(const struct mf_watched *watched)
{
	return (int)mf_load32_relaxed(&watched->alarm);
}
