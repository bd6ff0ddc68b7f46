/* SPDX-License-Identifier: MIT */
/*
 * end.c - what Sender and Receiver have in common: claim, check, wait, close.
 *
 * The ring's state is touched only with the GIL held, so any number of threads
 * may share an end; a waiting thread lets go of the GIL and only looks. close()
 * may come meanwhile: the memory stays until the last waiting thread is out.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <unistd.h>

static const uint64_t UNJUDGED = UINT64_MAX; /* no claim: its pid would be beyond the last */

enum {
	CLOSED = 0,
	OPEN = 1,
	HANDED_ON = 2,	     /* unusable here; the role is ours until somebody takes it over */
	LOOKS_WITH_GIL = 40, /* about a microsecond */
	DRAIN_LOOKS = 16,    /* about ten microseconds, while the receiver is at work */
	PAUSES_BETWEEN = 32, /* each look takes a line away that the receiver is writing */
};

PyObject *fast_fail(End *self, int status, Py_ssize_t detail)
{
	PyObject *result = PyObject_CallMethod((PyObject *)self, "_fail", "in", status, detail);

	if (result != NULL) {
		Py_DECREF(result);
		PyErr_SetString(PyExc_SystemError, "_fail() did not raise");
	}
	return NULL;
}

int fast_end_check(End *self)
{
	if (self->open == OPEN && *fast_guard == self->pid)
		return 0;
	fast_fail(self, self->open == OPEN ? -ECHILD : -EBADF, self->pid);
	return -1;
}

/* End(pages, is_sender, from_claim): claim the role in the ring that the pages hold. */
PyObject *fast_end_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static const char *const names[] = {"pages", "is_sender", "from_claim", NULL};
	unsigned long long from;
	PyObject *pages;
	int status, is_sender, owner = 0;
	End *self;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!pK", (char **)names, fast_pages_type,
					 &pages, &is_sender, &from))
		return NULL;
	self = (End *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (self == NULL)
		return NULL;
	self->pages = (Pages *)Py_NewRef(pages);
	self->is_sender = is_sender;
	self->pid = getpid();
	self->judged = UNJUDGED;
	*fast_guard = self->pid;
	if (self->pages->readonly) {
		fast_fail(self, -EACCES, 0); /* a claim is a store */
		Py_DECREF(self);
		return NULL;
	}
	status = (is_sender ? mf_role_claim_sender : mf_role_claim_receiver)(
		self->pages->address, (size_t)self->pages->size, from, &self->end, &owner);
	if (status != 0) {
		fast_fail(self, status, owner);
		Py_DECREF(self);
		return NULL;
	}
	self->open = OPEN;
	self->holds_role = 1;
	return (PyObject *)self;
}

/* Drop the memory as soon as no thread waits in it. */
void fast_end_let_go(End *self)
{
	/* In a forked child nobody waits, whatever the count says. */
	if (self->open == CLOSED && self->oldest_borrow == NULL &&
	    (self->waiting == 0 || *fast_guard != self->pid))
		Py_CLEAR(self->pages);
}

static void watch_stop(End *self);

static void give_role_back(End *self)
{
	if (!self->holds_role || *fast_guard != self->pid)
		return; /* given back already, or our parent's: we are a forked child */
	self->holds_role = 0;
	if (self->is_sender)
		mf_role_close_sender(&self->end);
	else
		mf_role_close_receiver(&self->end);
}

/*
 * Close here; the role goes back at once, unless borrowed messages are still
 * looked at: then with the last of them (`at_exit` does not wait for that), or
 * the next receiver would get them, and what came behind them, a second time.
 */
static void close_end(End *self, int at_exit)
{
	if (self->open != CLOSED) {
		self->open = CLOSED;
		watch_stop(self);
	}
	if (self->oldest_borrow != NULL && !at_exit)
		return;
	if (self->oldest_borrow != NULL && self->holds_role && *fast_guard == self->pid)
		mf_receiver_free(&self->end, &self->end.cursor);
	give_role_back(self);
	fast_end_let_go(self);
}

/* The last borrowed message is free: finish what close() has begun. */
void fast_end_settled(End *self)
{
	if (self->open == CLOSED)
		close_end(self, 0);
}

PyObject *fast_end_close(PyObject *object, PyObject *at_exit)
{
	const int forced = PyObject_IsTrue(at_exit);

	if (forced < 0)
		return NULL;
	close_end((End *)object, forced);
	Py_RETURN_NONE;
}

/*
 * Stop using the end and return the word that another process needs to take it
 * over. Until it does, the role stays ours; close() or our death gives it up.
 */
PyObject *fast_end_disown(PyObject *object, PyObject *unused)
{
	End *self = (End *)object;

	(void)unused;
	if (fast_end_check(self) != 0)
		return NULL;
	if (self->loan != NULL || self->oldest_borrow != NULL || self->waiting != 0)
		return fast_fail(self, -EINPROGRESS, 0);
	self->open = HANDED_ON;
	return PyLong_FromUnsignedLongLong(self->end.claim);
}

void fast_end_dealloc(PyObject *object)
{
	End *self = (End *)object;
	PyTypeObject *type = Py_TYPE(object);

	close_end(self, 1);
	Py_CLEAR(self->pages);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyObject *end_max_message(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(mf_ring_message_max(((End *)object)->end.capacity));
}

static PyObject *end_closed(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((End *)object)->open != OPEN);
}

/* The word of an end that was pickled and is still ours: what takes it back. Otherwise 0. */
static PyObject *end_handed_on(PyObject *object, void *closure)
{
	const End *self = (End *)object;

	(void)closure;
	return PyLong_FromUnsignedLongLong(
		self->open == HANDED_ON && *fast_guard == self->pid ? self->end.claim : 0);
}

