/* SPDX-License-Identifier: MIT */
/*
 * procfile.c - a file of /proc that is read again and again through one descriptor.
 *
 * To open and close costs about as much as the kernel takes to write
 * /proc/meminfo. A descriptor that is kept has three ways to go wrong, and each
 * read looks for them:
 *
 *   - A daemonizer closed it, and the number is another file's by now, which may
 *     block for ever. fstat(2) tells, for a quarter of a microsecond. The two files
 *     that are read at the highest rates carry a mark instead: the signal that
 *     F_SETSIG, fcntl(2), keeps with the open file, for input that nobody asked to
 *     be told of. F_GETSIG costs half of fstat(2). What is not our file any more is
 *     forgotten, never read and never closed.
 *   - We are a forked child, and /proc/self was our parent's: the file remembers
 *     the process that opened it.
 *   - What it read from is gone (ESRCH): it is opened anew.
 *
 * Only files of procfs are kept. Anything else at that path (lxcfs, which is a
 * FUSE process that may hang; a file bound over it) is opened for each read.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
	/*
	 * seq_file gives whole records, at most a page at a time (seq_read_iter(),
	 * fs/seq_file.c), and none of the files read here has a record of half a
	 * page: less than that is the end, and one system call is saved.
	 */
	SURELY_LAST_BYTES = 2048,
};

/* ---- whose number it is ---- */

/*
 * The C library keeps these two signals for itself (nptl(7)), so no program marks
 * a file of its own with them. 0: no mark.
 */
static int mark_of(const char *path)
{
	if (strcmp(path, "/proc/meminfo") == 0)
		return 32;
	return strcmp(path, "/proc/self/statm") == 0 ? 33 : 0;
}

static int is_ours(const struct mf_procfile *file)
{
	struct stat found;

	if (file->mark != 0)
		return fcntl(file->fd, F_GETSIG) == file->mark;
	return fstat(file->fd, &found) == 0 && found.st_ino == file->inode &&
	       found.st_dev == file->device;
}

/* ---- reading ---- */

/*
 * Read from the beginning until the end of the file or of the buffer. Returns
 * the bytes read or a negative errno; `size` bytes mean that there may be more.
 */
static int64_t read_all(int fd, char *buffer, size_t size)
{
	size_t used = 0;

	while (used < size) {
		const ssize_t part = pread(fd, buffer + used, size - used, (off_t)used);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0)
			return -errno;
		used += (size_t)part;
		if (part < SURELY_LAST_BYTES)
			break;
	}
	return (int64_t)used;
}

/*
 * Open the file and read it; may block, so not with the GIL held. Afterwards
 * file->fd is the descriptor to keep, or -1.
 */
int64_t mf_procfile_open(struct mf_procfile *file, const char *path, char *buffer, size_t size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs where;
	struct stat found;
	int64_t status;

	file->fd = -1;
	if (fd < 0)
		return -errno;
	status = read_all(fd, buffer, size);
	if (status < 0 || fstatfs(fd, &where) != 0 || where.f_type != PROC_SUPER_MAGIC ||
	    fstat(fd, &found) != 0) {
		close(fd);
		return status;
	}
	file->fd = fd;
	file->pid = getpid();
	file->device = found.st_dev;
	file->inode = found.st_ino;
	file->text_size = status;
	file->mark = mark_of(path);
	if (file->mark != 0 && fcntl(fd, F_SETSIG, file->mark) != 0)
		file->mark = 0; /* a kernel that is not Linux itself */
	return status;
}

/*
 * Read through the kept descriptor: the bytes read, or -EBADF if there is none
 * that can be used: open it. `pid` is this process. Never blocks.
 */
int64_t mf_procfile_read(struct mf_procfile *file, int pid, char *buffer, size_t size)
{
	int64_t status;

	if (file->fd < 0)
		return -EBADF;
	if (!is_ours(file)) {
		file->fd = -1;
		return -EBADF;
	}
	status = file->pid == pid ? read_all(file->fd, buffer, size) : -EBADF;
	if (status >= 0)
		return status;
	mf_procfile_close(file);
	return -EBADF;
}

void mf_procfile_close(struct mf_procfile *file)
{
	if (file->fd >= 0 && is_ours(file))
		close(file->fd);
	file->fd = -1;
}
