/* SPDX-License-Identifier: MIT */
/*
 * name.c - names: files in /dev/shm/memfast-<euid>/, a directory of the user's own.
 *
 * A file is built without a name (O_TMPFILE) and gets it in one step, so a name
 * either is not there or stands for something whole. Who uses a map holds a
 * shared OFD lock on the file for as long; the kernel drops it with the last
 * copy of the descriptor, SIGKILL included, and a forked child's copy keeps it,
 * because the child does have the map. So a file that nobody has locked is a
 * name left by the dead, unless its sticky bit says that it shall persist.
 *
 * A mapping also holds the open file that it was made from, and with it the
 * lock. So one maps through a twin (mf_name_twin), and the lock ends at close,
 * not with the last view of the memory.
 *
 * Looking for locks and acting on what was seen happen under the directory's
 * lock: see namedir.c, which also says what is trusted.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Hold a shared lock on the whole file, until the last copy of the descriptor is closed. */
static int live_on(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static int link_to(int directory, int fd, const char *file)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, directory, file, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

/*
 * Make way for a new map of this name: 0 if the name is free, or was left by
 * the dead (whose memory is given back); -EEXIST if it is taken.
 */
int mf_name_clear(const char *file)
{
	int directory;
	int status = mf_namedir_lock(geteuid(), 1, &directory);

	if (status != 0)
		return status;
	status = mf_namedir_remove_dead(directory, geteuid(), file);
	mf_namedir_unlock(directory);
	return status;
}

/* A file without a name, in the user's directory. */
int mf_name_make(int *fd_ret)
{
	int directory;
	int status = mf_namedir_open(geteuid(), 1, &directory);

	if (status != 0)
		return status;
	*fd_ret = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (*fd_ret < 0)
		status = -errno;
	close(directory);
	return status;
}

/* Open the same file anew, to map it: a twin has no lock, and keeps none. */
int mf_name_twin(int fd, int readonly, int *fd_ret)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	*fd_ret = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	return *fd_ret < 0 ? -errno : 0;
}

/*
 * Give a finished file its mode and its name, in one step; -EEXIST if the name
 * is taken.
 *
 *   mode  permissions; S_ISVTX keeps the name after its last user
 *   live  live on the file from before that step, and replace a name that
 *         nobody lives on; 0 for what does not live by a lock (record.c)
 */
int mf_name_publish(int fd, const char *file, unsigned mode, int live)
{
	int directory;
	int status = live ? live_on(fd) : 0;

	/* fchmod(2), because the umask clips the mode given to open(2). */
	if (status == 0 && fchmod(fd, (mode_t)mode) != 0)
		status = -errno;
	if (status == 0)
		status = mf_namedir_lock(geteuid(), 1, &directory);
	if (status != 0)
		return status;
	status = link_to(directory, fd, file);
	if (status == -EEXIST && live) {
		status = mf_namedir_remove_dead(directory, geteuid(), file);
		if (status == 0)
			status = link_to(directory, fd, file);
	}
	mf_namedir_unlock(directory);
	return status;
}

/* Open for reading what has this name, whoever lives on it. */
int mf_name_open(const char *file, int *fd_ret, uint64_t *size_ret)
{
	struct stat status;
	int directory;
	int result = mf_namedir_open(geteuid(), 0, &directory);

	if (result != 0)
		return result;
	result = mf_namedir_open_file(directory, geteuid(), file, O_RDONLY, fd_ret, &status);
	close(directory);
	if (result == 0)
		*size_ret = (uint64_t)status.st_size;
	return result;
}

/*
 * Open a map by its name and live on it. Returns -ENOENT if there is none,
 * -ESTALE if it was left by the dead (and is removed now).
 */
int mf_name_attach(const char *file, int readonly, int *fd_ret)
{
	struct stat status;
	int directory, fd;
	int result = mf_namedir_lock(geteuid(), 0, &directory);

	if (result != 0)
		return result;
	result = mf_namedir_open_file(directory, geteuid(), file, readonly ? O_RDONLY : O_RDWR, &fd,
				      &status);
	if (result != 0) {
		mf_namedir_unlock(directory);
		return result;
	}
	if ((status.st_mode & S_ISVTX) == 0 && !mf_namedir_lived_on(fd)) {
		result = mf_namedir_unlink(directory, file, &status);
		if (result == 0)
			result = -ESTALE;
	} else {
		result = live_on(fd);
	}
	/* Others than memfast do not ask for the directory's lock. */
	if (result == 0)
		result = mf_namedir_compare(directory, file, &status);
	mf_namedir_unlock(directory);
	if (result != 0)
		close(fd);
	else
		*fd_ret = fd;
	return result;
}

/* Remove the name if it still is this file: 0, -ENOENT, or -ESTALE if it is another by now. */
int mf_name_unlink(int fd, const char *file)
{
	struct stat status;
	int directory, result;

	if (fstat(fd, &status) != 0)
		return -errno;
	result = mf_namedir_lock(geteuid(), 0, &directory);
	if (result != 0)
		return result;
	result = mf_namedir_unlink(directory, file, &status);
	mf_namedir_unlock(directory);
	return result;
}

/*
 * Close the descriptor, and remove the name if nobody else lives on the file:
 * 1 if removed, else 0. Never fails: what cannot be removed is stale, and the
 * next to open or create it removes it.
 *
 * Whether others live is asked after closing, by a descriptor of its own: a
 * forked child shares our lock with us, and still has the memory.
 */
int mf_name_release(int fd, const char *file)
{
	struct stat ours, status;
	int directory, probe;
	int removed = 0;
	int known = fstat(fd, &ours) == 0;

	if (!known || (ours.st_mode & S_ISVTX) != 0 || ours.st_nlink == 0 ||
	    mf_namedir_lock(geteuid(), 0, &directory) != 0) {
		close(fd);
		return 0;
	}
	close(fd);
	if (mf_namedir_open_file(directory, geteuid(), file, O_RDONLY, &probe, &status) == 0) {
		if (status.st_ino == ours.st_ino && status.st_dev == ours.st_dev &&
		    !mf_namedir_lived_on(probe))
			removed = mf_namedir_unlink(directory, file, &status) == 0;
		close(probe);
	}
	mf_namedir_unlock(directory);
	return removed;
}
