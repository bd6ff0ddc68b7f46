/* SPDX-License-Identifier: MIT */
/*
 * sysinfo.c - memfast._fast.sysinfo(): struct mf_sysmem with names. Its numbers
 * become ints when they are looked at; to make them all would cost as much as the call.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

typedef struct {
	PyObject_HEAD
	struct mf_sysmem info;
} SysInfo;

static PyTypeObject *sysinfo_type;

static PyObject *get_count(PyObject *object, void *offset)
{
	uint64_t value;

	memcpy(&value, (char *)&((SysInfo *)object)->info + (size_t)offset, sizeof value);
	return PyLong_FromUnsignedLongLong(value);
}

static PyObject *get_loads(PyObject *object, void *unused)
{
	const double *loads = ((SysInfo *)object)->info.loads;

	(void)unused;
	return Py_BuildValue("(ddd)", loads[0], loads[1], loads[2]);
}

#define COUNT(name, member, doc) \
	{name, get_count, NULL, doc, (void *)offsetof(struct mf_sysmem, member)}

static PyGetSetDef sysinfo_getset[] = {
	COUNT("uptime", uptime_s, "Seconds since boot."),
	{"loads", get_loads, NULL,
	 "Tasks that run or wait for the disk: means of 1, 5 and 15 minutes.", NULL},
	COUNT("totalram", totalram, "Usable memory, bytes."),
	COUNT("freeram", freeram, "Memory that nobody uses, bytes; not what is available."),
	COUNT("sharedram", sharedram, "Shared memory and tmpfs, bytes."),
	COUNT("bufferram", bufferram, "Buffers of block devices, bytes."),
	COUNT("totalswap", totalswap, "Swap, bytes."),
	COUNT("freeswap", freeswap, "Swap that nobody uses, bytes."),
	COUNT("procs", procs, "Tasks; threads count."),
	{NULL, NULL, NULL, NULL, NULL},
};

/* From the bytes of another one: what pickle and copy need. */
static PyObject *sysinfo_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
	const char *bytes;
	Py_ssize_t size;
	SysInfo *self;

	if (keywords != NULL && PyDict_Size(keywords) != 0)
		return PyErr_Format(PyExc_TypeError, "SysInfo() takes no keywords");
	if (!PyArg_ParseTuple(args, "y#", &bytes, &size))
		return NULL;
	if (size != sizeof self->info)
		return PyErr_Format(PyExc_ValueError, "not the bytes of a SysInfo; call sysinfo()");
	self = (SysInfo *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
	if (self != NULL)
		memcpy(&self->info, bytes, sizeof self->info);
	return (PyObject *)self;
}

static PyObject *sysinfo_reduce(PyObject *object, PyObject *unused)
{
	const SysInfo *self = (SysInfo *)object;

	(void)unused;
	return Py_BuildValue("(O(y#))", Py_TYPE(object), (const char *)&self->info,
			     (Py_ssize_t)sizeof self->info);
}

static PyObject *sysinfo_asdict(PyObject *object, PyObject *unused)
{
	PyObject *dict = PyDict_New();

	(void)unused;
	for (const PyGetSetDef *get = sysinfo_getset; dict != NULL && get->name != NULL; get++) {
		PyObject *value = get->get(object, get->closure);

		if (value == NULL || PyDict_SetItemString(dict, get->name, value) != 0)
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

static PyObject *sysinfo_repr(PyObject *object)
{
	PyObject *dict = sysinfo_asdict(object, NULL), *text;

	if (dict == NULL)
		return NULL;
	text = PyUnicode_FromFormat("SysInfo(%R)", dict);
	Py_DECREF(dict);
	return text;
}

static PyObject *sysinfo_compare(PyObject *left, PyObject *right, int operation)
{
	int equal;

	if (!PyObject_TypeCheck(right, sysinfo_type) || (operation != Py_EQ && operation != Py_NE))
		Py_RETURN_NOTIMPLEMENTED;
	equal = memcmp(&((SysInfo *)left)->info, &((SysInfo *)right)->info,
		       sizeof(struct mf_sysmem)) == 0;
	return PyBool_FromLong(equal == (operation == Py_EQ));
}

static Py_hash_t sysinfo_hash(PyObject *object)
{
	const struct mf_sysmem *info = &((SysInfo *)object)->info;
	const Py_hash_t hash = (Py_hash_t)(info->freeram ^ info->uptime_s << 40);

	return hash == -1 ? -2 : hash;
}

static void sysinfo_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyMethodDef sysinfo_methods[] = {
	{"_asdict", sysinfo_asdict, METH_NOARGS, "_asdict($self, /)\n--\n\nThe figures by name."},
	{"__reduce__", sysinfo_reduce, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot sysinfo_slots[] = {
	{Py_tp_doc, "What sysinfo(2) says; sizes in bytes."},
	{Py_tp_new, sysinfo_new},
	{Py_tp_dealloc, sysinfo_dealloc},
	{Py_tp_repr, sysinfo_repr},
	{Py_tp_richcompare, sysinfo_compare},
	{Py_tp_hash, sysinfo_hash},
	{Py_tp_methods, sysinfo_methods},
	{Py_tp_getset, sysinfo_getset},
	{0, NULL},
};

static PyType_Spec sysinfo_spec = {
	.name = "memfast._fast.SysInfo",
	.basicsize = sizeof(SysInfo),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = sysinfo_slots,
};

static PyObject *figures_sysinfo(PyObject *module, PyObject *unused)
{
	SysInfo *self = PyObject_New(SysInfo, sysinfo_type);
	int status;

	(void)module;
	(void)unused;
	if (self == NULL)
		return NULL;
	status = mf_sysmem_info(&self->info);
	if (status == 0)
		return (PyObject *)self;
	Py_DECREF(self);
	errno = -status;
	return PyErr_SetFromErrno(PyExc_OSError);
}

static PyMethodDef functions[] = {
	{"sysinfo", figures_sysinfo, METH_NOARGS,
	 "sysinfo($module, /)\n--\n\n"
	 "The machine's memory by sysinfo(2): the cheapest figures there are.\n\n"
	 "Anyone may ask. Costs one system call, no lock, the GIL kept; numbers become ints when\n"
	 "they are looked at. It has no page cache, so what is available it cannot say: see\n"
	 "meminfo(). The machine's, also in a container and under lxcfs.\n\n"
	 "Returns:\n"
	 "    uptime (seconds), loads (three means), totalram, freeram, sharedram, bufferram,\n"
	 "    totalswap, freeswap (bytes), procs (tasks).\n\n"
	 "Source: sysinfo(2).\n"},
	{NULL, NULL, 0, NULL},
};

int fast_sysinfo_add(PyObject *module)
{
	sysinfo_type = (PyTypeObject *)PyType_FromSpec(&sysinfo_spec);
	if (sysinfo_type == NULL || PyModule_AddType(module, sysinfo_type) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
