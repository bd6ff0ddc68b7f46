/* SPDX-License-Identifier: MIT */
/*
 * sysv.c - System V segments: shmget(2), shmat(2), shmctl(2).
 *
 * An anonymous segment is created, attached and at once marked for removal,
 * before a page of it is touched: from then on the kernel frees it with its
 * last user, however that one ends. Linux lets others attach a marked segment
 * by its id (shmctl(2), NOTES). A kill between shmget and IPC_RMID leaves an
 * empty segment; its size says that it is ours, and mf_sysv_sweep removes it.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <unistd.h>

enum {
	/* The unit of the mark and the tail, not of the machine: larger pages hold them as well. */
	PAGE = 4096,
	TAIL_OFFSET = PAGE - sizeof(struct mf_segment_tail),
	/* To ask costs 0.2 ms; who cannot get this much will not survive its next malloc either. */
	ROOM_UNASKED_BYTES = 64 * 1024,
	HUGE_SHIFT = 26, /* SHM_HUGE_SHIFT, shmget(2): where log2 of the page size goes */
};

static uint64_t round_up(uint64_t value, uint64_t step)
{
	return (value + step - 1) & ~(step - 1);
}

/* The smallest size that holds the user's bytes and ends in our mark. */
static uint64_t marked_size(uint64_t size)
{
	return (size + PAGE - 1 - MF_SEGMENT_MARK) / PAGE * PAGE + MF_SEGMENT_MARK;
}

static struct mf_segment_tail *tail_of(const struct mf_sysv_segment *segment)
{
	return (struct mf_segment_tail *)((unsigned char *)segment->address +
					  segment->kernel_size / PAGE * PAGE + TAIL_OFFSET);
}

static int attach(struct mf_sysv_segment *segment, int readonly)
{
	void *address = shmat(segment->id, NULL, readonly ? SHM_RDONLY : 0);

	segment->step = MF_SYSV_ATTACH;
	if (address == (void *)-1)
		return -errno;
	segment->address = address;
	return 0;
}

int mf_sysv_detach(void *address)
{
	return shmdt(address) == 0 ? 0 : -errno;
}

static int get(const struct mf_sysv_request *request, struct mf_sysv_segment *segment)
{
	int flags = request->mode | IPC_CREAT | IPC_EXCL;

	if (request->flags & MF_SYSV_NORESERVE)
		flags |= SHM_NORESERVE;
	if (request->huge_bytes != 0)
		flags |= SHM_HUGETLB | __builtin_ctzll(request->huge_bytes) << HUGE_SHIFT;
	segment->id = shmget((key_t)(uint32_t)request->key, segment->kernel_size, flags);
	return segment->id < 0 ? -errno : 0;
}

/*
 * Take the pages now, so that "full" is an error here and neither SIGBUS nor
 * an OOM kill at some later store. Huge pages come from a pool of their own.
 */
static int reserve(const struct mf_sysv_request *request, struct mf_sysv_segment *segment)
{
	const uint64_t step = request->huge_bytes != 0 ? request->huge_bytes : PAGE;
	const uint64_t bytes = round_up(segment->kernel_size, step);

	if (request->flags & MF_SYSV_NORESERVE)
		return 0;
	segment->step = MF_SYSV_ROOM;
	if (request->huge_bytes == 0 && bytes > ROOM_UNASKED_BYTES &&
	    mf_room_bytes(&segment->room) == 0 && segment->room < bytes)
		return -ENOSPC;
	segment->step = MF_SYSV_RESERVE;
	return mf_mapping_populate(segment->address, bytes);
}

/* Read what the tail says, if there is one. A tail that cannot be true is not there. */
static void read_tail(struct mf_sysv_segment *segment)
{
	const struct mf_segment_tail *tail;
	uint64_t nonce, size;

	segment->size = segment->kernel_size;
	segment->nonce = 0;
	if (!mf_leftover_marked(segment->kernel_size))
		return;
	tail = tail_of(segment);
	if (mf_load_acquire(&tail->magic) != MF_SEGMENT_MAGIC) /* SYNC segment-tail */
		return;
	nonce = mf_load_relaxed(&tail->nonce);
	size = mf_load_relaxed(&tail->size_bytes);
	if (nonce == 0 || size == 0 || size > segment->kernel_size ||
	    marked_size(size) != segment->kernel_size)
		return;
	segment->nonce = nonce;
	segment->size = size;
}

/*
 * Write the tail. Behind a key others may be at it too, since a creator can die
 * before it has done so: each word is set once, the magic last, and all agree.
 * Only the creator enlarges a size that another has set.
 */
