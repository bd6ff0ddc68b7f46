/* SPDX-License-Identifier: MIT */
/* module.c - the module memfast._fast itself, and how its calls read their arguments. */
#define _GNU_SOURCE
#include "fast.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

pid_t *fast_guard;

/* Seconds from now, or None for ever, into CLOCK_MONOTONIC; 0 means "only try". */
int fast_deadline(PyObject *timeout, uint64_t *deadline_ret)
{
	double seconds;
	uint64_t now;

	if (timeout == NULL || timeout == Py_None) {
		*deadline_ret = UINT64_MAX;
		return 0;
	}
	seconds = PyFloat_AsDouble(timeout);
	if (seconds == -1.0 && PyErr_Occurred())
		return -1;
	if (isnan(seconds)) {
		PyErr_SetString(PyExc_ValueError, "timeout is not a number");
		return -1;
	}
	if (seconds <= 0) {
		*deadline_ret = 0;
		return 0;
	}
	now = mf_wait_clock_ns();
	*deadline_ret = seconds < 9e9 ? now + (uint64_t)(seconds * 1e9) : UINT64_MAX;
	return 0;
}

static int keyword(const char *function, const char *const *names, Py_ssize_t count, PyObject *name,
		   PyObject *value, PyObject **slots)
{
	for (Py_ssize_t i = 0; i < count; i++) {
		if (PyUnicode_CompareWithASCIIString(name, names[i]) != 0)
			continue;
		if (slots[i] != NULL) {
			PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
				     function, names[i]);
			return -1;
		}
		slots[i] = value;
		return 0;
	}
	PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function,
		     name);
	return -1;
}

int fast_arguments(const char *function, const char *const *names, Py_ssize_t count,
		   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **slots)
{
	if (nargs > count) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)",
			     function, count, nargs);
		return -1;
	}
	for (Py_ssize_t i = 0; i < nargs; i++)
		slots[i] = args[i];
	for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_Size(kwnames); i++)
		if (keyword(function, names, count, PyTuple_GetItem(kwnames, i), args[nargs + i],
			    slots) != 0)
			return -1;
	return 0;
}

static int guard_make(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED) {
		PyErr_SetFromErrno(PyExc_ImportError);
		return -1;
	}
	if (madvise(page, 4096, MADV_WIPEONFORK) != 0) {
		munmap(page, 4096);
		PyErr_SetString(PyExc_ImportError, "memfast needs Linux 4.14 (MADV_WIPEONFORK)");
		return -1;
	}
	fast_guard = page;
	return 0;
}

/* Runs for each interpreter that imports the module: all but the main one are refused. */
static int execute(PyObject *module)
{
	if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
		PyErr_SetString(
			PyExc_ImportError,
			"memfast does not load in a sub-interpreter; use it from the main one");
		return -1;
	}
	if (fast_guard == NULL && guard_make() != 0)
		return -1;
	return fast_pages_add(module) || fast_sender_add(module) || fast_receiver_add(module) ||
			       fast_lending_add(module) || fast_procfile_add(module) ||
			       fast_sysinfo_add(module) || fast_reading_add(module) ||
			       fast_meminfo_add(module) || fast_maps_add(module)
		       ? -1
		       : 0;
}

static PyModuleDef_Slot slots[] = {
	{Py_mod_exec, execute},
	{0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "memfast._fast",
	.m_doc = "The calls too short for cffi; see csrc/fast/fast.h.",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__fast(void)
{
	return PyModuleDef_Init(&definition);
}
