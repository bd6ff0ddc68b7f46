/* SPDX-License-Identifier: MIT */
/*
 * procmem.c - how much memory a process has, and how often it faulted.
 *
 * statm and status say what the kernel counts anyway; smaps_rollup has it look at
 * every page of the process, with the lock held that the process needs to map
 * memory.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	TRIES = 4, /* each lost one is a process that maps memory between two reads */
};

/* A line's key, and where its number goes. */
struct key {
	char name[20];
	size_t offset;
};

static uint64_t *place(const struct key *key, void *record)
{
	return (uint64_t *)(void *)((char *)record + key->offset);
}

static const struct key *key_of(const struct mf_text_field *field, const struct key *keys,
				size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(keys[i].name) == field->key_size &&
		    memcmp(keys[i].name, field->key, field->key_size) == 0)
			return &keys[i];
	return NULL;
}

/* The size of the text up to its last whole line: a number that was cut is another number. */
static size_t whole_lines(const char *text, size_t size)
{
	while (size > 0 && text[size - 1] != '\n')
		size--;
	return size;
}

/* ---- what the kernel counts anyway ---- */

#define KEY(name, record, member) {name, offsetof(struct record, member)}

static const struct key STATUS[] = {
	KEY("VmPeak", mf_procmem, peak_vms),	  KEY("VmSize", mf_procmem, vms),
	KEY("VmLck", mf_procmem, locked),	  KEY("VmPin", mf_procmem, pinned),
	KEY("VmHWM", mf_procmem, peak_rss),	  KEY("VmRSS", mf_procmem, rss),
	KEY("RssAnon", mf_procmem, anon),	  KEY("RssFile", mf_procmem, file),
	KEY("RssShmem", mf_procmem, shmem),	  KEY("VmStk", mf_procmem, stack),
	KEY("VmPTE", mf_procmem, page_tables),	  KEY("VmSwap", mf_procmem, swap),
	KEY("HugetlbPages", mf_procmem, hugetlb),
};

/* The lines of /proc/PID/status that are known: proc_pid_status(5). */
void mf_procmem_parse_status(const char *text, size_t size, struct mf_procmem *ret)
{
	const char *const end = text + whole_lines(text, size);
	struct mf_text_field field;

	while (mf_text_next(&text, end, &field)) {
		const struct key *key = key_of(&field, STATUS, sizeof STATUS / sizeof *STATUS);

		if (key != NULL)
			*place(key, ret) = field.value;
	}
}

/* The pages of /proc/PID/statm, proc_pid_statm(5): 0, or -EPROTO. */
int mf_procmem_parse_statm(const char *text, size_t size, uint64_t page_bytes,
			   struct mf_procmem *ret)
{
	uint64_t library; /* always 0 since Linux 2.6 */
	uint64_t *const columns[] = {&ret->vms,	 &ret->rss, &ret->shared,
				     &ret->text, &library,  &ret->data};
	const char *const end = text + size;

	for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
		while (text < end && *text == ' ')
			text++;
		text = mf_text_number(text, end, columns[i]);
		if (text == NULL || text == end) /* cut: more columns follow */
			return -EPROTO;
		*columns[i] *= page_bytes;
	}
	return 0;
}

static int read_status(int dir, struct mf_procmem *ret)
{
	size_t size;
	char *text;
	const int status = mf_procdir_read(dir, "status", &text, &size);

	if (status != 0)
		return status;
	memset(ret, 0, sizeof *ret);
	mf_procmem_parse_status(text, size, ret);
	free(text);
	return 0;
}

static int read_statm(int dir, struct mf_procmem *ret)
{
	size_t size;
	char *text;
	int status = mf_procdir_read(dir, "statm", &text, &size);

	if (status != 0)
		return status;
	status = mf_procmem_parse_statm(text, size, (uint64_t)sysconf(_SC_PAGESIZE), ret);
	free(text);
	return status;
}

/*
 * The figures of a process (0: this one) that cost the kernel nothing; zeros for
 * a kernel thread or zombie. Anyone may ask. Both files are read until they agree
 * on the size, so they are of one moment, or a process that never holds still.
 */
int mf_procmem_read(int64_t pid, struct mf_procmem *ret)
{
	const int dir = mf_procdir_open(pid);
	uint64_t size = 0;
	int status = 0;

	if (dir < 0)
		return dir;
	for (int i = 0; i < TRIES; i++) {
		status = read_status(dir, ret);
		if (status != 0)
			break;
		size = ret->vms;
		status = read_statm(dir, ret);
		if (status != 0 || ret->vms == size)
			break;
	}
	close(dir);
	if (status != 0)
		return status;
	if ((ret->vms == 0) != (size == 0))
		return -ESRCH; /* it ends; half of a record is none */
	/* A peak that was read before the process grew beyond it. */
	if (ret->peak_rss < ret->rss)
		ret->peak_rss = ret->rss;
	if (ret->peak_vms < ret->vms)
		ret->peak_vms = ret->vms;
	return 0;
}

