/* SPDX-License-Identifier: MIT */
/*
 * mapping.c - memory as the kernel maps it: memfd, files, reservation, locks,
 * write-back and what of it is resident. Names are name.c's, advice advice.c's.
 *
 * Memory is reserved before anybody sees it, so that "full" is an errno here
 * and not a SIGBUS at the first touch.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "atomics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Newer than Debian 12's headers; each is probed at run time. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

/* HUGETLBFS_MAGIC, statfs(2); not an enum, which int bounds. */
#define HUGETLBFS_TYPE 0x958458f6

/* No architecture has larger pages. */
#define HUGE_BYTES_MAX (UINT64_C(1) << 34)

enum {
	RESERVE_STEP_BYTES = 64 * 1024 * 1024,
	RESIDENT_STEP_PAGES = 4096,
};

/* The unit in which a file is mapped: a page, or a huge page on hugetlbfs (munmap(2) insists). */
uint64_t mf_mapping_page_bytes(int fd)
{
	struct statfs filesystem;

	if (fd >= 0 && fstatfs(fd, &filesystem) == 0 && filesystem.f_type == HUGETLBFS_TYPE)
		return (uint64_t)filesystem.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * A memfd that nobody can resize: truncation under a mapping is a SIGBUS for
 * whoever reads it. Its pages are not there yet: map, then populate.
 *
 *   mode       permission bits, for a reopening through /proc/PID/fd
 *   page_log2  0, or the size of huge page to take it from (21: 2 MiB);
 *              `size` is a multiple of that
 */
int mf_mapping_memfd(uint64_t size, unsigned mode, unsigned page_log2, int *fd_ret)
{
	const unsigned huge = page_log2 == 0 ? 0 : MFD_HUGETLB | page_log2 << MFD_HUGE_SHIFT;
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | huge;
	int status = 0;
	int fd;

	if (size > INT64_MAX)
		return -EOVERFLOW;
	fd = memfd_create("memfast", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("memfast", flags);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) != 0 || fchmod(fd, (mode_t)mode) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		status = -errno;
	if (status != 0)
		close(fd);
	else
		*fd_ret = fd;
	return status;
}

/*
 * Size a fresh file and take its blocks now: -ENOSPC if they are not there.
 * fallocate(2) and not posix_fallocate(3), whose emulation a signal cannot
 * interrupt; in steps, because tmpfs undoes a whole call when a signal comes.
 */
int mf_mapping_reserve(int fd, uint64_t size)
{
	struct rlimit limit;
	uint64_t done = 0;

	if (size > INT64_MAX)
		return -EOVERFLOW;
	/* Beyond RLIMIT_FSIZE the kernel also sends SIGXFSZ, setrlimit(2). */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    size > limit.rlim_cur)
		return -EFBIG;
	if (ftruncate(fd, (off_t)size) != 0)
		return -errno;
	while (done < size) {
		const uint64_t left = size - done;
		const uint64_t step = left < RESERVE_STEP_BYTES ? left : RESERVE_STEP_BYTES;

		if (fallocate(fd, 0, (off_t)done, (off_t)step) == 0)
			done += step;
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* The whole pages around some bytes. */
static void widen(void **address, size_t *size, size_t unit)
{
	const uintptr_t begin = (uintptr_t)*address & ~(uintptr_t)(unit - 1);
	const uintptr_t end = ((uintptr_t)*address + *size + unit - 1) & ~(uintptr_t)(unit - 1);

	*address = (void *)begin;
	*size = end - begin;
}

/*
 * Map `size` bytes of a file from any offset: the address is that of the byte
 * asked for, somewhere in a page. fd -1: memory without a file, shared by fork.
 */
int mf_mapping_map(int fd, uint64_t offset, size_t size, int readonly, void **address_ret)
{
	const int protection = readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	const int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
	const uint64_t inside = offset % mf_mapping_page_bytes(fd);
	void *address;

	if (offset > INT64_MAX || size > SIZE_MAX - inside)
		return -EOVERFLOW;
	address = mmap(NULL, size + inside, protection, flags, fd, (off_t)(offset - inside));
	if (address == MAP_FAILED)
		return -errno;
	*address_ret = (char *)address + inside;
	return 0;
}

/*
 * Unmap what mf_mapping_map() mapped. munmap(2) takes the whole pages, and of
 * huge pages refuses less than whole ones: those are found by trying.
 */
int mf_mapping_unmap(void *address, size_t size)
{
	size_t unit = (size_t)sysconf(_SC_PAGESIZE);
	void *from;
	size_t all;

	do {
		from = address;
		all = size;
		widen(&from, &all, unit);
		if (munmap(from, all) == 0)
			return 0;
		unit *= 2;
	} while (errno == EINVAL && unit <= HUGE_BYTES_MAX);
	return -errno;
}

/*
 * What MADV_POPULATE_WRITE does, for kernels before 5.14, where lack of memory
 * is a signal. A compiler that turns the addition of nothing into a load does no
 * harm: shared memory has its page from the first access on, whatever its kind.
 */
static void touch_pages(void *address, size_t size)
{
	const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t at = 0; at < size; at += page_bytes)
		mf_add_relaxed((uint64_t *)((char *)address + at), 0);
}

/*
 * Give every page of a writable mapping its memory now. The first touch of a
 * page costs microseconds, and a touch that finds no memory is SIGBUS or the
 * OOM killer; here it is -ENOSPC (the file system or the pool of huge pages is
 * full) or -ENOMEM.
 */
int mf_mapping_populate(void *address, size_t size)
{
	widen(&address, &size, (size_t)sysconf(_SC_PAGESIZE));
	if (madvise(address, size, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno == EFAULT)
		return -ENOSPC; /* the touch would have been a SIGBUS, madvise(2) */
	/* An advice that the kernel knows is fine on no bytes at all; others are EINVAL. */
	if (errno != EINVAL || madvise(address, 0, MADV_POPULATE_WRITE) == 0)
		return -errno;
	touch_pages(address, size);
	return 0;
}

/* Write dirty pages of a file back: wait for it (MS_SYNC), or only ask (MS_ASYNC); msync(2). */
int mf_mapping_flush(void *address, size_t size, int wait)
{
	widen(&address, &size, (size_t)sysconf(_SC_PAGESIZE));
	return msync(address, size, wait ? MS_SYNC : MS_ASYNC) == 0 ? 0 : -errno;
}

/* Keep pages in memory; `onfault`: only those touched, now or later (mlock2(2), Linux 4.4). */
int mf_mapping_lock(void *address, size_t size, int onfault)
{
	widen(&address, &size, (size_t)sysconf(_SC_PAGESIZE));
	return mlock2(address, size, onfault ? MLOCK_ONFAULT : 0) == 0 ? 0 : -errno;
}

int mf_mapping_unlock(void *address, size_t size)
{
	widen(&address, &size, (size_t)sysconf(_SC_PAGESIZE));
	return munlock(address, size) == 0 ? 0 : -errno;
}

/*
 * How many pages some bytes are in, and how many of those are in memory:
 * mincore(2), 4,096 pages a system call.
 */
int mf_mapping_resident(void *address, size_t size, uint64_t *pages_ret, uint64_t *resident_ret)
{
	const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char states[RESIDENT_STEP_PAGES];
	uint64_t resident = 0;
	size_t pages;

	widen(&address, &size, page_bytes);
	pages = size / page_bytes;

	for (size_t first = 0; first < pages; first += RESIDENT_STEP_PAGES) {
		const size_t left = pages - first;
		const size_t step = left < RESIDENT_STEP_PAGES ? left : RESIDENT_STEP_PAGES;

		if (mincore((char *)address + first * page_bytes, step * page_bytes, states) != 0)
			return -errno;
		for (size_t i = 0; i < step; i++)
			resident += states[i] & 1; /* the other bits are reserved */
	}
	*pages_ret = pages;
	*resident_ret = resident;
	return 0;
}

/*
 * Whether mincore(2) tells us the truth about this file. Since Linux 5.2 it
 * calls every page resident unless the caller owns the file or may write it.
 */
int mf_mapping_truthful(int fd)
{
	char path[40];
	struct stat status;

	if (fstat(fd, &status) == 0 && status.st_uid == geteuid())
		return 1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}
