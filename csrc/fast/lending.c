/* SPDX-License-Identifier: MIT */
/*
 * lending.c - Loan and Borrow: messages written and read in place.
 *
 * Both hold the pages, so a view that outlives everything else still points at
 * memory. A borrowed message is freed at its exit or at the death of its last
 * view, whichever is later; messages behind it can be received meanwhile, but
 * their place is freed in order, so the sender stalls at a kept one.
 */
#include "fast.h"

#include <errno.h>

typedef struct Lending {
	PyObject_HEAD
	End *end;
	Pages *pages;
	void *body;
	Py_ssize_t size;
	PyObject *view;		     /* weak reference to what __enter__ gave out */
	int pending;		     /* loan: not yet committed or dropped; borrow: not yet freed */
	int left;		     /* borrow: its block is over */
	Py_ssize_t exports;	     /* live buffers */
	struct mf_ring_cursor start; /* borrow: the receiver's cursor before this message */
	struct Lending *newer, *older;
} Lending;

static PyTypeObject *loan_type, *borrow_type;

static Lending *lending_new(PyTypeObject *type, End *end, void *body, Py_ssize_t size)
{
	Lending *self = (Lending *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);

	if (self == NULL)
		return NULL;
	self->end = (End *)Py_NewRef((PyObject *)end);
	self->pages = (Pages *)Py_NewRef((PyObject *)end->pages);
	self->body = body;
	self->size = size;
	self->pending = 1;
	return self;
}

PyObject *fast_loan_new(End *sender, void *body, Py_ssize_t size)
{
	Lending *self = lending_new(loan_type, sender, body, size);

	if (self != NULL)
		sender->loan = self;
	return (PyObject *)self;
}

PyObject *fast_borrow_new(End *receiver, const void *body, Py_ssize_t size)
{
	struct mf_ring_cursor start = receiver->end.cursor;
	Lending *self;

	mf_receiver_skip(&receiver->end); /* before an allocation that may run Python code */
	receiver->end.lent++;
	self = lending_new(borrow_type, receiver, (void *)(uintptr_t)body, size);
	if (self == NULL) {
		receiver->end.lent--;
		receiver->end.cursor = start;
		return NULL;
	}
	self->start = start;
	self->older = receiver->newest_borrow;
	if (self->older != NULL)
		self->older->newer = self;
	else
		receiver->oldest_borrow = self;
	receiver->newest_borrow = self;
	return (PyObject *)self;
}

/* Free the message once its block is over and no view is left. */
static void borrow_settle(Lending *self)
{
	End *end = self->end;

	if (!self->pending || !self->left || self->exports != 0)
		return;
	self->pending = 0;
	if (self->older != NULL)
		self->older->newer = self->newer;
	else
		end->oldest_borrow = self->newer;
	if (self->newer != NULL)
		self->newer->older = self->older;
	else
		end->newest_borrow = self->older;
	end->end.lent--;
	if (self->older == NULL && end->open && *fast_guard == end->pid)
		mf_receiver_free(&end->end,
				 self->newer != NULL ? &self->newer->start : &end->end.cursor);
}

static void loan_drop(Lending *self)
{
	if (self->pending && self->end->loan == self)
		self->end->loan = NULL;
	self->pending = 0;
}