/* ---- what it looks at every page for ---- */

static const struct key EXACT[] = {
	KEY("Rss", mf_procmem_exact, rss),
	KEY("Pss", mf_procmem_exact, pss),
	KEY("Pss_Dirty", mf_procmem_exact, pss_dirty),
	KEY("Pss_Anon", mf_procmem_exact, pss_anon),
	KEY("Pss_File", mf_procmem_exact, pss_file),
	KEY("Pss_Shmem", mf_procmem_exact, pss_shmem),
	KEY("Shared_Clean", mf_procmem_exact, shared_clean),
	KEY("Shared_Dirty", mf_procmem_exact, shared_dirty),
	KEY("Private_Clean", mf_procmem_exact, private_clean),
	KEY("Private_Dirty", mf_procmem_exact, private_dirty),
	KEY("Referenced", mf_procmem_exact, referenced),
	KEY("Anonymous", mf_procmem_exact, anonymous),
	KEY("KSM", mf_procmem_exact, ksm),
	KEY("LazyFree", mf_procmem_exact, lazyfree),
	KEY("AnonHugePages", mf_procmem_exact, anon_huge_pages),
	KEY("ShmemPmdMapped", mf_procmem_exact, shmem_pmd_mapped),
	KEY("FilePmdMapped", mf_procmem_exact, file_pmd_mapped),
	KEY("Shared_Hugetlb", mf_procmem_exact, shared_hugetlb),
	KEY("Private_Hugetlb", mf_procmem_exact, private_hugetlb),
	KEY("Swap", mf_procmem_exact, swap),
	KEY("SwapPss", mf_procmem_exact, swap_pss),
	KEY("Locked", mf_procmem_exact, locked),
};

/* The sum over all mappings in the text, be it smaps or smaps_rollup. */
void mf_procmem_parse_exact(const char *text, size_t size, struct mf_procmem_exact *ret)
{
	const char *const end = text + whole_lines(text, size);
	struct mf_text_field field;

	memset(ret, 0, sizeof *ret);
	while (mf_text_next(&text, end, &field)) {
		const struct key *key = key_of(&field, EXACT, sizeof EXACT / sizeof *EXACT);

		if (key != NULL)
			*place(key, ret) += field.value;
	}
	ret->uss = ret->private_clean + ret->private_dirty + ret->private_hugetlb;
}

/*
 * The figures of a process (0: this one) that the kernel must walk its pages for;
 * zeros for a kernel thread or zombie. Whoever may ptrace(2)-read it may ask.
 */
int mf_procmem_read_exact(int64_t pid, struct mf_procmem_exact *ret)
{
	size_t size;
	char *text;
	int status = mf_procdir_mappings(pid, "smaps_rollup", &text, &size);

	if (status == -EOPNOTSUPP) /* before Linux 4.14 */
		status = mf_procdir_mappings(pid, "smaps", &text, &size);
	if (status != 0)
		return status;
	mf_procmem_parse_exact(text, size, ret);
	free(text);
	return 0;
}

/* ---- faults ---- */

/* Fields 10 and 12 of a stat, counted from the last ')': the name in field 2 may hold anything. */
int mf_procmem_parse_faults(const char *text, size_t size, uint64_t *minor_ret, uint64_t *major_ret)
{
	const char *const end = text + size;
	const char *at = memrchr(text, ')', size);

	/* state ppid pgrp session tty tpgid flags minflt cminflt majflt */
	for (int field = 3; at != NULL && field <= 12; field++) {
		at = memchr(at, ' ', (size_t)(end - at));
		at = at == NULL ? NULL : at + 1;
		if (field == 10 && at != NULL)
			at = mf_text_number(at, end, minor_ret);
		if (field == 12 && at != NULL)
			at = mf_text_number(at, end, major_ret);
	}
	return at == NULL || at == end ? -EPROTO : 0;
}

/*
 * Faults so far, of all threads: minor (no I/O) and major (I/O was waited for).
 * This process (0): getrusage(2); others: proc_pid_stat(5).
 */
int mf_procmem_faults(int64_t pid, uint64_t *minor_ret, uint64_t *major_ret)
{
	size_t size;
	char *text;
	int status, dir;

	if (pid == 0) {
		struct rusage usage;

		if (getrusage(RUSAGE_SELF, &usage) != 0)
			return -errno;
		*minor_ret = (uint64_t)usage.ru_minflt;
		*major_ret = (uint64_t)usage.ru_majflt;
		return 0;
	}
	dir = mf_procdir_open(pid);
	if (dir < 0)
		return dir;
	status = mf_procdir_read(dir, "stat", &text, &size);
	close(dir);
	if (status != 0)
		return status;
	status = mf_procmem_parse_faults(text, size, minor_ret, major_ret);
	free(text);
	return status;
}
