/* SPDX-License-Identifier: MIT */
/*
 * procmem.c - a process's mappings and its faults, as /proc has them.
 *
 * The list is read whole and turned into columns in one call: numbers that
 * Python unpacks at once, and texts that it splits at once. The kernel gives a
 * page at a time and formats each line, which is most of the cost.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	TEXT_BYTES_FIRST = 64 * 1024,
	READ_BYTES_MIN = 16 * 1024, /* seq_file gives a page, or a line that is longer */
	PERMS_BYTES = 4,	    /* "rw-s" */
};

/* A file under /proc/PID; pid 0 is this process. */
static int open_of(int64_t pid, const char *file)
{
	char path[64];
	int fd;

	if (pid == 0)
		snprintf(path, sizeof path, "/proc/self/%s", file);
	else
		snprintf(path, sizeof path, "/proc/%lld/%s", (long long)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && access("/proc/self", F_OK) == 0)
		return -ESRCH; /* /proc is there, so it is the process that is not */
	return fd < 0 ? -errno : fd;
}

/* Read a file to its end into memory of its own, ended by a NUL that is not counted. */
static int read_whole(int fd, char **text_ret, size_t *size_ret)
{
	size_t room = TEXT_BYTES_FIRST, used = 0;
	char *text = malloc(room);

	while (text != NULL) {
		const ssize_t part = read(fd, text + used, room - used - 1);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0) {
			const int status = -errno;

			free(text);
			return status;
		}
		if (part == 0) {
			text[used] = '\0';
			*text_ret = text;
			*size_ret = used;
			return 0;
		}
		used += (size_t)part;
		if (room - used < READ_BYTES_MIN) {
			char *larger = realloc(text, room *= 2);

			if (larger == NULL)
				free(text);
			text = larger;
		}
	}
	return -ENOMEM;
}

/* ---- one line: "start-end perms offset major:minor inode   path" ---- */

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* Take a number and the one character behind it; NULL if they are not there. */
static const char *take_number(const char *at, unsigned base, char behind, uint64_t *number_ret)
{
	const char *const from = at;
	uint64_t number = 0;

	for (unsigned digit; (digit = (unsigned)digit_of(*at)) < base; at++)
		number = number * base + digit;
	*number_ret = number;
	return at == from || *at != behind ? NULL : at + 1;
}

static char *append(char *to, const char *from, size_t size)
{
	memcpy(to, from, size);
	to[size] = '\n';
	return to + size + 1;
}

/* Where the next line of each column goes. */
struct columns {
	uint64_t *start, *end, *offset, *inode;
	char *perms, *devices, *paths;
};

/* Turn one line into a row; what follows it, or NULL if it is not such a line. */
static const char *take_line(const char *at, struct columns *to)
{
	const char *device, *stop;
	uint64_t major, minor;

	at = take_number(at, 16, '-', to->start++);
	at = at == NULL ? NULL : take_number(at, 16, ' ', to->end++);
	if (at == NULL || memchr(at, '\n', PERMS_BYTES + 1) != NULL || at[PERMS_BYTES] != ' ')
		return NULL;
	to->perms = append(to->perms, at, PERMS_BYTES);
	device = take_number(at + PERMS_BYTES + 1, 16, ' ', to->offset++);
	at = device == NULL ? NULL : take_number(device, 16, ':', &major);
	at = at == NULL ? NULL : take_number(at, 16, ' ', &minor);
	if (at == NULL)
		return NULL;
	to->devices = append(to->devices, device, (size_t)(at - 1 - device));
	/* The kernel ends the inode with a space, path or not; a line end is taken too. */
	stop = take_number(at, 10, ' ', to->inode);
	at = stop != NULL ? stop : take_number(at, 10, '\n', to->inode);
	if (at == NULL)
		return NULL;
	to->inode++;
	if (stop == NULL)
		at--;
	while (*at ==
	       ' ') /* padding to column 73; a path begins with '/' or '[' or "anon_inode:" */
		at++;
	stop = strchr(at, '\n');
	if (stop == NULL)
		return NULL;
	to->paths = append(to->paths, at, (size_t)(stop - at));
	return stop + 1;
}

static size_t column_size(const char *begin, const char *end)
{
	return end == begin ? 0 : (size_t)(end - begin) - 1; /* without the last newline */
}

static int parse(const char *text, size_t size, struct mf_procmem_maps *maps)
{
	struct columns to;
	size_t count = 0;
	const char *at = text;

	for (const char *p = text; (p = memchr(p, '\n', size - (size_t)(p - text))) != NULL; p++)
		count++;
	/* Texts together are shorter than the file; numbers take four words a line. */
	maps->memory = malloc(count * 4 * sizeof(uint64_t) + 3 * (size + 1));
	if (maps->memory == NULL)
		return -ENOMEM;
	maps->count = count;
	maps->numbers = maps->memory;
	maps->perms = (char *)(maps->numbers + 4 * count);
	maps->devices = maps->perms + size + 1;
	maps->paths = maps->devices + size + 1;
	to.start = maps->numbers;
	to.end = to.start + count;
	to.offset = to.end + count;
	to.inode = to.offset + count;
	to.perms = maps->perms;
	to.devices = maps->devices;
	to.paths = maps->paths;
	for (size_t i = 0; i < count; i++) {
		at = take_line(at, &to);
		if (at == NULL) {
			free(maps->memory);
			return -EPROTO;
		}
	}
	maps->perms_size = column_size(maps->perms, to.perms);
	maps->devices_size = column_size(maps->devices, to.devices);
	maps->paths_size = column_size(maps->paths, to.paths);
	return 0;
}

/*
 * The mappings of a process (0: this one), proc_pid_maps(5). Whoever may
 * ptrace(2)-read it may ask; a kernel thread or zombie has none. The caller
 * gives the columns back with mf_procmem_maps_free().
 */
int mf_procmem_maps(int64_t pid, struct mf_procmem_maps *maps_ret)
{
	const int fd = open_of(pid, "maps");
	char *text = NULL;
	size_t size = 0;
	int status;

	if (fd < 0)
		return fd;
	status = read_whole(fd, &text, &size);
	close(fd);
	if (status != 0)
		return status;
	status = parse(text, size, maps_ret);
	free(text);
	return status;
}

void mf_procmem_maps_free(struct mf_procmem_maps *maps)
{
	free(maps->memory);
	maps->memory = NULL;
}

/* ---- faults ---- */

/*
 * Faults so far, of all threads: minor (no I/O) and major (I/O was waited for).
 * This process (0): getrusage(2). Others: fields 10 and 12 of /proc/PID/stat,
 * counted from the last ')', since the name in field 2 may hold anything.
 */
int mf_procmem_faults(int64_t pid, uint64_t *minor_ret, uint64_t *major_ret)
{
	char text[1024];
	const char *fields;
	ssize_t length;
	int fd;

	if (pid == 0) {
		struct rusage usage;

		if (getrusage(RUSAGE_SELF, &usage) != 0)
			return -errno;
		*minor_ret = (uint64_t)usage.ru_minflt;
		*major_ret = (uint64_t)usage.ru_majflt;
		return 0;
	}
	fd = open_of(pid, "stat");
	if (fd < 0)
		return fd;
	length = read(fd, text, sizeof text - 1);
	if (length < 0)
		length = -errno;
	close(fd);
	if (length < 0)
		return (int)length;
	text[length] = '\0';
	fields = strrchr(text, ')');
	/* state ppid pgrp session tty tpgid flags minflt cminflt majflt */
	if (fields == NULL ||
	    sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", minor_ret, major_ret) != 2)
		return -EPROTO;
	return 0;
}
