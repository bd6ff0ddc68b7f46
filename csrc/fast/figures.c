/* SPDX-License-Identifier: MIT */
/*
 * figures.c - the figures of memory that are asked for at high rates: sysinfo(),
 * virtual_memory(), free(), and a process's resident size.
 *
 * What costs is the kernel; here a record is filled without a dictionary or a
 * parser of Python's between, and sysinfo()'s without even its numbers: they
 * become ints when they are looked at.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* ---- SysInfo: struct mf_sysmem with names ---- */

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

/* ---- records that are tuples ---- */

#define COUNT_OF(array) ((Py_ssize_t)(sizeof(array) / sizeof((array)[0])))

/* type(numbers), where type is a subclass of tuple; takes the tuple. */
static PyObject *record_of(PyTypeObject *type, PyObject *numbers)
{
	PyObject *record = NULL, *args = numbers == NULL ? NULL : PyTuple_Pack(1, numbers);

	/* Not tp_alloc: a tuple of Python 3.14 keeps its hash, which only tuple.__new__ sets up. */
	if (args != NULL)
		record = ((newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new))(type, args, NULL);
	Py_XDECREF(args);
	Py_XDECREF(numbers);
	return record;
}

/* To one decimal, exactly as Python's round() does: a tie goes to the even digit. */
static double round_tenth(double value)
{
	const long double tenths = (long double)value * 10; /* exact: 53 + 4 bits of 64 */
	long double whole = floorl(tenths);
	const long double rest = tenths - whole;

	if (rest > 0.5L || (rest == 0.5L && fmodl(whole, 2) != 0))
		whole += 1;
	return (double)whole / 10;
}

static int is_tuple_type(PyObject *object)
{
	return PyType_Check(object) && PyType_IsSubtype((PyTypeObject *)object, &PyTuple_Type);
}

/*
 * virtual_memory(file, type, estimate): psutil's eleven figures. estimate() is
 * asked for what is available where the kernel does not say.
 */
static PyObject *virtual_memory(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	uint64_t available;
	struct mf_meminfo info;
	const char *text;
	int64_t size;

	(void)module;
	if (nargs != 3 || !PyObject_TypeCheck(args[0], fast_procfile_type) ||
	    !is_tuple_type(args[1]))
		return PyErr_Format(PyExc_TypeError,
				    "virtual_memory() takes a Procfile, a tuple type, a callable");
	size = fast_procfile_text((Procfile *)args[0], &text);
	if (size < 0)
		return NULL;
	mf_meminfo_parse(text, (size_t)size, &info);
	if (info.total == 0) {
		errno = EIO; /* an empty file, or not a meminfo at all */
		return PyErr_SetFromErrnoWithFilename(PyExc_OSError, ((Procfile *)args[0])->path);
	}
	available = info.available;
	if (available == 0) {
		PyObject *estimate = PyObject_CallFunctionObjArgs(args[2], NULL);

		if (estimate == NULL)
			return NULL;
		available = PyLong_AsUnsignedLongLong(estimate);
		Py_DECREF(estimate);
		if (PyErr_Occurred())
			return NULL;
	}
	if (available > info.total)
		available = info.free;

	const int64_t used = (int64_t)(info.total - available);

	const uint64_t numbers[] = {info.total,
				    available,
				    0,
				    0,
				    info.free,
				    info.active,
				    info.inactive,
				    info.buffers,
				    info.cached + info.reclaimable,
				    info.shmem,
				    info.slab};
	PyObject *tuple = PyTuple_New(COUNT_OF(numbers));

	for (Py_ssize_t i = 0; tuple != NULL && i < COUNT_OF(numbers); i++) {
		PyObject *item = i == 2	  ? PyFloat_FromDouble(round_tenth((double)used /
									   (double)info.total * 100))
				 : i == 3 ? PyLong_FromLongLong(used)
					  : PyLong_FromUnsignedLongLong(numbers[i]);

		if (item == NULL || PyTuple_SetItem(tuple, i, item) != 0)
			Py_CLEAR(tuple);
	}
	return record_of((PyTypeObject *)args[1], tuple);
}

/* free(text): struct mf_free as a tuple, in its order. */
static PyObject *figures_free(PyObject *module, PyObject *text)
{
	struct mf_meminfo info;
	struct mf_free figures;
	Py_ssize_t size;
	char *bytes;

	(void)module;
	if (PyBytes_AsStringAndSize(text, &bytes, &size) != 0)
		return NULL;
	mf_meminfo_parse(bytes, (size_t)size, &info);
	mf_meminfo_free(&info, &figures);
	return Py_BuildValue("(KLKKKKKKKKKKKKKKKK)", figures.total, (long long)figures.used,
			     figures.free, figures.shared, figures.buffers, figures.cache,
			     figures.available, figures.swap_total, figures.swap_used,
			     figures.swap_free, figures.low_total, figures.low_used,
			     figures.low_free, figures.high_total, figures.high_used,
			     figures.high_free, figures.commit_limit, figures.committed);
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
		return PyErr_Format(PyExc_ValueError, "not the text of a statm: %.80s", text);
	return PyLong_FromUnsignedLongLong(pages * (uint64_t)sysconf(_SC_PAGESIZE));
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
	{"virtual_memory", FAST_METHOD(virtual_memory), METH_FASTCALL,
	 "virtual_memory($module, file, type, estimate, /)\n--\n\npsutil's eleven figures."},
	{"free", figures_free, METH_O,
	 "free($module, text, /)\n--\n\nstruct mf_free of a meminfo, as a tuple."},
	{"resident", resident, METH_O,
	 "resident($module, file, /)\n--\n\nThe resident bytes of a statm."},
	{NULL, NULL, 0, NULL},
};

int fast_figures_add(PyObject *module)
{
	sysinfo_type = (PyTypeObject *)PyType_FromSpec(&sysinfo_spec);
	if (sysinfo_type == NULL || PyModule_AddType(module, sysinfo_type) != 0)
		return -1;
	return PyModule_AddFunctions(module, functions);
}
