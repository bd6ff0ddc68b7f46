/* SPDX-License-Identifier: MIT */
/*
 * record.c - records: names that stand for a System V segment, whose memory has
 * no file. A record says which segment, which life of it, and in which IPC
 * namespace its id means something. Whether that segment still lives is the
 * caller's to say: nobody holds a lock on a record.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static int ipc_inode(uint64_t *inode_ret)
{
	struct stat status;

	if (stat("/proc/self/ns/ipc", &status) != 0)
		return -errno;
	*inode_ret = status.st_ino;
	return 0;
}

/* Publish a record under a free name, in one step; -EEXIST if the name is taken. */
int mf_record_publish(const char *file, int32_t segment_id, uint64_t nonce)
{
	struct mf_name_record record = {
		.magic = MF_NAME_MAGIC,
		.version = MF_LAYOUT_VERSION,
		.segment_id = segment_id,
		.nonce = nonce,
	};
	int fd;
	int status = ipc_inode(&record.ipc_inode);

	if (status == 0)
		status = mf_name_make(&fd);
	if (status != 0)
		return status;
	status = mf_mapping_reserve(fd, sizeof record);
	if (status == 0 && write(fd, &record, sizeof record) != (ssize_t)sizeof record)
		status = -EIO;
	if (status == 0)
		status = mf_name_publish(fd, file, S_IRUSR | S_IWUSR, 0);
	close(fd);
	return status;
}

/*
 * Say what an open file of this size records. Returns -EPROTO if it holds no
 * record, -EPROTONOSUPPORT if another version wrote it (which one:
 * *version_ret), -EXDEV if it was published in another IPC namespace.
 */
int mf_record_examine(int fd, uint64_t size, int32_t *segment_id_ret, uint64_t *nonce_ret,
		      uint32_t *version_ret)
{
	struct mf_name_record record;
	uint64_t inode = 0;
	int status;

	if (size != sizeof record || pread(fd, &record, sizeof record, 0) != sizeof record ||
	    record.magic != MF_NAME_MAGIC)
		return -EPROTO;
	*version_ret = record.version;
	if (record.version != MF_LAYOUT_VERSION)
		return -EPROTONOSUPPORT;
	*segment_id_ret = record.segment_id;
	*nonce_ret = record.nonce;
	status = ipc_inode(&inode);
	return status != 0 ? status : inode == record.ipc_inode ? 0 : -EXDEV;
}

/* Read the record under a name: as mf_record_examine(), or what mf_name_open() returns. */
int mf_record_read(const char *file, int32_t *segment_id_ret, uint64_t *nonce_ret,
		   uint32_t *version_ret)
{
	uint64_t size;
	int fd;
	int status = mf_name_open(file, &fd, &size);

	if (status != 0)
		return status;
	status = mf_record_examine(fd, size, segment_id_ret, nonce_ret, version_ret);
	close(fd);
	return status;
}

/* Remove a record if it still speaks of this life of this segment: 0, -ENOENT, or -ESTALE. */
int mf_record_remove(const char *file, int32_t segment_id, uint64_t nonce)
{
	int32_t found_id;
	uint64_t size, found_nonce;
	uint32_t version;
	int fd;
	int status = mf_name_open(file, &fd, &size);

	if (status != 0)
		return status;
	status = mf_record_examine(fd, size, &found_id, &found_nonce, &version);
	if (status == -EPROTONOSUPPORT ||
	    ((status == 0 || status == -EXDEV) && (found_id != segment_id || found_nonce != nonce)))
		status = -ESTALE;
	else if (status == 0 || status == -EXDEV)
		status = mf_name_unlink(fd, file);
	close(fd);
	return status;
}
