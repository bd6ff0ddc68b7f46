/* SPDX-License-Identifier: MIT */
/*
 * meminfo.c - memfast._fast.meminfo(), virtual_memory() and free(): what is made
 * of /proc/meminfo.
 *
 * After five microseconds in the kernel the caches hold little of the
 * interpreter: a frame of Python costs more here than elsewhere. So these are
 * whole in C, down to the objects that memfast/sysmem.py defines and binds.
 */
#define _GNU_SOURCE
#include "fast.h"

#include <errno.h>
#include <math.h>

/* ---- records that are tuples ---- */

#define COUNT_OF(array) ((Py_ssize_t)(sizeof(array) / sizeof((array)[0])))

/*
 * A record of `count` items to be set. A tuple of Python 3.14 keeps its hash, which
 * only tuple.__new__ sets up: there the items go through a plain tuple, see below.
 */
static PyObject *record_new(PyTypeObject *type, Py_ssize_t count)
{
	return Py_Version < 0x030E0000 ? ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, count)
				       : PyTuple_New(count);
}

static PyObject *record_done(PyTypeObject *type, PyObject *items)
{
	PyObject *record = NULL, *args;

	if (items == NULL || Py_Version < 0x030E0000)
		return items;
	args = PyTuple_Pack(1, items);
	if (args != NULL)
		record = ((newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new))(type, args, NULL);
	Py_XDECREF(args);
	Py_DECREF(items);
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

/* ---- what is made of /proc/meminfo ---- */

/* What memfast/sysmem.py gave to bind_meminfo(). */
static struct {
	Procfile *file;
	PyTypeObject *reading, *virtual_memory;
	PyObject *estimate, *fail;
	struct mf_meminfo_places places;
} meminfo;

/* Let fail(error) say what an OSError of reading means; always NULL. */
static PyObject *explain(void)
{
	PyObject *type, *value, *traceback, *result;

	if (!PyErr_ExceptionMatches(PyExc_OSError))
		return NULL;
	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	result = PyObject_CallFunctionObjArgs(meminfo.fail, value, NULL);
	Py_XDECREF(result);
	if (!PyErr_Occurred())
		PyErr_SetString(PyExc_SystemError, "fail() did not raise");
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	return NULL;
}

static int is_bound(void)
{
	if (meminfo.file == NULL)
		PyErr_SetString(PyExc_SystemError, "bind_meminfo() comes first");
	return meminfo.file != NULL;
}

/* Raise that the file is empty, or no meminfo at all; always NULL. */
static PyObject *no_meminfo(void)
{
	errno = EIO;
	PyErr_SetFromErrnoWithFilename(PyExc_OSError, meminfo.file->path);
	return explain();
}

static PyObject *figures_meminfo(PyObject *module, PyObject *unused)
{
	PyObject *reading = is_bound() ? fast_reading_of(meminfo.reading, meminfo.file) : NULL;

	(void)module;
	(void)unused;
	if (reading != NULL)
		return reading;
	return PyErr_Occurred() ? explain() : no_meminfo();
}

static int estimated(uint64_t *available_ret)
{
	PyObject *estimate = PyObject_CallFunctionObjArgs(meminfo.estimate, NULL);

	if (estimate == NULL)
		return -1;
	*available_ret = PyLong_AsUnsignedLongLong(estimate);
	Py_DECREF(estimate);
	return PyErr_Occurred() ? -1 : 0;
}

static PyObject *figures_virtual_memory(PyObject *module, PyObject *unused)
{
	struct mf_meminfo info;
	const char *text;
	const int64_t size = is_bound() ? fast_procfile_text(meminfo.file, &text) : -1;
	PyObject *record;

	(void)module;
	(void)unused;
	if (size < 0)
		return explain();
	mf_meminfo_parse(text, (size_t)size, 0, &meminfo.places, &info);
	if (info.total == 0)
		return no_meminfo();
	if (info.available == 0 && estimated(&info.available) != 0)
		return NULL;
	if (info.available > info.total)
		info.available = info.free;

	const int64_t used = (int64_t)(info.total - info.available);
	const double percent = round_tenth((double)used / (double)info.total * 100);
	const uint64_t numbers[] = {info.total,	   info.available, 0 /* percent */,
				    0 /* used */,  info.free,	   info.active,
				    info.inactive, info.buffers,   info.cached + info.reclaimable,
				    info.shmem,	   info.slab};

	record = record_new(meminfo.virtual_memory, COUNT_OF(numbers));
	for (Py_ssize_t i = 0; record != NULL && i < COUNT_OF(numbers); i++) {
		PyObject *item = i == 2	  ? PyFloat_FromDouble(percent)
				 : i == 3 ? PyLong_FromLongLong(used)
					  : PyLong_FromUnsignedLongLong(numbers[i]);

		if (item == NULL || PyTuple_SetItem(record, i, item) != 0)
			Py_CLEAR(record);
	}
	return record_done(meminfo.virtual_memory, record);
}

#define SET(place, value)                        \
	do {                                     \
		Py_XDECREF((PyObject *)(place)); \
		(place) = (value);               \
	} while (0)

/* bind_meminfo(file, reading, virtual_memory, estimate, fail): what the two above work with. */
static PyObject *bind_meminfo(PyObject *module, PyObject *args)
{
	PyObject *file, *reading, *record, *estimate, *fail;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!O!O!OO", fast_procfile_type, &file, &PyType_Type, &reading,
			      &PyType_Type, &record, &estimate, &fail))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)reading, fast_reading_type) ||
	    !PyType_IsSubtype((PyTypeObject *)record, &PyTuple_Type))
		return PyErr_Format(PyExc_TypeError,
				    "bind_meminfo() takes a Reading type and a tuple type");
	SET(meminfo.file, (Procfile *)Py_NewRef(file));
	SET(meminfo.reading, (PyTypeObject *)Py_NewRef(reading));
	SET(meminfo.virtual_memory, (PyTypeObject *)Py_NewRef(record));
	SET(meminfo.estimate, Py_NewRef(estimate));
	SET(meminfo.fail, Py_NewRef(fail));
	Py_RETURN_NONE;
}

