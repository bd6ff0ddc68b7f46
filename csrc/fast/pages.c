/* SPDX-License-Identifier: MIT */
/*
 * pages.c - Pages: memory that stays attached while any view of it lives.
 *
 * This is in C because a cffi buffer is always writable: a read-only
 * attachment needs a buffer whose every view, and every view of a view, is
 * read-only, or a plain assignment would end in SIGSEGV.
 */
#include "fast.h"

enum {
	KIND_SEGMENT = 0,
	KIND_MAPPING = 1,
};

PyTypeObject *fast_pages_type;

/* Pages(address, size, readonly, kind): takes the attachment over. */
static PyObject *pages_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	static const char *const names[] = {"address", "size", "readonly", "kind", NULL};
	Py_ssize_t size;
	unsigned long long address;
	int readonly, kind;
	Pages *self;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "Knpi:Pages", (char **)names, &address,
					 &size, &readonly, &kind))
		return NULL;
	if (address == 0 || size <= 0 || (kind != KIND_SEGMENT && kind != KIND_MAPPING)) {
		PyErr_SetString(PyExc_ValueError, "no such attachment");
		return NULL;
	}
	self = (Pages *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (self == NULL)
		return NULL;
	self->address = (void *)(uintptr_t)address;
	self->size = size;
	self->readonly = readonly;
	self->kind = kind;
	return (PyObject *)self;
}

static void pages_dealloc(PyObject *object)
{
	Pages *self = (Pages *)object;
	PyTypeObject *type = Py_TYPE(object);

	if (self->address != NULL) {
		if (self->kind == KIND_SEGMENT)
			mf_sysv_detach(self->address);
		else
			mf_mapping_unmap(self->address, (size_t)self->size);
	}
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static int pages_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
	Pages *self = (Pages *)object;

	return PyBuffer_FillInfo(view, object, self->address, self->size, self->readonly, flags);
}

static PyObject *pages_address(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromVoidPtr(((Pages *)object)->address);
}

static PyGetSetDef pages_getset[] = {
	{"address", pages_address, NULL, "Where the memory begins in this process.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pages_slots[] = {
	{Py_tp_doc, "Attached memory; detached when the last reference and view are gone."},
	{Py_tp_new, pages_new},
	{Py_tp_dealloc, pages_dealloc},
	{Py_tp_getset, pages_getset},
	{Py_bf_getbuffer, pages_getbuffer},
	{0, NULL},
};

static PyType_Spec pages_spec = {
	.name = "memfast._fast.Pages",
	.basicsize = sizeof(Pages),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = pages_slots,
};

int fast_pages_add(PyObject *module)
{
	fast_pages_type = (PyTypeObject *)PyType_FromSpec(&pages_spec);
	return fast_pages_type == NULL ? -1 : PyModule_AddType(module, fast_pages_type);
}
