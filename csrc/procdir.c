/* SPDX-License-Identifier: MIT */
/*
 * procdir.c - the files of one process under /proc, read by way of a descriptor
 * of its directory: that leads to the process it was opened for or to none, and
 * never to a later one of the same id.
 *
 * A process may end, or run another program, between two reads. Then the kernel
 * ends a list of mappings early and says nothing. So a list counts only if its
 * file, asked again from the beginning, still has something to say.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	TEXT_BYTES_FIRST = 64 * 1024,
	READ_BYTES_MIN = 16 * 1024, /* seq_file gives a page, or a record that is longer */
	TRIES = 16,		    /* each lost one is an execve(2) of the process meanwhile */
};

/* A descriptor of /proc/PID (0: of this process). -ENOENT: there is no /proc. */
int mf_procdir_open(int64_t pid)
{
	char path[40];
	int fd;

	if (pid == 0)
		snprintf(path, sizeof path, "/proc/self");
	else
		snprintf(path, sizeof path, "/proc/%lld", (long long)pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && access("/proc/self", F_OK) == 0)
		return -ESRCH; /* /proc is there, so it is the process that is not */
	return fd < 0 ? -errno : fd;
}

/* Read to the end into memory of its own, for free(). */
static int read_whole(int fd, char **text_ret, size_t *size_ret)
{
	size_t room = TEXT_BYTES_FIRST, used = 0;
	char *text = malloc(room);

	while (text != NULL) {
		const ssize_t part = read(fd, text + used, room - used);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0) {
			const int status = -errno;

			free(text);
			return status;
		}
		if (part == 0) {
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

/* -EOPNOTSUPP: the process is there, and this kernel has no such file. */
static int open_in(int dir, const char *file)
{
	const int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return -errno;
	return faccessat(dir, "stat", F_OK, 0) == 0 ? -EOPNOTSUPP : -ESRCH;
}

/*
 * The whole text of one file, for free(). -ESRCH: the process is gone, or the
 * file is about its memory and it has none.
 */
int mf_procdir_read(int dir, const char *file, char **text_ret, size_t *size_ret)
{
	const int fd = open_in(dir, file);
	int status;

	if (fd < 0)
		return fd;
	status = read_whole(fd, text_ret, size_ret);
	close(fd);
	return status;
}

/* As mf_procdir_read(), and -ESRCH too if the process lost its memory before the list's end. */
static int read_list(int dir, const char *file, char **text_ret, size_t *size_ret)
{
	/* Opened first. It refers to the memory of this moment, and a byte of it costs one line. */
	const int maps = open_in(dir, "maps");
	int status;
	char byte;

	if (maps < 0)
		return maps;
	if (strcmp(file, "maps") == 0)
		status = read_whole(maps, text_ret, size_ret);
	else
		status = mf_procdir_read(dir, file, text_ret, size_ret);
	if (status == 0 && pread(maps, &byte, 1, 0) != 1) {
		free(*text_ret);
		status = -ESRCH;
	}
	close(maps);
	return status;
}

/* Whether the process has memory, which a kernel thread and a zombie have not; or -errno. */
static int has_memory(int dir)
{
	const int fd = open_in(dir, "statm");
	char text[2];
	ssize_t size;

	if (fd < 0)
		return fd;
	size = read(fd, text, sizeof text);
	if (size < 0)
		size = -errno;
	close(fd);
	if (size < 0)
		return (int)size;
	return !(size == sizeof text && memcmp(text, "0 ", sizeof text) == 0);
}

/*
 * maps, smaps or smaps_rollup of a process (0: this one), for free(). Empty for
 * a kernel thread or zombie. Whoever may ptrace(2)-read it may ask.
 */
int mf_procdir_mappings(int64_t pid, const char *file, char **text_ret, size_t *size_ret)
{
	/* A rollup is one record, made in one go. */
	int (*const read_it)(int, const char *, char **, size_t *) =
		strcmp(file, "smaps_rollup") == 0 ? mf_procdir_read : read_list;
	const int dir = mf_procdir_open(pid);
	int status = -ESRCH;

	if (dir < 0)
		return dir;
	for (int i = 0; i < TRIES && status == -ESRCH; i++) {
		int memory;

		status = read_it(dir, file, text_ret, size_ret);
		memory = status == -ESRCH ? has_memory(dir) : 1;
		if (memory < 0) {
			status = memory; /* gone */
			break;
		}
		if (memory == 0) {
			*size_ret = 0;
			*text_ret = malloc(1);
			status = *text_ret == NULL ? -ENOMEM : 0;
		}
	}
	close(dir);
	return status;
}
