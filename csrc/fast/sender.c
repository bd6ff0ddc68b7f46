/* SPDX-License-Identifier: MIT */
/* sender.c - memfast._fast.Sender: send, try_send, send_many, loan. */
#include "fast.h"

#include <errno.h>

/* A message's bytes: a bytes object as it is, any other buffer while it is held. */
struct body {
	const void *data;
	Py_ssize_t size;
	Py_buffer view; /* view.obj is NULL for a bytes object */
};

static int body_open(struct body *body, PyObject *object)
{
	if (PyBytes_CheckExact(object)) {
		body->data = PyBytes_AsString(object);
		body->size = PyBytes_Size(object);
		body->view.obj = NULL;
		return 0;
	}
	if (PyObject_GetBuffer(object, &body->view, PyBUF_SIMPLE) != 0)
		return -1;
	body->data = body->view.buf;
	body->size = body->view.len;
	return 0;
}

static void body_close(struct body *body)
{
	if (body->view.obj != NULL)
		PyBuffer_Release(&body->view);
}

/* Whether a message may be sent here and now; asked after anything that may run Python code. */
static int check(End *self)
{
	if (fast_end_check(self) != 0)
		return -1;
	if (self->loan != NULL) {
		fast_fail(self, -EINPROGRESS, 0);
		return -1;
	}
	return 0;
}

/*
 * Send, waiting for room until the deadline. Returns 0, a negative errno that
 * nobody has raised yet, or 1 with an exception set.
 */
static int send_body(End *self, const struct body *body, uint64_t deadline_ns)
{
	int status, verdict = 0;

	while ((status = mf_sender_send(&self->end, body->data, (size_t)body->size)) == -EAGAIN) {
		if (verdict < 0)
			return verdict;
		verdict = fast_end_wait(self, (size_t)body->size, deadline_ns);
		if (verdict > 0 || check(self) != 0)
			return 1;
	}
	return status;
}

/* What an exception needs to know beside the status: a pid, or a size. */
static PyObject *fail(End *self, int status, Py_ssize_t size)
{
	if (status > 0)
		return NULL;
	if (status == -ECONNRESET || status == -ETIMEDOUT)
		size = self->peer_pid;
	return fast_fail(self, status, size);
}

static PyObject *sender_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
			     PyObject *kwnames)
{
	static const char *const names[] = {"data", "timeout"};
	End *self = (End *)object;
	PyObject *slots[2] = {NULL, NULL};
	uint64_t deadline_ns = UINT64_MAX;
	struct body body;
	int status;

	if (nargs == 1 && kwnames == NULL)
		slots[0] = args[0];
	else if (fast_arguments("send", names, 2, args, nargs, kwnames, slots) != 0 ||
		 fast_deadline(slots[1], &deadline_ns) != 0)
		return NULL;
	if (slots[0] == NULL)
		return PyErr_Format(PyExc_TypeError, "send() needs the data to send");
	if (body_open(&body, slots[0]) != 0)
		return NULL;
	status = check(self) == 0 ? send_body(self, &body, deadline_ns) : 1;
	body_close(&body);
	if (status != 0)
		return fail(self, status, body.size);
	Py_RETURN_NONE;
}

static PyObject *sender_try_send(PyObject *object, PyObject *data)
{
	End *self = (End *)object;
	struct body body;
	int status;

	if (body_open(&body, data) != 0)
		return NULL;
	status = check(self) == 0 ? mf_sender_send(&self->end, body.data, (size_t)body.size) : 1;
	body_close(&body);
	if (status == 0)
		Py_RETURN_TRUE;
	if (status == -EAGAIN)
		Py_RETURN_FALSE;
	return fail(self, status, body.size);
}

/* Refuse what could never be sent before anything is, so that bad input changes nothing. */
static int check_all(End *self, PyObject *list)
{
	for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
		PyObject *item = Py_NewRef(PyList_GetItem(list, i));
		struct body body;
		const int opened = body_open(&body, item) == 0;

		if (opened)
			body_close(&body);
		Py_DECREF(item);
		if (!opened)
			return -1;
		if ((uint64_t)body.size > mf_ring_message_max(self->end.capacity)) {
			fast_fail(self, -EMSGSIZE, body.size);
			return -1;
		}
	}
	return check(self);
}

/* Send one item of a list, which a buffer's or a signal's Python code may change meanwhile. */
static int send_item(End *self, PyObject *list, Py_ssize_t index, uint64_t deadline_ns)
{
	PyObject *item = Py_NewRef(PyList_GetItem(list, index));
	struct body body;
	int status = 1;

	if (body_open(&body, item) == 0) {
		if (check(self) == 0)
			status = send_body(self, &body, deadline_ns);
		body_close(&body);
	}
	Py_DECREF(item);
	return status;
}

