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
	PyObject *view; /* weak reference to what __enter__ gave out */
	int is_loan;
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

	if (self != NULL) {
		self->is_loan = 1;
		sender->loan = self;
	}
	return (PyObject *)self;
}

PyObject *fast_borrow_new(End *receiver, const void *body, Py_ssize_t size)
{
	Lending *self = lending_new(borrow_type, receiver, (void *)(uintptr_t)body, size);

	if (self == NULL)
		return NULL;
	self->start = receiver->end.cursor;
	mf_receiver_skip(&receiver->end);
	receiver->end.lent++;
	self->older = receiver->newest_borrow;
	if (self->older != NULL)
		self->older->newer = self;
	else
		receiver->oldest_borrow = self;
	receiver->newest_borrow = self;
	return (PyObject *)self;
}

static void borrow_unlink(Lending *self)
{
	End *end = self->end;

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
}

/* A borrow that nobody entered, with nothing taken after it: the message was not received. */
static int borrow_undo(Lending *self)
{
	End *end = self->end;

	if (!self->pending || self->view != NULL || self->newer != NULL ||
	    end->end.cursor.count != self->start.count + 1)
		return 0;
	end->end.cursor = self->start;
	borrow_unlink(self);
	if (end->oldest_borrow == NULL)
		fast_end_settled(end);
	return 1;
}

/* Free the message once its block is over and no view is left. */
static void borrow_settle(Lending *self)
{
	End *end = self->end;

	if (!self->pending || !self->left || self->exports != 0)
		return;
	borrow_unlink(self);
	if (self->older == NULL && end->holds_role && *fast_guard == end->pid)
		mf_receiver_free(&end->end,
				 self->newer != NULL ? &self->newer->start : &end->end.cursor);
	if (end->oldest_borrow == NULL)
		fast_end_settled(end);
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
	if (self->is_loan)
		loan_drop(self);
	else if (!borrow_undo(self))
		borrow_settle(self);
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
	if (PyBuffer_FillInfo(view, object, self->body, self->size, !self->is_loan, flags) != 0)
		return -1;
	self->exports++;
	return 0;
}

static void releasebuffer(PyObject *object, Py_buffer *view)
{
	Lending *self = (Lending *)object;

	(void)view;
	self->exports--;
	if (!self->is_loan)
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

/*
 * Commit if the block ended well. An exception, an end closed inside or a view
 * of the view that is left drops the message: it could be changed after it was
 * sent, and with it whatever is sent later.
 */
static PyObject *loan_exit(PyObject *object, PyObject *args)
{
	Lending *self = (Lending *)object;
	const int failed = PyTuple_Size(args) < 1 || PyTuple_GetItem(args, 0) != Py_None;
	int pending;

	self->left = 1;
	release_view(self);
	pending = self->pending && self->view != NULL; /* now: that may have run Python code */
	loan_drop(self);
	if (failed || !pending)
		Py_RETURN_FALSE;
	if (self->exports != 0) {
		PyErr_SetString(
			PyExc_BufferError,
			"something made from the loan (a slice, an array) still lives, so the "
			"message was not sent; delete it before the block ends");
		return NULL;
	}
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