PyGetSetDef fast_end_getset[] = {
	{"_handed_on", end_handed_on, NULL, NULL, NULL},
	{"max_message", end_max_message, NULL, "The largest message that fits, in bytes.", NULL},
	{"closed", end_closed, NULL, "Whether this end was closed, or pickled to another process.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

/* What this process watches; made by the first wait that is in vain. */
static struct mf_watch *watch;
static pid_t watch_pid;

static int watch_ready(void)
{
	if (watch_pid == *fast_guard)
		return 1; /* a forked child has its parent's memory, but not the threads */
	if (mf_watch_make(&watch) != 0)
		return 0;
	watch_pid = *fast_guard;
	return 1;
}

static void watch_stop(End *self)
{
	if (self->watched.claim != 0 && *fast_guard == self->pid) {
		mf_watch_remove(watch, &self->watched);
		if (self->waiting != 0)
			mf_wait_wake(
				self->end.waiter.shared); /* they sleep on an alarm that is gone */
	}
	self->judged = UNJUDGED;
	self->end.waiter.slice_ns = MF_WAIT_FIRST_NS;
}

/* After a slice in vain: sleep longer from now on, if the peer's death would wake us. */
static void watch_start(End *self, uint64_t claim)
{
	int status = 0;

	self->end.waiter.slice_ns = MF_WAIT_SLICE_NS;
	if (mf_process_claim_pid(claim) != 0)
		status = watch_ready()
				 ? mf_watch_add(watch, &self->watched, self->end.waiter.shared,
						self->end.claim, claim)
				 : -ENOMEM;
	if (status != 0 && status != -EXDEV)
		return;
	self->judged = claim;
	self->end.waiter.slice_ns = MF_WAIT_WATCHED_NS;
}

/*
 * What every turn of the ladder owes: signal handlers (a signal may have come
 * at any moment, not only in a system call), an end that is still usable, and
 * the deadline, however often somebody else was faster.
 */
static int checks(End *self, int verdict, uint64_t deadline_ns)
{
	if (PyErr_CheckSignals() != 0 || fast_end_check(self) != 0)
		return 1;
	if (verdict == 0 && deadline_ns != UINT64_MAX && mf_wait_clock_ns() >= deadline_ns)
		return -ETIMEDOUT;
	return verdict;
}

/*
 * A sender that finds the ring full lets the receiver take a quarter of it,
 * provided that it is at work. Looking for the first free slot would catch it,
 * find one slot, fill it, and be full again: at every message the line of its
 * progress would cross to us and back, which costs most when the cores lie far
 * apart (docs/decisions/0006). Nobody waits longer for it: three quarters of a
 * ring are still to be read. The GIL is kept, as any Python loop would keep it.
 */
static void let_drain(const struct mf_ring_end *end)
{
	const uint64_t enough = end->slot_count - end->slot_count / 4;
	uint64_t before, unread = mf_sender_unread(end);

	for (int look = 0; look < DRAIN_LOOKS && unread > enough; look++) {
		for (int pause = 0; pause < PAUSES_BETWEEN; pause++)
			mf_wait_pause();
		before = unread;
		unread = mf_sender_unread(end);
		if (unread == before)
			return;
	}
}

/*
 * The wait ladder for an end that has just looked and found nothing: look a
 * little longer with the GIL held, since the peer's answer is often under a
 * microsecond away; then let go of it, spin and sleep a slice; between slices
 * run signal handlers and ask after the peer.
 *
 * Returns 0: look again; a negative errno: look once more, and if there is
 * still nothing raise it (a peer's last message comes before its death); or 1:
 * an exception is set.
 */
int fast_end_wait(End *self, size_t size, uint64_t deadline_ns)
{
	int (*const ready)(const struct mf_ring_end *, size_t) =
		self->is_sender ? mf_sender_has_space : mf_receiver_has_message;
	int status, alarm, pid = 0, peer = MF_PEER_HERE;
	struct mf_ring_end looking; /* a copy: other threads may use the end meanwhile */
	uint64_t claim;

	if (deadline_ns == 0)
		return mf_role_peer(&self->end, self->is_sender, &self->peer_pid) == MF_PEER_DEAD
			       ? -ECONNRESET
			       : -ETIMEDOUT;
	if (self->is_sender)
		let_drain(&self->end);
	for (int look = 0; look < LOOKS_WITH_GIL; look++) {
		if (ready(&self->end, size))
			return checks(self, 0, deadline_ns);
		mf_wait_pause();
	}
	claim = mf_role_peer_claim(&self->end, self->is_sender);
	if (self->judged != claim && self->judged != UNJUDGED)
		watch_stop(self);
	self->waiting++;
	looking = self->end;
	looking.waiter.alarm = &self->watched.alarm;
	Py_BEGIN_ALLOW_THREADS
	status = mf_role_wait(&looking, self->is_sender, size, claim, deadline_ns);
	alarm = mf_watch_alarm(&self->watched);
	if (status == -ETIMEDOUT || alarm)
		peer = mf_role_peer(&looking, self->is_sender, &pid);
	else
		pid = mf_process_claim_pid(claim);
	Py_END_ALLOW_THREADS
	self->waiting--;
	self->peer_pid = pid;
	self->end.waiter.spin_ns = looking.waiter.spin_ns;
	if (self->open == CLOSED)
		fast_end_let_go(self);
	else if (alarm)
		watch_stop(self);
	else if (status == -ETIMEDOUT && peer != MF_PEER_DEAD && self->judged == UNJUDGED)
		watch_start(self, claim);
	return checks(self, peer == MF_PEER_DEAD ? -ECONNRESET : 0, deadline_ns);
}
