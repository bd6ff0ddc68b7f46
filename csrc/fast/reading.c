/* SPDX-License-Identifier: MIT */
/*
 * reading.c - memfast._fast.Reading: a text of keys and numbers, as it was read
 * once. memfast.keyed.Keyed makes a mapping of it.
 *
 * The kernel writes the text where it is kept: no copy, and no memory from
 * malloc() as long as one reading is gone before the next one comes.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <string.h>
#include <structmember.h>

typedef struct {
	PyObject_HEAD
	char *text;
	size_t room; /* bytes at text */
	Py_ssize_t size;
	PyObject *numbers; /* all of them, once somebody asked */
} Reading;

PyTypeObject *fast_reading_type;

/* The text of the reading that went last: the next one's. */
static struct {
	char *text;
	size_t room;
} spare;

static Reading *with_room(PyTypeObject *type, size_t room)
{
	Reading *self = (Reading *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);

	if (self == NULL)
		return NULL;
	self->numbers = Py_NewRef(Py_None);
	if (spare.room >= room) {
		self->text = spare.text;
		self->room = spare.room;
		spare.text = NULL;
		spare.room = 0;
		return self;
	}
	self->text = PyMem_Malloc(room);
	self->room = room;
	if (self->text == NULL) {
		PyErr_NoMemory();
		Py_CLEAR(self);
	}
	return self;
}

static Reading *with_text(PyTypeObject *type, const char *text, size_t size)
{
	Reading *self = with_room(type, size + 1);

	if (self != NULL) {
		memcpy(self->text, text, size);
		self->size = (Py_ssize_t)size;
	}
	return self;
}

PyObject *fast_reading_of(PyTypeObject *type, Procfile *file)
{
	/* meminfo stays as long as it was; a byte more tells. */
	const size_t usual = file->file.fd < 0 ? 0 : (size_t)file->file.text_size;
	const char *text;
	int64_t size;

	if (usual != 0) {
		Reading *self = with_room(type, usual + 1);

		if (self == NULL)
			return NULL;
		self->size =
			mf_procfile_read(&file->file, fast_this_process(), self->text, usual + 1);
		if (self->size == (Py_ssize_t)usual)
			return (PyObject *)self;
		self->size = 0;
		Py_DECREF(self);
	}
	size = fast_procfile_text(file, &text);
	return size <= 0 ? NULL : (PyObject *)with_text(type, text, (size_t)size);
}

static PyObject *reading_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	const char *text;
	Py_ssize_t size;

	if (keywords != NULL && PyDict_Size(keywords) != 0)
		return PyErr_Format(PyExc_TypeError, "a reading takes no keywords");
	if (!PyArg_ParseTuple(args, "y#", &text, &size))
		return NULL;
	return (PyObject *)with_text(type, text, (size_t)size);
}

static void reading_dealloc(PyObject *object)
{
	Reading *self = (Reading *)object;
	PyTypeObject *type = Py_TYPE(object);

	if (spare.text == NULL) {
		spare.text = self->text;
		spare.room = self->text == NULL ? 0 : self->room;
	} else {
		PyMem_Free(self->text);
	}
	Py_CLEAR(self->numbers);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyObject *reading_text(PyObject *object, void *closure)
{
	(void)closure;
	return PyBytes_FromStringAndSize(((Reading *)object)->text, ((Reading *)object)->size);
}

static PyObject *reading_odd(const Reading *self, PyObject *key)
{
	PyObject *all = fast_table(self->text, (size_t)self->size);
	PyObject *value = all == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(all, key));

	Py_XDECREF(all);
	if (value == NULL && !PyErr_Occurred())
		Py_RETURN_NONE;
	return value;
}

/* The number of one key, or None. */
static PyObject *reading_field(PyObject *object, PyObject *key)
{
	const Reading *self = (Reading *)object;
	Py_ssize_t key_size;
	const char *name;
	uint64_t value;
	int status;

	if (!PyUnicode_Check(key))
		Py_RETURN_NONE;
	name = PyUnicode_AsUTF8AndSize(key, &key_size);
	if (name ==
	    NULL) { /* bytes that are no UTF-8, as fast_table() tells them: the dict knows */
		PyErr_Clear();
		return reading_odd(self, key);
	}
	status = mf_text_find(self->text, (size_t)self->size, name, (size_t)key_size, &value);
	if (status != 0)
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLongLong(value);
}

static PyObject *reading_table(PyObject *object, PyObject *unused)
{
	const Reading *self = (Reading *)object;

	(void)unused;
	return fast_table(self->text, (size_t)self->size);
}

static PyMethodDef methods[] = {
	{"_field", reading_field, METH_O,
	 "_field($self, key, /)\n--\n\nOne key's number, or None."},
	{"_table", reading_table, METH_NOARGS, "_table($self, /)\n--\n\nAll of them, as a dict."},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
	{"_numbers", T_OBJECT_EX, offsetof(Reading, numbers), 0, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef getset[] = {
	{"_text", reading_text, NULL, "The text, as bytes.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_doc, "One reading of a text of keys and numbers."},
	{Py_tp_new, reading_new},
	{Py_tp_dealloc, reading_dealloc},
	{Py_tp_methods, methods},
	{Py_tp_members, members},
	{Py_tp_getset, getset},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "memfast._fast.Reading",
	.basicsize = sizeof(Reading),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int fast_reading_add(PyObject *module)
{
	fast_reading_type = (PyTypeObject *)PyType_FromSpec(&spec);
	if (fast_reading_type == NULL)
		return -1;
	return PyModule_AddType(module, fast_reading_type);
}
