/* SPDX-License-Identifier: MIT */
/* receiver.c - memfast._fast.Receiver: recv, try_recv, recv_many, recv_into, borrow. */
#include "fast.h"

#include <errno.h>

/* A message that was looked at: where it lies, until it is taken. */
struct found {
	const void *body;
	size_t size;
};

/* Wait until there is a message; 0, or -1 with an exception set. */
static int find(End *self, struct found *found, uint64_t deadline_ns)
{
	int status, verdict = 0;

	while ((status = mf_receiver_peek(&self->end, &found->body, &found->size)) == -EAGAIN) {
		if (verdict != 0) {
			fast_fail(self, verdict, self->peer_pid);
			return -1;
		}
		verdict = fast_end_wait(self, 0, deadline_ns);
		if (verdict > 0)
			return -1;
	}
	if (status == 0)
		return 0;
	fast_fail(self, status, 0);
	return -1;
}

/* The message as a bytes object. Nothing of Python's runs between look and take. */
static PyObject *take(End *self, const struct found *found)
{
	PyObject *message = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)found->size);

	if (message != NULL)
		mf_receiver_take(&self->end, PyBytes_AsString(message), found->body, found->size);
	return message;
}

static int timeout_argument(const char *function, PyObject *const *args, Py_ssize_t nargs,
			    PyObject *kwnames, uint64_t *deadline_ret)
{
	static const char *const names[] = {"timeout"};
	PyObject *slots[1] = {NULL};

	*deadline_ret = UINT64_MAX;
	if (nargs == 0 && kwnames == NULL)
		return 0;
	if (fast_arguments(function, names, 1, args, nargs, kwnames, slots) != 0)
		return -1;
	return fast_deadline(slots[0], deadline_ret);
}

static PyObject *receiver_recv(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
			       PyObject *kwnames)
{
	End *self = (End *)object;
	uint64_t deadline_ns;
	struct found found;

	if (timeout_argument("recv", args, nargs, kwnames, &deadline_ns) != 0 ||
	    fast_end_check(self) != 0 || find(self, &found, deadline_ns) != 0)
		return NULL;
	return take(self, &found);
}

static PyObject *receiver_try_recv(PyObject *object, PyObject *unused)
{
	End *self = (End *)object;
	struct found found;
	int status;

	(void)unused;
	if (fast_end_check(self) != 0)
		return NULL;
	status = mf_receiver_peek(&self->end, &found.body, &found.size);
	if (status == 0)
		return take(self, &found);
	if (status == -EAGAIN)
		Py_RETURN_NONE;
	return fast_fail(self, status, 0);
}

static PyObject *receiver_recv_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
				    PyObject *kwnames)
{
	static const char *const names[] = {"max", "timeout"};
	End *self = (End *)object;
	PyObject *slots[2] = {NULL, NULL}, *list;
	uint64_t deadline_ns;
	struct found found;
	Py_ssize_t most = 1024;
	int status;

	if (fast_arguments("recv_many", names, 2, args, nargs, kwnames, slots) != 0 ||
	    fast_deadline(slots[1], &deadline_ns) != 0)
		return NULL;
	if (slots[0] != NULL) {
		most = PyLong_AsSsize_t(slots[0]);
		if (most == -1 && PyErr_Occurred())
			return NULL;
	}
	if (most < 1)
		return PyErr_Format(PyExc_ValueError, "recv_many() needs max of 1 or more");
	if (fast_end_check(self) != 0)
		return NULL;
	list = PyList_New(0); /* may collect garbage, and so run Python code: before the look */
	if (list == NULL || fast_end_check(self) != 0 || find(self, &found, deadline_ns) != 0) {
		Py_XDECREF(list);
		return NULL;
	}
	do {
		PyObject *message = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)found.size);

		if (message == NULL || PyList_Append(list, message) != 0) {
			Py_XDECREF(message); /* out of memory: the message stays in the ring */
			break;
		}
		mf_receiver_take(&self->end, PyBytes_AsString(message), found.body, found.size);
		Py_DECREF(message);
		status = --most > 0 ? mf_receiver_peek(&self->end, &found.body, &found.size)
				    : -EAGAIN;
	} while (status == 0);
	if (PyErr_Occurred()) {
		if (PyList_Size(list) == 0)
			Py_CLEAR(list);
		else
			PyErr_Clear(); /* what was taken must reach the caller */
	}
	return list;
}

static PyObject *receiver_recv_into(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
				    PyObject *kwnames)
{
	static const char *const names[] = {"buffer", "timeout"};
	End *self = (End *)object;
	PyObject *slots[2] = {NULL, NULL}, *result = NULL;
	uint64_t deadline_ns;
	struct found found;
	Py_buffer view;

	if (fast_arguments("recv_into", names, 2, args, nargs, kwnames, slots) != 0 ||
	    fast_deadline(slots[1], &deadline_ns) != 0)
		return NULL;
	if (slots[0] == NULL)
		return PyErr_Format(PyExc_TypeError, "recv_into() needs a writable buffer");
	if (PyObject_GetBuffer(slots[0], &view, PyBUF_WRITABLE) != 0)
		return NULL;
	if (fast_end_check(self) == 0 && find(self, &found, deadline_ns) == 0) {
		if (found.size <= (size_t)view.len) {
			mf_receiver_take(&self->end, view.buf, found.body, found.size);
			result = PyLong_FromSize_t(found.size);
		} else {
			fast_fail(self, -ENOBUFS, (Py_ssize_t)found.size);
		}
	}
	PyBuffer_Release(&view);
	return result;
}

