/* SPDX-License-Identifier: MIT */
/*
 * procfile.c - memfast._fast.Procfile: a file of /proc that is read again and
 * again; and what turns its text into numbers.
 *
 * The GIL is kept for a read through a kept descriptor, which is procfs and
 * takes microseconds, and let go to open the file, which may be anything.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES_FIRST = 8192, BUFFER_BYTES_MAX = 64 << 20 };

PyTypeObject *fast_procfile_type;

/* This process, without a system call: the guard page is zero in a forked child. */
pid_t fast_this_process(void)
{
	if (*fast_guard == 0)
		*fast_guard = getpid();
	return *fast_guard;
}

static int grow(Procfile *self)
{
	const size_t size = self->size == 0 ? BUFFER_BYTES_FIRST : 2 * self->size;
	char *buffer = size > BUFFER_BYTES_MAX ? NULL : PyMem_Realloc(self->buffer, size);

	if (buffer == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	self->buffer = buffer;
	self->size = size;
	return 0;
}

/* Open and read without the GIL, into memory of this thread's own. */
static int64_t open_and_read(Procfile *self, size_t size)
{
	struct mf_procfile opened;
	int64_t count;
	char *buffer = PyMem_Malloc(size);

	if (buffer == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	Py_BEGIN_ALLOW_THREADS
	count = mf_procfile_open(&opened, self->path, buffer, size);
	Py_END_ALLOW_THREADS
	if (self->file.fd < 0)
		self->file = opened;
	else
		mf_procfile_close(&opened); /* another thread was faster */
	if (count < 0) {
		PyMem_Free(buffer);
		errno = (int)-count;
		PyErr_SetFromErrnoWithFilename(PyExc_OSError, self->path);
		return -1;
	}
	PyMem_Free(self->buffer);
	self->buffer = buffer;
	self->size = size;
	return count;
}

/* The whole text, valid until the GIL is let go: its size, or -1 with an exception set. */
int64_t fast_procfile_text(Procfile *self, const char **text_ret)
{
	int64_t count;

	if (self->size == 0 && grow(self) != 0)
		return -1;
	count = mf_procfile_read(&self->file, fast_this_process(), self->buffer, self->size);
	if (count == -EBADF)
		count = open_and_read(self, self->size);
	while (count >= 0 && (size_t)count == self->size) {
		if (grow(self) != 0)
			return -1;
		count = mf_procfile_read(&self->file, fast_this_process(), self->buffer,
					 self->size);
		if (count == -EBADF)
			count = open_and_read(self, self->size);
	}
	*text_ret = self->buffer;
	return count;
}

static PyObject *procfile_read(PyObject *object, PyObject *unused)
{
	const char *text;
	const int64_t size = fast_procfile_text((Procfile *)object, &text);

	(void)unused;
	return size < 0 ? NULL : PyBytes_FromStringAndSize(text, (Py_ssize_t)size);
}

static PyObject *procfile_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static const char *const names[] = {"path", NULL};
	PyObject *path = NULL;
	Procfile *self;
	char *bytes;
	Py_ssize_t size;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&", (char **)names,
					 PyUnicode_FSConverter, &path))
		return NULL;
	self = (Procfile *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (self != NULL && PyBytes_AsStringAndSize(path, &bytes, &size) == 0) {
		self->file.fd = -1;
		self->path = PyMem_Malloc((size_t)size + 1);
		if (self->path == NULL)
			PyErr_NoMemory();
		else
			memcpy(self->path, bytes, (size_t)size + 1);
	}
	Py_DECREF(path);
	if (PyErr_Occurred())
		Py_CLEAR(self);
	return (PyObject *)self;
}

static void procfile_dealloc(PyObject *object)
{
	Procfile *self = (Procfile *)object;
	PyTypeObject *type = Py_TYPE(object);

	mf_procfile_close(&self->file);
	PyMem_Free(self->buffer);
	PyMem_Free(self->path);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

/* {key: number} of all lines that have both. */
PyObject *fast_table(const char *at, size_t size)
{
	const char *const end = at + size;
	PyObject *dict = PyDict_New();
	struct mf_text_field field;

	while (dict != NULL && mf_text_next(&at, end, &field)) {
		PyObject *key = PyUnicode_DecodeUTF8(field.key, (Py_ssize_t)field.key_size,
						     "surrogateescape");
		PyObject *value = PyLong_FromUnsignedLongLong(field.value);

		if (key == NULL || value == NULL || PyDict_SetItem(dict, key, value) != 0)
			Py_CLEAR(dict);
		Py_XDECREF(key);
		Py_XDECREF(value);
	}
	return dict;
}

static PyObject *table(PyObject *module, PyObject *text)
{
	Py_ssize_t size;
	char *bytes;

	(void)module;
	if (PyBytes_AsStringAndSize(text, &bytes, &size) != 0)
		return NULL;
	return fast_table(bytes, (size_t)size);
}

/* field(text, key): the number of one key, or None. */
static PyObject *field(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	Py_ssize_t size, key_size;
	char *text, *key;
	uint64_t value;

	(void)module;
	if (nargs != 2)
		return PyErr_Format(PyExc_TypeError, "field() takes a text and a key");
	if (PyBytes_AsStringAndSize(args[0], &text, &size) != 0 ||
	    PyBytes_AsStringAndSize(args[1], &key, &key_size) != 0)
		return NULL;
	if (mf_text_find(text, (size_t)size, key, (size_t)key_size, &value) != 0)
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLongLong(value);
}

/* resident(file): the second number of a statm, in bytes. */
static PyObject *resident(PyObject *module, PyObject *file)
{
	uint64_t pages = 0;
	const char *text, *end, *at;
	int64_t size;

	(void)module;
	if (!PyObject_TypeCheck(file, fast_procfile_type))
		return PyErr_Format(PyExc_TypeError, "resident() takes a Procfile");
	size = fast_procfile_text((Procfile *)file, &text);
	if (size < 0)
		return NULL;
	end = text + size;
	at = mf_text_number(text, end, &pages);
	if (at == NULL || at == end || mf_text_number(at + 1, end, &pages) == NULL)
		return PyErr_Format(PyExc_ValueError, "not the text of a statm");
	return PyLong_FromUnsignedLongLong(pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

static PyMethodDef methods[] = {
	{"read", procfile_read, METH_NOARGS, "read($self, /)\n--\n\nThe whole text, as bytes."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
	{Py_tp_doc,
	 "A file of /proc, read through a descriptor that is kept; see csrc/procfile.c."},
	{Py_tp_new, procfile_new},
	{Py_tp_dealloc, procfile_dealloc},
	{Py_tp_methods, methods},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "memfast._fast.Procfile",
	.basicsize = sizeof(Procfile),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = type_slots,
};

static PyMethodDef functions[] = {
	{"table", table, METH_O,
	 "table($module, text, /)\n--\n\nEvery key and number of the text, as a dict."},
	{"field", FAST_METHOD(field), METH_FASTCALL,
	 "field($module, text, key, /)\n--\n\nThe number of one key of the text, or None."},
	{"resident", resident, METH_O,
	 "resident($module, file, /)\n--\n\nThe resident bytes of a statm."},
	{NULL, NULL, 0, NULL},
};

int fast_procfile_add(PyObject *module)
{
	fast_procfile_type = (PyTypeObject *)PyType_FromSpec(&spec);
	if (fast_procfile_type == NULL || PyModule_AddType(module, fast_procfile_type) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
