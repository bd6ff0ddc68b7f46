/* SPDX-License-Identifier: MIT */
/*
 * namedir.c - a user's directory of names, /dev/shm/memfast-<uid>/, and what is in it.
 *
 * /dev/shm is open to everybody, so nothing is trusted that is not what memfast
 * makes: the directory must be the user's and closed to others, a name a plain
 * file of the same user with no further links. Whose directory is asked for is
 * the caller's to say; root may look into everybody's.
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
#include <string.h>
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
 * Open a user's directory, made if missing and wanted.
 *
 * Returns -ENOENT if it is missing, -ENODEV if /dev/shm is missing or no tmpfs,
 * -ENOTDIR if it is a link or no directory, -EPERM if another user's, -EACCES
 * if open to others; the calls below pass these on.
 */
int mf_namedir_open(uint32_t owner, int create, int *fd_ret)
{
	char path[sizeof ROOT_PATH + 32];
	struct statfs filesystem;
	struct stat status;
	int result = 0;
	int fd;

	if (statfs(ROOT_PATH, &filesystem) != 0 || filesystem.f_type != TMPFS_TYPE)
		return -ENODEV;
	snprintf(path, sizeof path, ROOT_PATH "/memfast-%u", (unsigned)owner);
	if (create && mkdir(path, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP ? -ENOTDIR : -errno;
	if (fstat(fd, &status) != 0)
		result = -errno;
	else if (status.st_uid != owner)
		result = -EPERM;
	else if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		result = -EACCES;
	if (result != 0)
		close(fd);
	else
		*fd_ret = fd;
	return result;
}

/* The directory, opened and locked; mf_namedir_unlock() ends it. -EBUSY: others have it locked. */
int mf_namedir_lock(uint32_t owner, int create, int *fd_ret)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	int status = mf_namedir_open(owner, create, fd_ret);

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

void mf_namedir_unlock(int directory)
{
	flock(directory, LOCK_UN); /* close() alone would leave it to a forked child's copy */
	close(directory);
}

/* ---- one file ---- */

/*
 * Whether what is there may be trusted and mapped: -ELOOP if it is a link,
 * -EMEDIUMTYPE if no regular file, -EPERM if another user's, -EACCES if
 * everybody may write to it, -EMLINK if it has further names, -ENOENT if it has
 * none any more: it was removed since it was opened.
 */
static int inspect(const struct stat *status, uint32_t owner)
{
	if (S_ISLNK(status->st_mode))
		return -ELOOP;
	if (!S_ISREG(status->st_mode))
		return -EMEDIUMTYPE;
	if (status->st_uid != owner)
		return -EPERM;
	if ((status->st_mode & S_IWOTH) != 0)
		return -EACCES;
	if (status->st_nlink == 0)
		return -ENOENT;
	return status->st_nlink == 1 ? 0 : -EMLINK;
}

/* Open a name without following, blocking on or creating anything. */
int mf_namedir_open_file(int directory, uint32_t owner, const char *file, int access, int *fd_ret,
			 struct stat *status_ret)
{
	const int fd =
		openat(directory, file, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int status;

	if (fd < 0) /* a directory opened for writing, a socket */
		return errno == EISDIR || errno == ENXIO ? -EMEDIUMTYPE : -errno;
	status = fstat(fd, status_ret) != 0 ? -errno : inspect(status_ret, owner);
	if (status != 0)
		close(fd);
	else
		*fd_ret = fd;
	return status;
}

/* Whether somebody else lives on the file: asked by a descriptor that has no lock itself. */
int mf_namedir_lived_on(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* 0 if the name still is this file; -ENOENT, or -ESTALE if it has become another. */
int mf_namedir_compare(int directory, const char *file, const struct stat *opened)
{
	struct stat named;

	if (fstatat(directory, file, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	return named.st_ino == opened->st_ino && named.st_dev == opened->st_dev ? 0 : -ESTALE;
}

/* Remove the name if it still is this file. */
int mf_namedir_unlink(int directory, const char *file, const struct stat *opened)
{
	const int status = mf_namedir_compare(directory, file, opened);

	if (status != 0)
		return status;
	return unlinkat(directory, file, 0) == 0 ? 0 : -errno;
}

/*
 * Remove a map's name that nobody lives on, under the directory's lock; -EEXIST
 * if somebody does, or it persists.
 */
int mf_namedir_remove_dead(int directory, uint32_t owner, const char *file)
{
	struct stat status;
	int fd, result;

	result = mf_namedir_open_file(directory, owner, file, O_RDONLY, &fd, &status);
	if (result != 0)
		return result == -ENOENT ? 0 : result;
	if ((status.st_mode & S_ISVTX) != 0 || mf_namedir_lived_on(fd))
		result = -EEXIST;
	else
		result = mf_namedir_unlink(directory, file, &status);
	close(fd);
	return result;
}

/* ---- for those who look, at anybody's ---- */

/*
 * Say what is behind a name, and change nothing: not even open what is no plain
 * file. Returns what mf_namedir_open_file() does, -ENOENT, or for a record
 * (file not a map) what mf_record_examine() does; what could be known of the
 * entry is set all the same, its mode 0 if nothing.
 */
int mf_namedir_look(int directory, uint32_t owner, const char *file, int is_map,
		    struct mf_namedir_entry *entry_ret)
{
	struct stat status;
	int fd, result;

	memset(entry_ret, 0, sizeof *entry_ret);
	if (fstatat(directory, file, &status, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	entry_ret->mode = status.st_mode;
	entry_ret->uid = status.st_uid;
	entry_ret->size = (uint64_t)status.st_size;
	entry_ret->changed_ns =
		(int64_t)status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec;
	result = inspect(&status, owner);
	if (result == 0)
		result = mf_namedir_open_file(directory, owner, file, O_RDONLY, &fd, &status);
	if (result != 0)
		return result;
	if (is_map)
		entry_ret->lived_on = mf_namedir_lived_on(fd);
	else
		result = mf_record_examine(fd, (uint64_t)status.st_size, &entry_ret->segment_id,
					   &entry_ret->nonce, &entry_ret->version);
	close(fd);
	return result;
}

/*
 * Remove what was found dead, after another look under the directory's lock.
 * A map: if nobody lives on it. A record: if it still speaks of this life of
 * this segment. Returns 0, -ENOENT if it is gone, -EEXIST if it must stay,
 * -ESTALE if it is another by now.
 */
int mf_namedir_reap(uint32_t owner, const char *file, int is_map, int32_t segment_id,
		    uint64_t nonce)
{
	struct mf_namedir_entry now;
	struct stat status;
	int directory;
	int result = mf_namedir_lock(owner, 0, &directory);

	if (result != 0)
		return result;
	if (fstatat(directory, file, &status, AT_SYMLINK_NOFOLLOW) != 0)
		result = -errno;
	else if (is_map)
		result = mf_namedir_remove_dead(directory, owner, file);
	else
		result = mf_namedir_look(directory, owner, file, 0, &now);
	if (result == 0 && !is_map)
		result = now.segment_id == segment_id && now.nonce == nonce
				 ? mf_namedir_unlink(directory, file, &status)
				 : -ESTALE;
	mf_namedir_unlock(directory);
	return result;
}