static PyObject *receiver_borrow(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
				 PyObject *kwnames)
{
	End *self = (End *)object;
	uint64_t deadline_ns;
	struct found found;

	if (timeout_argument("borrow", args, nargs, kwnames, &deadline_ns) != 0 ||
	    fast_end_check(self) != 0 || find(self, &found, deadline_ns) != 0)
		return NULL;
	return fast_borrow_new(self, found.body, (Py_ssize_t)found.size);
}

static PyObject *receiver_next(PyObject *object)
{
	End *self = (End *)object;
	struct found found;
	int status;

	if (fast_end_check(self) != 0)
		return NULL;
	status = mf_receiver_peek(&self->end, &found.body, &found.size);
	while (status == -EAGAIN) {
		const int verdict = fast_end_wait(self, 0, UINT64_MAX);

		if (verdict > 0)
			return NULL;
		status = mf_receiver_peek(&self->end, &found.body, &found.size);
		if (status == -EAGAIN && verdict < 0)
			return fast_fail(self, verdict, self->peer_pid);
	}
	if (status == 0)
		return take(self, &found);
	return status == -EPIPE ? NULL : fast_fail(self, status, 0); /* NULL alone: the end */
}

/*
 * Docstrings begin with a signature for inspect.signature().
 */
#define DOC_RECV                                                                                  \
	"recv($self, /, timeout=None)\n--\n\n"                                                    \
	"Receive the next message as bytes; wait if there is none.\n\n"                           \
	"Any thread of the process that claimed this end may call it. One copy; no system call\n" \
	"while messages are there; the GIL is kept unless this call must wait. It waits by\n"     \
	"spinning up to 50 microseconds, then sleeps on a futex.\n\n"                             \
	"Args:\n"                                                                                 \
	"    timeout: Seconds to wait; None: for ever; 0: only try.\n\n"                          \
	"Raises:\n"                                                                               \
	"    WaitTimeout: No message in time.\n"                                                  \
	"    ClosedError: The sender closed and all was received, or this end was closed.\n"      \
	"    PeerDiedError: The sender died and all it sent was received; told within 100 ms.\n"  \
	"    LayoutError: The ring was damaged.\n"
#define DOC_TRY_RECV                                                                               \
	"try_recv($self, /)\n--\n\n"                                                               \
	"Receive the next message, or None if there is none now. Does not ask whether the sender " \
	"lives."
#define DOC_RECV_MANY                                                                         \
	"recv_many($self, /, max=1024, timeout=None)\n--\n\n"                                 \
	"Receive what is there, up to max messages, as a list of at least one; wait for the " \
	"first.\n\n"                                                                          \
	"Waits and raises as recv()."
#define DOC_RECV_INTO                                                                           \
	"recv_into($self, /, buffer, timeout=None)\n--\n\n"                                     \
	"Receive the next message into a writable buffer and return its size in bytes.\n\n"     \
	"Saves the allocation of a bytes object. Raises MessageTooLarge if the buffer is too\n" \
	"small: the message stays. Otherwise waits and raises as recv()."
#define DOC_BORROW                                                                                \
	"borrow($self, /, timeout=None)\n--\n\n"                                                  \
	"The next message, to be read in place: no copy.\n\n"                                     \
	"Use it as `with rx.borrow() as view:`; view is a read-only memoryview. The room is "     \
	"freed\n"                                                                                 \
	"when the block ends or when the last view made of it (slices, NumPy arrays) dies,\n"     \
	"whichever is later: a kept view stalls the sender once the ring is full. Messages "      \
	"behind\n"                                                                                \
	"it can be received meanwhile. If this process dies before, the next receiver gets the\n" \
	"message again. Waits and raises as recv()."

static PyMethodDef receiver_methods[] = {
	{"recv", FAST_METHOD(receiver_recv), METH_FASTCALL | METH_KEYWORDS, DOC_RECV},
	{"try_recv", receiver_try_recv, METH_NOARGS, DOC_TRY_RECV},
	{"recv_many", FAST_METHOD(receiver_recv_many), METH_FASTCALL | METH_KEYWORDS,
	 DOC_RECV_MANY},
	{"recv_into", FAST_METHOD(receiver_recv_into), METH_FASTCALL | METH_KEYWORDS,
	 DOC_RECV_INTO},
	{"borrow", FAST_METHOD(receiver_borrow), METH_FASTCALL | METH_KEYWORDS, DOC_BORROW},
	{"_close", fast_end_close, METH_O, NULL},
	{"_disown", fast_end_disown, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot receiver_slots[] = {
	{Py_tp_doc, "The reading end of a ring; memfast.ring.Receiver is the public class."},
	{Py_tp_new, fast_end_new},
	{Py_tp_dealloc, fast_end_dealloc},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, receiver_next},
	{Py_tp_methods, receiver_methods},
	{Py_tp_getset, fast_end_getset},
	{0, NULL},
};

static PyType_Spec receiver_spec = {
	.name = "memfast._fast.Receiver",
	.basicsize = sizeof(End),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = receiver_slots,
};

int fast_receiver_add(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&receiver_spec);
	int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

	Py_XDECREF(type);
	return status;
}
