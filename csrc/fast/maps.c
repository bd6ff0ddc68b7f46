/* SPDX-License-Identifier: MIT */
/*
 * maps.c - the text of /proc/PID/maps and smaps as a list of named tuples.
 *
 * A process may have a hundred thousand mappings, so what a row costs counts.
 * Each row is filled into one scratch tuple and copied as type(row). A column
 * whose value is that of the row before keeps its object, and texts that come
 * back (a library's path, "r-xp") are found in a small table: most rows make
 * few new objects, and a list of them is small. The text was read by cffi,
 * without the GIL; it is kept here.
 */
#include "fast.h"

#include <string.h>

enum {
	VMA_FIELDS = 7,
	/* A Vma's, then the figures; VmFlags; the lines that are not known. */
	FLAGS_FIELD = VMA_FIELDS + MF_PROCMAPS_FIGURES,
	OTHERS_FIELD,
	SMAP_FIELDS,
	TEXTS = 64, /* a power of two */
};

struct text {
	const char *bytes;
	size_t size;
	PyObject *object;
};

struct rows {
	PyObject *scratch;   /* a tuple of the row's fields, refilled for each row */
	PyObject *arguments; /* (scratch,), for tuple.__new__ */
	PyObject *list;
	PyTypeObject *type;
	newfunc make;
	uint64_t numbers[SMAP_FIELDS]; /* what the scratch tuple holds where it holds a number */
	struct text texts[TEXTS];      /* the last of each hash */
};

static int set(struct rows *rows, Py_ssize_t field, PyObject *object)
{
	return object == NULL ? -1 : PyTuple_SetItem(rows->scratch, field, object);
}

static int set_number(struct rows *rows, Py_ssize_t field, uint64_t number)
{
	if (rows->numbers[field] == number)
		return 0;
	rows->numbers[field] = number;
	return set(rows, field, PyLong_FromUnsignedLongLong(number));
}

static int set_text(struct rows *rows, Py_ssize_t field, const char *bytes, size_t size)
{
	struct text *text;
	size_t hash = size;

	/* What texts differ in is mostly their end. */
	for (size_t i = size < 8 ? 0 : size - 8; i < size; i++)
		hash = hash * 31 + (unsigned char)bytes[i];
	text = &rows->texts[(hash ^ hash >> 8) % TEXTS];
	if (text->object == NULL || text->size != size || memcmp(text->bytes, bytes, size) != 0) {
		Py_XDECREF(text->object);
		text->object = PyUnicode_DecodeFSDefaultAndSize(bytes, (Py_ssize_t)size);
		text->bytes = bytes;
		text->size = size;
	}
	Py_XINCREF(text->object);
	return set(rows, field, text->object);
}

/* Most mappings begin where the one before ends: that number is there already. */
static int set_start(struct rows *rows, uint64_t start)
{
	PyObject *end = PyTuple_GetItem(rows->scratch, 1);

	if (start != rows->numbers[1])
		return set_number(rows, 0, start);
	rows->numbers[0] = start;
	Py_XINCREF(end);
	return set(rows, 0, end);
}

static int set_vma(struct rows *rows, const struct mf_procmaps_vma *vma)
{
	return set_start(rows, vma->start) || set_number(rows, 1, vma->end) ||
			       set_text(rows, 2, vma->perms, 4) ||
			       set_number(rows, 3, vma->offset) ||
			       set_text(rows, 4, vma->device, vma->device_size) ||
			       set_number(rows, 5, vma->inode) ||
			       set_text(rows, 6, vma->path, vma->path_size)
		       ? -1
		       : 0;
}

/* ((key, number or text), ...) of the lines that are not known. */
static PyObject *others_of(const struct mf_procmaps_smap *smap)
{
	const char *at = smap->lines, *const end = at + smap->lines_size;
	PyObject *others = PyTuple_New((Py_ssize_t)smap->others);
	struct mf_procmaps_other other;

	for (Py_ssize_t i = 0; others != NULL && i < (Py_ssize_t)smap->others; i++) {
		PyObject *pair = NULL;

		if (mf_procmaps_other(&at, end, &other)) {
			PyObject *value =
				other.has_number ? PyLong_FromUnsignedLongLong(other.number)
						 : PyUnicode_DecodeFSDefaultAndSize(
							   other.text, (Py_ssize_t)other.text_size);
			PyObject *key = PyUnicode_DecodeFSDefaultAndSize(
				other.key, (Py_ssize_t)other.key_size);

			if (key != NULL && value != NULL)
				pair = PyTuple_Pack(2, key, value);
			Py_XDECREF(key);
			Py_XDECREF(value);
		}
		if (pair == NULL || PyTuple_SetItem(others, i, pair) != 0)
			Py_CLEAR(others);
	}
	return others;
}