static int write_tail(struct mf_sysv_segment *segment, uint64_t size, int creator)
{
	struct mf_segment_tail *tail = tail_of(segment);
	uint64_t nonce, seen = 0;

	if (marked_size(size) != segment->kernel_size)
		size = segment->kernel_size;
	if (getrandom(&nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
		return -errno;
	nonce |= 1; /* 0 says that there is no tail */
	while ((seen == 0 || (creator && seen < size)) &&
	       !mf_swap_if_acq_rel(&tail->size_bytes, seen, size)) /* SYNC segment-tail */
		seen = mf_load_relaxed(&tail->size_bytes);
	mf_swap_if_acq_rel(&tail->nonce, 0, nonce);	  /* SYNC segment-tail */
	mf_store_release(&tail->magic, MF_SEGMENT_MAGIC); /* SYNC segment-tail */
	read_tail(segment);
	return 0;
}

/* Leave nothing behind; a key at which somebody else has already joined stays with that one. */
static void undo(const struct mf_sysv_request *request, struct mf_sysv_segment *segment)
{
	if ((request->flags & MF_SYSV_TAIL) == 0 || segment->address == NULL ||
	    mf_load_acquire(&tail_of(segment)->magic) != MF_SEGMENT_MAGIC) /* SYNC segment-tail */
		shmctl(segment->id, IPC_RMID, NULL);
	shmdt(segment->address); /* NULL if it never came to that: EINVAL, and no harm */
}

/*
 * Create a segment and attach it. On failure nothing is left, `step` says where
 * it stopped, and -EEXIST means that the key is taken.
 *
 * No tail fits behind a segment that fills its huge pages to the last byte, and
 * one more gigabyte is too much for it: such a one has neither mark nor nonce.
 */
int mf_sysv_create(const struct mf_sysv_request *request, struct mf_sysv_segment *segment)
{
	const uint64_t size = request->size, huge = request->huge_bytes;
	int status, tailed = request->key == 0 || (request->flags & MF_SYSV_TAIL) != 0;

	if (huge != 0 && round_up(marked_size(size), huge) != round_up(size, huge))
		tailed = 0;
	memset(segment, 0, sizeof *segment);
	segment->size = size;
	segment->kernel_size = tailed ? marked_size(size) : size;
	segment->key = request->key;
	segment->creator_pid = getpid();
	status = get(request, segment);
	if (status != 0)
		return status;
	status = attach(segment, 0);
	if (status == 0 && request->key == 0) {
		segment->step = MF_SYSV_DOOM;
		if (shmctl(segment->id, IPC_RMID, NULL) != 0)
			status = -errno;
	}
	if (status == 0)
		status = reserve(request, segment);
	if (status == 0 && tailed)
		status = write_tail(segment, size, 1);
	if (status == 0 && (request->flags & MF_SYSV_READONLY)) {
		void *writable = segment->address;

		status = attach(segment, 1);
		if (status == 0)
			shmdt(writable);
	}
	if (status != 0)
		undo(request, segment);
	return status;
}

int mf_sysv_stat(int id, struct mf_sysv_stat *stat_ret)
{
	struct shmid_ds status;

	if (shmctl(id, IPC_STAT, &status) != 0)
		return -errno;
	*stat_ret = (struct mf_sysv_stat){
		.id = id,
		.key = (int64_t)(uint32_t)status.shm_perm.__key,
		.size = status.shm_segsz,
		.mode = status.shm_perm.mode & 0777,
		.uid = status.shm_perm.uid,
		.gid = status.shm_perm.gid,
		.cuid = status.shm_perm.cuid,
		.cgid = status.shm_perm.cgid,
		.nattch = (int64_t)status.shm_nattch,
		.creator_pid = status.shm_cpid,
		.last_pid = status.shm_lpid,
		.attach_time = status.shm_atime,
		.detach_time = status.shm_dtime,
		.change_time = status.shm_ctime,
		.dest = (status.shm_perm.mode & SHM_DEST) != 0,
		.locked = (status.shm_perm.mode & SHM_LOCKED) != 0,
	};
	return 0;
}

/*
 * Attach an existing segment, by key or (key 0) by id, and only then ask what
 * it is: an id cannot come to name another segment while we hold it.
 */
int mf_sysv_open(int64_t key, int id, int readonly, struct mf_sysv_segment *segment)
{
	struct mf_sysv_stat stat;
	int status;

	memset(segment, 0, sizeof *segment);
	segment->id = key != 0 ? shmget((key_t)(uint32_t)key, 0, 0) : id;
	if (segment->id < 0)
		return key != 0 ? -errno : -EINVAL;
	status = attach(segment, readonly);
	if (status == 0)
		status = mf_sysv_stat(segment->id, &stat);
	if (status != 0) {
		shmdt(segment->address);
		return status;
	}
	segment->kernel_size = stat.size;
	segment->key = stat.key;
	segment->creator_pid = stat.creator_pid;
	read_tail(segment);
	return 0;
}

/*
 * Attach the segment that has a key. If it is ours and its creator did not live
 * to finish it, or has not yet, finish it.
 */
int mf_sysv_join(const struct mf_sysv_request *request, struct mf_sysv_segment *segment)
{
	int status = mf_sysv_open(request->key, 0, 0, segment);

	if (status == 0 && segment->nonce == 0 && mf_leftover_marked(segment->kernel_size) &&
	    mf_load_acquire(&tail_of(segment)->magic) == 0) { /* SYNC segment-tail */
		status = reserve(request, segment);
		if (status == 0)
			status = write_tail(segment, request->size, 0);
		if (status != 0)
			shmdt(segment->address);
	}
	return status;
}

/*
 * Whose turn it is to initialise: 1 ours (if `wanted`; *claim_ret is the word
 * for mf_sysv_init_end), 0 nobody's, -EBUSY a process that lives is at it.
 */
int mf_sysv_init_claim(const struct mf_sysv_segment *segment, int wanted, uint64_t *claim_ret)
{
	struct mf_segment_tail *tail = tail_of(segment);
	uint64_t owner;

	*claim_ret = mf_process_claim(&tail->namespaces);
	do {
		owner = mf_load_acquire(&tail->init); /* SYNC segment-init */
		if (owner == MF_CLAIM_CLOSED)
			return 0;
		if (mf_process_claim_pid(owner) != 0 &&
		    mf_process_life(*claim_ret, owner) != MF_LIFE_DEAD)
			return -EBUSY;
	} while (wanted &&
		 !mf_swap_if_acq_rel(&tail->init, owner, *claim_ret)); /* SYNC segment-init */
	return wanted;
}

/* Done, once and for all; or given back, for the next one to try. */
void mf_sysv_init_end(const struct mf_sysv_segment *segment, uint64_t claim, int done)
{
	mf_swap_if_acq_rel(&tail_of(segment)->init, claim,
			   done ? MF_CLAIM_CLOSED : 0); /* SYNC segment-init */
}

/* Change mode, owner and group (IPC_SET); -1 keeps what is. */
int mf_sysv_set(int id, int64_t mode, int64_t uid, int64_t gid)
{
	struct shmid_ds status;

	if (shmctl(id, IPC_STAT, &status) != 0)
		return -errno;
	if (mode >= 0)
		status.shm_perm.mode = (unsigned short)mode;
	if (uid >= 0)
		status.shm_perm.uid = (uid_t)uid;
	if (gid >= 0)
		status.shm_perm.gid = (gid_t)gid;
	return shmctl(id, IPC_SET, &status) == 0 ? 0 : -errno;
}

int mf_sysv_lock(int id, int locked)
{
	return shmctl(id, locked ? SHM_LOCK : SHM_UNLOCK, NULL) == 0 ? 0 : -errno;
}

/* Returns 0 if the segment is gone, 1 if it is only marked: somebody is still attached. */
int mf_sysv_remove(int id)
{
	struct shmid_ds status;

	if (shmctl(id, IPC_RMID, NULL) != 0)
		return -errno;
	return shmctl(id, IPC_STAT, &status) == 0 || errno == EACCES;
}

/*
 * Remove what kills between shmget and IPC_RMID left of this user's: leftover.c
 * says which those are. Returns how many. Costs one SHM_STAT for each segment
 * of the machine.
 */
int mf_sysv_sweep(void)
{
	const uid_t user = geteuid();
	struct shminfo limits;
	struct shmid_ds status;
	int removed = 0;
	/* Not SHM_INFO: that one adds up the pages of every segment. */
	const int last = shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits);

	for (int index = 0; index <= last; index++) {
		const int id = shmctl(index, SHM_STAT, &status);

		if (id >= 0 && mf_leftover_marked(status.shm_segsz) && status.shm_nattch == 0 &&
		    status.shm_perm.uid == user)
			removed += mf_leftover_remove(id) == 1;
	}
	return removed;
}

int mf_sysv_limits(struct mf_sysv_limits *limits_ret)
{
	struct shminfo limits;
	struct shm_info usage;

	if (shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits) < 0 ||
	    shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&usage) < 0)
		return -errno;
	*limits_ret = (struct mf_sysv_limits){
		.shmmax = limits.shmmax,
		.shmmin = limits.shmmin,
		.shmmni = limits.shmmni,
		.shmall = limits.shmall,
		.used_segments = (uint64_t)usage.used_ids,
		.used_pages = usage.shm_tot,
	};
	return 0;
}