/* free(text): struct mf_free as a tuple, in its order. */
static PyObject *figures_free(PyObject *module, PyObject *text)
{
	struct mf_meminfo_places places = {0};
	struct mf_meminfo info;
	struct mf_free figures;
	Py_ssize_t size;
	char *bytes;

	(void)module;
	if (PyBytes_AsStringAndSize(text, &bytes, &size) != 0)
		return NULL;
	mf_meminfo_parse(bytes, (size_t)size, 1, &places, &info);
	mf_meminfo_free(&info, &figures);
	return Py_BuildValue("(KLKKKKKKKKKKKKKKKK)", figures.total, (long long)figures.used,
			     figures.free, figures.shared, figures.buffers, figures.cache,
			     figures.available, figures.swap_total, figures.swap_used,
			     figures.swap_free, figures.low_total, figures.low_used,
			     figures.low_free, figures.high_total, figures.high_used,
			     figures.high_free, figures.commit_limit, figures.committed);
}

static PyMethodDef functions[] = {
	{"meminfo", figures_meminfo, METH_NOARGS,
	 "meminfo($module, /)\n--\n\n"
	 "Read /proc/meminfo: every line of it, as a mapping and as attributes, in bytes.\n\n"
	 "Anyone may ask. Costs one read through a descriptor that stays open, about 5 us in\n"
	 "the kernel, which writes the text; a key costs 0.3 us when it is looked at. The GIL is\n"
	 "kept, unless the file is not of procfs (lxcfs). The machine's figures, also in a\n"
	 "container, unless lxcfs replaces the file.\n\n"
	 "Raises:\n"
	 "    NotSupportedError: /proc is not mounted, or hides it.\n\n"
	 "Source: proc_meminfo(5).\n"},
	{"virtual_memory", figures_virtual_memory, METH_NOARGS,
	 "virtual_memory($module, /)\n--\n\n"
	 "Say what psutil.virtual_memory() says, at the price of reading /proc/meminfo.\n\n"
	 "Anyone may ask. Costs one read through a descriptor that stays open (about 5 us in the\n"
	 "kernel) and a microsecond more; the GIL is kept, unless the file is not of procfs\n"
	 "(lxcfs). The machine's figures; in a container see memfast.stats.effective().\n\n"
	 "Raises:\n"
	 "    NotSupportedError: /proc is not mounted, or hides it.\n\n"
	 "Source: proc_meminfo(5).\n"},
	{"bind_meminfo", bind_meminfo, METH_VARARGS, NULL},
	{"free", figures_free, METH_O,
	 "free($module, text, /)\n--\n\nstruct mf_free of a meminfo, as a tuple."},
	{NULL, NULL, 0, NULL},
};

int fast_meminfo_add(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
