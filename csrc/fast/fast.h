/* SPDX-License-Identifier: MIT */
/*
 * fast.h - what the files of memfast._fast share.
 *
 * cffi lets go of the GIL around every call, which is right for a call that
 * blocks and wrong for one of 50 ns. The calls bound here keep it while there
 * is work to do and let go only to wait. The types are bases: memfast/ring.py
 * derives from them and supplies `_fail(status, detail)`, which raises; so no
 * class of memfast is named in C.
 */
#ifndef MEMFAST_FAST_H
#define MEMFAST_FAST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "memfast.h"

/*
 * A page that the kernel zeroes in every forked child (MADV_WIPEONFORK,
 * madvise(2)), and that holds the pid of the process whose ends may be used:
 * one load tells a child, also after a fork that ran no Python hook.
 */
extern pid_t *fast_guard;

/* Memory that stays mapped while anything refers to this object. */
typedef struct {
	PyObject_HEAD
	void *address;
	Py_ssize_t size;
	int readonly;
	int kind;
} Pages;

extern PyTypeObject *fast_pages_type;

/* One end of a ring: what Sender and Receiver have in common. */
typedef struct {
	PyObject_HEAD
	struct mf_ring_end end;
	Pages *pages; /* NULL once closed and no thread waits inside */
	pid_t pid;    /* who claimed it */
	int is_sender;
	int open;	 /* see end.c */
	int holds_role;	 /* to be given back by us */
	int peer_pid;	 /* of the peer that was last asked after */
	uint64_t judged; /* the peer's claim for which the slice was chosen */
	struct mf_watched watched;
	int waiting;	     /* threads that wait in C without the GIL */
	void *loan;	     /* sender: the open Loan (not owned), or NULL */
	void *oldest_borrow; /* receiver: lent messages, oldest first (not owned) */
	void *newest_borrow;
} End;

/* Whether the end may be used here and now; 0, or -1 with an exception set. */
int fast_end_check(End *self);
/* Call self._fail(status, detail); always returns NULL with an exception set. */
PyObject *fast_fail(End *self, int status, Py_ssize_t detail);
void fast_end_let_go(End *self);
void fast_end_settled(End *self);
extern PyGetSetDef fast_end_getset[];
PyObject *fast_end_close(PyObject *object, PyObject *at_exit);
PyObject *fast_end_disown(PyObject *object, PyObject *unused);
void fast_end_dealloc(PyObject *object);
PyObject *fast_end_new(PyTypeObject *type, PyObject *args, PyObject *keywords);

int fast_end_wait(End *self, size_t size, uint64_t deadline_ns);

int fast_deadline(PyObject *timeout, uint64_t *deadline_ret);
/* Fill slots[0..count) from positional and keyword arguments; missing ones stay NULL. */
int fast_arguments(const char *function, const char *const *names, Py_ssize_t count,
		   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **slots);

int fast_pages_add(PyObject *module);
int fast_sender_add(PyObject *module);
int fast_receiver_add(PyObject *module);
int fast_lending_add(PyObject *module);

PyObject *fast_loan_new(End *sender, void *body, Py_ssize_t size);
PyObject *fast_borrow_new(End *receiver, const void *body, Py_ssize_t size);

#define FAST_METHOD(function) ((PyCFunction)(void (*)(void))(function))

/* A file of /proc that stays open; see procfile.c. */
typedef struct {
	PyObject_HEAD
	struct mf_procfile file;
	char *path;
	char *buffer; /* of the last read; valid while the GIL is held */
	size_t size;
} Procfile;

extern PyTypeObject *fast_procfile_type;

int64_t fast_procfile_text(Procfile *self, const char **text_ret);
/* This process, without a system call: the guard page is zero in a forked child. */
pid_t fast_this_process(void);
PyObject *fast_table(const char *at, size_t size);

/* One reading of a text of keys and numbers; see reading.c. */
extern PyTypeObject *fast_reading_type;

/* Read a file of /proc into a new object of this type; NULL with an exception set, or if it is
 * empty. */
PyObject *fast_reading_of(PyTypeObject *type, Procfile *file);

int fast_procfile_add(PyObject *module);
int fast_sysinfo_add(PyObject *module);
int fast_reading_add(PyObject *module);
int fast_meminfo_add(PyObject *module);
int fast_maps_add(PyObject *module);

#endif