static PyObject *sender_send_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
				  PyObject *kwnames)
{
	static const char *const names[] = {"sequence", "timeout"};
	End *self = (End *)object;
	PyObject *slots[2] = {NULL, NULL}, *list;
	uint64_t deadline_ns;
	Py_ssize_t sent = 0;
	int status = 0;

	if (fast_arguments("send_many", names, 2, args, nargs, kwnames, slots) != 0 ||
	    fast_deadline(slots[1], &deadline_ns) != 0)
		return NULL;
	if (slots[0] == NULL)
		return PyErr_Format(PyExc_TypeError, "send_many() needs the messages to send");
	if (PyBytes_Check(slots[0]) || PyByteArray_Check(slots[0]))
		return PyErr_Format(PyExc_TypeError, "send_many() takes a sequence of messages; "
						     "send() takes one");
	list = PyList_CheckExact(slots[0]) ? Py_NewRef(slots[0]) : PySequence_List(slots[0]);
	if (list == NULL)
		return NULL;
	if (check_all(self, list) != 0)
		status = 1;
	while (status == 0 && sent < PyList_Size(list)) {
		status = send_item(self, list, sent, deadline_ns);
		if (status == 0)
			sent++;
	}
	Py_DECREF(list);
	if (status > 0 || (status < 0 && status != -ETIMEDOUT && sent == 0))
		return fail(self, status, 0);
	/* What went is told; if the receiver is gone, the next call says so. */
	return PyLong_FromSsize_t(sent);
}

static PyObject *sender_loan(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
			     PyObject *kwnames)
{
	static const char *const names[] = {"size", "timeout"};
	End *self = (End *)object;
	PyObject *slots[2] = {NULL, NULL};
	uint64_t deadline_ns;
	Py_ssize_t size;
	void *place;
	int status, verdict = 0;

	if (fast_arguments("loan", names, 2, args, nargs, kwnames, slots) != 0 ||
	    fast_deadline(slots[1], &deadline_ns) != 0)
		return NULL;
	if (slots[0] == NULL)
		return PyErr_Format(PyExc_TypeError, "loan() needs a size in bytes");
	size = PyLong_AsSsize_t(slots[0]);
	if (size < 0)
		return PyErr_Occurred() ? NULL
					: PyErr_Format(PyExc_ValueError,
						       "loan() needs a size of 0 or more bytes");
	if (check(self) != 0)
		return NULL;
	while ((status = mf_sender_loan(&self->end, (size_t)size, &place)) == -EAGAIN) {
		if (verdict < 0)
			return fail(self, verdict, size);
		verdict = fast_end_wait(self, (size_t)size, deadline_ns);
		if (verdict > 0 || check(self) != 0)
			return NULL;
	}
	return status == 0 ? fast_loan_new(self, place, size) : fail(self, status, size);
}

/*
 * Docstrings begin with a signature for inspect.signature().
 */
#define DOC_SEND                                                                                  \
	"send($self, /, data, timeout=None)\n--\n\n"                                              \
	"Send one message; wait for room if there is none.\n\n"                                   \
	"Any thread of the process that claimed this end may call it. One copy; no system call\n" \
	"unless the receiver sleeps; the GIL is kept unless this call must wait.\n\n"             \
	"Args:\n"                                                                                 \
	"    data: Any C-contiguous bytes-like, of 0 to max_message bytes.\n"                     \
	"    timeout: Seconds to wait for room; None: for ever; 0: only try.\n\n"                 \
	"Raises:\n"                                                                               \
	"    MessageTooLarge: It could never fit; nothing was sent.\n"                            \
	"    WaitTimeout: No room in time; nothing was sent.\n"                                   \
	"    ClosedError: This end, or the receiver, was closed.\n"                               \
	"    PeerDiedError: No room, and the receiver died; told within 100 ms.\n"
#define DOC_TRY_SEND                       \
	"try_send($self, data, /)\n--\n\n" \
	"Send one message if there is room now: True, or False with nothing sent. As send()."
#define DOC_SEND_MANY                                                                           \
	"send_many($self, /, sequence, timeout=None)\n--\n\n"                                   \
	"Send the messages in order and return how many went.\n\n"                              \
	"All are checked before the first is sent, so one that is no bytes-like or too large\n" \
	"changes nothing. Fewer than all went if the timeout ran out; also if the receiver "    \
	"closed\n"                                                                              \
	"or died after some: then the next call raises. Otherwise as send()."
#define DOC_LOAN                                                                                   \
	"loan($self, /, size, timeout=None)\n--\n\n"                                               \
	"Room for one message of size bytes, to be written in place: no copy.\n\n"                 \
	"Use it as `with tx.loan(n) as out:`; out is a writable memoryview. The message is sent\n" \
	"when the block ends, and dropped if it ends with an exception. What is not written "      \
	"keeps\n"                                                                                  \
	"whatever bytes the room held. One loan at a time; send() is refused meanwhile. Waits "    \
	"and\n"                                                                                    \
	"raises as send()."

static PyMethodDef sender_methods[] = {
	{"send", FAST_METHOD(sender_send), METH_FASTCALL | METH_KEYWORDS, DOC_SEND},
	{"try_send", sender_try_send, METH_O, DOC_TRY_SEND},
	{"send_many", FAST_METHOD(sender_send_many), METH_FASTCALL | METH_KEYWORDS, DOC_SEND_MANY},
	{"loan", FAST_METHOD(sender_loan), METH_FASTCALL | METH_KEYWORDS, DOC_LOAN},
	{"_close", fast_end_close, METH_O, NULL},
	{"_disown", fast_end_disown, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot sender_slots[] = {
	{Py_tp_doc, "The writing end of a ring; memfast.ring.Sender is the public class."},
	{Py_tp_new, fast_end_new},
	{Py_tp_dealloc, fast_end_dealloc},
	{Py_tp_methods, sender_methods},
	{Py_tp_getset, fast_end_getset},
	{0, NULL},
};

static PyType_Spec sender_spec = {
	.name = "memfast._fast.Sender",
	.basicsize = sizeof(End),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = sender_slots,
};

int fast_sender_add(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&sender_spec);
	int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

	Py_XDECREF(type);
	return status;
}