static int set_smap(struct rows *rows, const struct mf_procmaps_smap *smap)
{
	for (Py_ssize_t i = 0; i < MF_PROCMAPS_THP_ELIGIBLE; i++)
		if (set_number(rows, VMA_FIELDS + i, smap->figures[i]) != 0)
			return -1;
	return set(rows, VMA_FIELDS + MF_PROCMAPS_THP_ELIGIBLE,
		   PyBool_FromLong(smap->figures[MF_PROCMAPS_THP_ELIGIBLE] != 0)) ||
			       set_text(rows, FLAGS_FIELD, smap->flags, smap->flags_size) ||
			       set(rows, OTHERS_FIELD, others_of(smap))
		       ? -1
		       : 0;
}

static int append(struct rows *rows)
{
	/* tuple.__new__(type, scratch), which copies; it alone knows what else a tuple holds. */
	PyObject *row = rows->make(rows->type, rows->arguments, NULL);
	const int status = row == NULL ? -1 : PyList_Append(rows->list, row);

	Py_XDECREF(row);
	return status;
}

static int fill(struct rows *rows, const char *at, const char *end, int with_figures)
{
	struct mf_procmaps_vma vma;
	struct mf_procmaps_smap smap;

	while (mf_procmaps_next(&at, end, &vma)) {
		if (set_vma(rows, &vma) != 0)
			return -1;
		if (with_figures) {
			mf_procmaps_figures(&at, end, &smap);
			if (set_smap(rows, &smap) != 0)
				return -1;
		}
		if (append(rows) != 0)
			return -1;
	}
	return 0;
}

/* A tuple of zeros, as rows->numbers has them. */
static PyObject *zeros(Py_ssize_t count)
{
	PyObject *tuple = PyTuple_New(count);

	for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
		PyObject *zero = PyLong_FromLong(0);

		if (zero == NULL || PyTuple_SetItem(tuple, i, zero) != 0)
			Py_CLEAR(tuple);
	}
	return tuple;
}

static PyObject *rows_of(PyObject *const *args, Py_ssize_t nargs, int with_figures)
{
	struct rows rows = {.make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new)};
	Py_buffer text;
	int collects;

	/* A plain tuple's __new__ would not copy. */
	if (nargs != 2 || !PyType_Check(args[1]) || args[1] == (PyObject *)&PyTuple_Type ||
	    !PyType_IsSubtype((PyTypeObject *)args[1], &PyTuple_Type))
		return PyErr_Format(PyExc_TypeError, "takes a text and a subclass of tuple");
	if (PyObject_GetBuffer(args[0], &text, PyBUF_SIMPLE) != 0)
		return NULL;
	rows.type = (PyTypeObject *)args[1];
	rows.scratch = zeros(with_figures ? SMAP_FIELDS : VMA_FIELDS);
	rows.arguments = rows.scratch == NULL ? NULL : PyTuple_Pack(1, rows.scratch);
	rows.list = PyList_New(0);
	if (rows.arguments == NULL || rows.list == NULL)
		Py_CLEAR(rows.list);
	/* The reference of `arguments` is enough; PyTuple_SetItem() wants the only one. */
	Py_XDECREF(rows.scratch);
	/*
	 * Rows hold no cycle, so a collection could only cost, once in 700 of them. And nobody
	 * gets to see the scratch tuple: the GIL is ours, and no code of Python's runs.
	 */
	collects = PyGC_Disable();
	if (rows.list != NULL &&
	    fill(&rows, text.buf, (const char *)text.buf + text.len, with_figures) != 0)
		Py_CLEAR(rows.list);
	if (collects)
		PyGC_Enable();
	for (size_t i = 0; i < TEXTS; i++)
		Py_XDECREF(rows.texts[i].object);
	Py_XDECREF(rows.arguments);
	PyBuffer_Release(&text);
	return rows.list;
}

static PyObject *vmas(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	(void)module;
	return rows_of(args, nargs, 0);
}

static PyObject *smaps(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	(void)module;
	return rows_of(args, nargs, 1);
}

static PyMethodDef functions[] = {
	{"vmas", FAST_METHOD(vmas), METH_FASTCALL,
	 "vmas($module, text, type, /)\n--\n\nThe mappings in the text of a maps or smaps."},
	{"smaps", FAST_METHOD(smaps), METH_FASTCALL,
	 "smaps($module, text, type, /)\n--\n\nThe mappings in the text of a smaps, with figures."},
	{NULL, NULL, 0, NULL},
};

int fast_maps_add(PyObject *module)
{
	return PyModule_AddFunctions(module, functions);
}
