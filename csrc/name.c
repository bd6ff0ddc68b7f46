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
 * Looking for locks and acting on what was seen happen under a flock(2) of the
 * directory, together with a comparison of inodes: nobody removes another's new
 * file. That lock is released by hand, since a child forked meanwhile has a
 * copy of the descriptor, and waited for a bounded time, since its holder may
 * be stopped.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define ROOT_PATH "/dev/shm"

enum {
	TMPFS_TYPE = 0x01021994, /* TMPFS_MAGIC, statfs(2) */
	LOCK_TRIES = 2000,
	LOCK_PAUSE_NS = 1000 * 1000, /* the lock is held for some 20 us at a time */
};

/* ---- the directory ---- */

/*
 * Open the user's directory, made if missing and wanted. Nothing in it is
 * trusted unless it is ours and closed to others: /dev/shm is open to everybody.
 *
 * Returns -ENOENT if it is missing, -ENODEV if /dev/shm is missing or no tmpfs,
 * -ENOTDIR if it is a link or no directory, -EPERM if another user's, -EACCES
 * if open to others; the calls below pass these on.
 */
static int open_directory(int create, int *fd_ret)
{
	char path[sizeof ROOT_PATH + 32];
	struct statfs filesystem;
	struct stat status;
	int result = 0;
	int fd;

	if (statfs(ROOT_PATH, &filesystem) != 0 || filesystem.f_type != TMPFS_TYPE)
		return -ENODEV;
	snprintf(path, sizeof path, ROOT_PATH "/memfast-%u", (unsigned)geteuid());
	if (create && mkdir(path, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? -ENOTDIR : -errno;
	if (fstat(fd, &status) != 0)
		result = -errno;
	else if (status.st_uid != geteuid())
		result = -EPERM;
	else if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		result = -EACCES;
	if (result != 0)
		close(fd);
	else
		*fd_ret = fd;
	return result;
}

/* The directory, opened and locked; unlock_directory() ends it. */
static int lock_directory(int create, int *fd_ret)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	int status = open_directory(create, fd_ret);

	if (status != 0)
		return status;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(*fd_ret, LOCK_EX | LOCK_NB) == 0)
			return 0;
		status = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (status != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	close(*fd_ret);
	return status;
}

static void unlock_directory(int directory)
{
	flock(directory, LOCK_UN); /* close() alone would leave it to a forked child's copy */
	close(directory);
}

/* ---- one file ---- */

/*
 * Whether what was opened may be trusted and mapped: -EMEDIUMTYPE if it is no
 * regular file, -EPERM if another user's, -EACCES if everybody may write to it,
 * -EMLINK if it has further names. (-ELOOP for a link comes from openat(2).)
 */
static int inspect(int fd, struct stat *status_ret)
{
	if (fstat(fd, status_ret) != 0)
		return -errno;
	if (!S_ISREG(status_ret->st_mode))
		return -EMEDIUMTYPE;
	if (status_ret->st_uid != geteuid())
		return -EPERM;
	if ((status_ret->st_mode & S_IWOTH) != 0)
		return -EACCES;
	return status_ret->st_nlink == 1 ? 0 : -EMLINK;
}

/* Open a name without following, blocking on or creating anything. */
static int open_file(int directory, const char *file, int access, int *fd_ret,
		     struct stat *status_ret)
{
	const int fd =
		openat(directory, file, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int status;

	if (fd < 0) /* a directory opened for writing, a socket */
		return errno == EISDIR || errno == ENXIO ? -EMEDIUMTYPE : -errno;
	status = inspect(fd, status_ret);
	if (status != 0)
		close(fd);
	else
		*fd_ret = fd;
	return status;
}

/* Hold a shared lock on the whole file, until the last copy of the descriptor is closed. */
static int live_on(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

/* Whether somebody else lives on the file: asked by a descriptor that has no lock itself. */
static int lived_on(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* 0 if the name still is this file; -ENOENT, or -ESTALE if it has become another. */
static int compare(int directory, const char *file, const struct stat *opened)
{
	struct stat named;

	if (fstatat(directory, file, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	return named.st_ino == opened->st_ino && named.st_dev == opened->st_dev ? 0 : -ESTALE;
}

static int unlink_same(int directory, const char *file, const struct stat *opened)
{
	const int status = compare(directory, file, opened);

	if (status != 0)
		return status;
	return unlinkat(directory, file, 0) == 0 ? 0 : -errno;
}

static int link_to(int directory, int fd, const char *file)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, directory, file, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

/* Remove a name that nobody lives on; -EEXIST if somebody does, or it persists, or is not ours. */
static int remove_dead(int directory, const char *file)
{
	struct stat status;
	int fd, result;

	result = open_file(directory, file, O_RDONLY, &fd, &status);
	if (result != 0)
		return result == -ENOENT ? 0 : result;
	if ((status.st_mode & S_ISVTX) != 0 || lived_on(fd))
		result = -EEXIST;
	else
		result = unlink_same(directory, file, &status);
	close(fd);
	return result;
}

/* ---- maps ---- */

/*
 * Make way for a new map of this name: 0 if the name is free, or was left by
 * the dead (whose memory is given back); -EEXIST if it is taken.
 */
int mf_name_clear(const char *file)
{
	int directory;
	int status = lock_directory(1, &directory);

	if (status != 0)
		return status;
	status = remove_dead(directory, file);
	unlock_directory(directory);
	return status;
}

/* A file without a name, in the user's directory. */
int mf_name_make(int *fd_ret)
{
	int directory;
	int status = open_directory(1, &directory);

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
		status = lock_directory(1, &directory);
	if (status != 0)
		return status;
	status = link_to(directory, fd, file);
	if (status == -EEXIST && live) {
		status = remove_dead(directory, file);
		if (status == 0)
			status = link_to(directory, fd, file);
	}
	unlock_directory(directory);
	return status;
}

/* Open for reading what has this name, whoever lives on it. */
int mf_name_open(const char *file, int *fd_ret, uint64_t *size_ret)
{
	struct stat status;
	int directory;
	int result = open_directory(0, &directory);

	if (result != 0)
		return result;
	result = open_file(directory, file, O_RDONLY, fd_ret, &status);
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
	int result = lock_directory(0, &directory);

	if (result != 0)
		return result;
	result = open_file(directory, file, readonly ? O_RDONLY : O_RDWR, &fd, &status);
	if (result != 0) {
		unlock_directory(directory);
		return result;
	}
	if ((status.st_mode & S_ISVTX) == 0 && !lived_on(fd)) {
		result = unlink_same(directory, file, &status);
		if (result == 0)
			result = -ESTALE;
	} else {
		result = live_on(fd);
	}
	/* Others than memfast do not ask for the directory's lock. */
	if (result == 0)
		result = compare(directory, file, &status);
	unlock_directory(directory);
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
	result = lock_directory(0, &directory);
	if (result != 0)
		return result;
	result = unlink_same(directory, file, &status);
	unlock_directory(directory);
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
	    lock_directory(0, &directory) != 0) {
		close(fd);
		return 0;
	}
	close(fd);
	if (open_file(directory, file, O_RDONLY, &probe, &status) == 0) {
		if (status.st_ino == ours.st_ino && status.st_dev == ours.st_dev &&
		    !lived_on(probe))
			removed = unlink_same(directory, file, &status) == 0;
		close(probe);
	}
	unlock_directory(directory);
	return removed;
}