static void lending_dealloc(PyObject *object)
{
	Lending *self = (Lending *)object;
	PyTypeObject *type = Py_TYPE(object);

	self->left = 1;
	if (type == borrow_type)
		borrow_settle(self);
	else
		loan_drop(self);
	Py_CLEAR(self->view);
	Py_CLEAR(self->end);
	Py_CLEAR(self->pages);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyObject *lending_enter(PyObject *object, PyObject *unused)
{
	Lending *self = (Lending *)object;
	PyObject *view;

	(void)unused;
	if (!self->pending || self->left || self->view != NULL) {
		PyErr_SetString(PyExc_ValueError, "a loan or a borrow is entered once");
		return NULL;
	}
	view = PyMemoryView_FromObject(object);
	if (view != NULL) {
		self->view = PyWeakref_NewRef(view, NULL); /* a strong one would be a cycle */
		if (self->view == NULL)
			Py_CLEAR(view);
	}
	return view;
}

/* Release the view that the block was given, unless views of that view are left. */
static void release_view(Lending *self)
{
	PyObject *view = self->view == NULL ? NULL : PyWeakref_GetObject(self->view);
	PyObject *result;

	if (view == NULL || view == Py_None)
		return;
	Py_INCREF(view);
	result = PyObject_CallMethod(view, "release", NULL);
	if (result == NULL)
		PyErr_Clear();
	Py_XDECREF(result);
	Py_DECREF(view);
}

static int getbuffer(PyObject *object, Py_buffer *view, int flags)
{
	Lending *self = (Lending *)object;

	if (!self->pending || self->left) {
		PyErr_SetString(PyExc_BufferError, "the block of this loan or borrow is over");
		return -1;
	}
	if (PyBuffer_FillInfo(view, object, self->body, self->size, Py_TYPE(object) == borrow_type,
			      flags) != 0)
		return -1;
	self->exports++;
	return 0;
}

static void releasebuffer(PyObject *object, Py_buffer *view)
{
	Lending *self = (Lending *)object;

	(void)view;
	self->exports--;
	if (Py_TYPE(object) == borrow_type)
		borrow_settle(self);
}

static PyObject *borrow_exit(PyObject *object, PyObject *args)
{
	Lending *self = (Lending *)object;

	(void)args;
	release_view(self);
	self->left = 1;
	borrow_settle(self);
	Py_RETURN_FALSE;
}

/* Commit if the block ended well; an exception, or an end closed inside, drops the message. */
static PyObject *loan_exit(PyObject *object, PyObject *args)
{
	Lending *self = (Lending *)object;
	const int failed = PyTuple_Size(args) < 1 || PyTuple_GetItem(args, 0) != Py_None;
	const int pending = self->pending;

	PyErr_Clear();
	release_view(self);
	self->left = 1;
	loan_drop(self);
	if (failed || !pending)
		Py_RETURN_FALSE;
	if (fast_end_check(self->end) != 0)
		return NULL;
	mf_sender_commit(&self->end->end, (size_t)self->size);
	Py_RETURN_FALSE;
}

static PyMethodDef loan_methods[] = {
	{"__enter__", lending_enter, METH_NOARGS, NULL},
	{"__exit__", loan_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMethodDef borrow_methods[] = {
	{"__enter__", lending_enter, METH_NOARGS, NULL},
	{"__exit__", borrow_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot loan_slots[] = {
	{Py_tp_doc, "Room for one message, to be written in place inside a with block."},
	{Py_tp_dealloc, lending_dealloc},
	{Py_tp_methods, loan_methods},
	{Py_bf_getbuffer, getbuffer},
	{Py_bf_releasebuffer, releasebuffer},
	{0, NULL},
};

static PyType_Slot borrow_slots[] = {
	{Py_tp_doc, "One message, to be read in place inside a with block."},
	{Py_tp_dealloc, lending_dealloc},
	{Py_tp_methods, borrow_methods},
	{Py_bf_getbuffer, getbuffer},
	{Py_bf_releasebuffer, releasebuffer},
	{0, NULL},
};

static PyType_Spec loan_spec = {
	.name = "memfast._fast.Loan",
	.basicsize = sizeof(Lending),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = loan_slots,
};

static PyType_Spec borrow_spec = {
	.name = "memfast._fast.Borrow",
	.basicsize = sizeof(Lending),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = borrow_slots,
};

int fast_lending_add(PyObject *module)
{
	loan_type = (PyTypeObject *)PyType_FromSpec(&loan_spec);
	borrow_type = (PyTypeObject *)PyType_FromSpec(&borrow_spec);
	return loan_type == NULL || borrow_type == NULL ||
			       PyModule_AddType(module, loan_type) != 0 ||
			       PyModule_AddType(module, borrow_type) != 0
		       ? -1
		       : 0;
}
