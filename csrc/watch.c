/* SPDX-License-Identifier: MIT */
/*
 * watch.c - one thread that wakes waiters when a process they wait for dies.
 *
 * A waiter sleeps on a futex, and no system call of an ordinary process sleeps
 * on a futex and a pidfd at once. Waking every 50 ms to ask costs 13 ms of CPU
 * in 5 s here, this thread none; it starts only after somebody has waited in
 * vain for 10 ms (docs/decisions/0002 compares it with robust futexes). It
 * touches nothing of Python's, blocks every signal, and only ever raises an
 * alarm: the waiter then asks the kernel anew, so a descriptor that a
 * daemonizer closed and another file got can do no harm.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	STACK_BYTES = 64 * 1024,
	EVENTS_AT_ONCE = 16,
};

struct mf_watch {
	pthread_mutex_t lock; /* guards the list; never held across a system call that waits */
	struct mf_watched *first;
	int epoll_fd;
	int ended; /* the thread is gone: its descriptor was closed under it */
};

static void raise_alarm(struct mf_watched *watched)
{
	mf_store32_relaxed(&watched->alarm, 1);
	mf_fence_full(); /* SYNC sleep: the alarm before our look; the sleeper does the reverse */
	mf_wait_wake(watched->sleeper);
}

/*
 * Give a descriptor back, if it still is what we registered: epoll forgets a
 * file at its last close, so a number that now names another is not found.
 */
static void drop(struct mf_watch *watch, int pidfd)
{
	if (pidfd >= 0 && epoll_ctl(watch->epoll_fd, EPOLL_CTL_DEL, pidfd, NULL) == 0)
		close(pidfd);
}

static void died(struct mf_watch *watch, int pidfd)
{
	for (struct mf_watched *item = watch->first; item != NULL; item = item->next)
		if (item->pidfd == pidfd) {
			item->pidfd = -1;
			raise_alarm(item);
		}
	drop(watch, pidfd);
}

static void *watch_thread(void *context)
{
	struct mf_watch *watch = context;
	struct epoll_event events[EVENTS_AT_ONCE];
	int count;

	do {
		count = epoll_wait(watch->epoll_fd, events, EVENTS_AT_ONCE, -1);
		pthread_mutex_lock(&watch->lock);
		for (int i = 0; i < count; i++)
			died(watch, events[i].data.fd);
		watch->ended = count < 0 && errno != EINTR;
		for (struct mf_watched *item = watch->first; watch->ended && item != NULL;
		     item = item->next)
			raise_alarm(item); /* they must look for themselves from now on */
		pthread_mutex_unlock(&watch->lock);
	} while (!watch->ended);
	return NULL;
}

static int start_thread(struct mf_watch *watch)
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
	status = pthread_create(&thread, &attributes, watch_thread, watch);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -status;
}

/*
 * Start the watching thread; once in a process, and anew in a forked child,
 * which has the memory of its parent's watch but not the thread.
 */
int mf_watch_start(struct mf_watch **watch_ret)
{
	struct mf_watch *watch = calloc(1, sizeof *watch);
	int status;

	if (watch == NULL)
		return -ENOMEM;
	pthread_mutex_init(&watch->lock, NULL);
	watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	status = watch->epoll_fd < 0 ? -errno : start_thread(watch);
	if (status != 0) {
		if (watch->epoll_fd >= 0)
			close(watch->epoll_fd);
		free(watch);
		return status;
	}
	*watch_ret = watch;
	return 0;
}

/*
 * Raise the alarm and wake the sleeper when the process behind `claim` dies. Returns 0,
 * -ESRCH if it is dead, -EXDEV if it lives in a pid namespace from which we
 * cannot see it die, or another negative errno if it could not be watched.
 */
int mf_watch_add(struct mf_watch *watch, struct mf_watched *watched, struct mf_wait_layout *sleeper,
		 uint64_t own, uint64_t claim)
{
	struct epoll_event event = {.events = EPOLLIN};
	const int fd = mf_process_open(own, claim);
	int status = 0;

	if (fd < 0)
		return fd;
	event.data.fd = fd;
	pthread_mutex_lock(&watch->lock);
	if (watch->ended)
		status = -EPIPE;
	else if (epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		status = -errno;
	if (status == 0) {
		watched->pidfd = fd;
		watched->claim = claim;
		watched->sleeper = sleeper;
		watched->next = watch->first;
		watch->first = watched;
	}
	pthread_mutex_unlock(&watch->lock);
	if (status != 0)
		close(fd);
	return status;
}

/* Stop watching; after it the thread knows nothing of `watched` and its sleeper. */
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
	drop(watch, watched->pidfd);
	watched->claim = 0;
	mf_store32_relaxed(&watched->alarm, 0);
	pthread_mutex_unlock(&watch->lock);
}

/* Whether the watched process may have died: a reason to ask, not an answer. */
int mf_watch_alarm(const struct mf_watched *watched)
{
	return (int)mf_load32_relaxed(&watched->alarm);
}
