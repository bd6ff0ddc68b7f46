/* SPDX-License-Identifier: MIT */
/*
 * leftover.c - memfast's System V segments as seen from outside, and which of
 * them were left by a kill between shmget(2) and IPC_RMID.
 *
 * A segment bears our mark in its size (layout.h). Attached, it lives: the
 * kernel detaches at a process's end. With a key, it stays until somebody
 * removes it. Only one without key, user and page, whose creator is provably
 * dead, is what a kill left.
 */
#define _GNU_SOURCE
#include "memfast.h"
#include "layout.h"

#include <errno.h>
#include <stdio.h>
#include <sys/shm.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15 /* Linux 4.17 */
#endif

enum {
	PAGE = 4096, /* the unit of the mark, not of the machine */
};

int mf_leftover_marked(uint64_t kernel_size)
{
	return kernel_size % PAGE == MF_SEGMENT_MARK;
}

/* Whether not one page of a segment exists, in memory or in swap: proc(5). */
static int is_pageless(int id)
{
	char line[512];
	unsigned long long rss, swap;
	int row, found = 0;
	FILE *table = fopen("/proc/sysvipc/shm", "re");

	if (table == NULL)
		return 0;
	while (!found && fgets(line, sizeof line, table) != NULL)
		found = sscanf(line,
			       "%*d %d %*o %*u %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %llu %llu",
			       &row, &rss, &swap) == 3 &&
			row == id;
	fclose(table);
	return found && rss == 0 && swap == 0;
}

/* A creator of another pid namespace has pid 0 here, which proves nothing. */
static enum mf_life life_of(int id, const struct shmid_ds *status)
{
	if (status->shm_nattch != 0 || status->shm_perm.__key != IPC_PRIVATE)
		return MF_LIFE_ALIVE;
	if (status->shm_cpid != 0 && mf_process_exists(status->shm_cpid) != 0)
		return MF_LIFE_ALIVE;
	if (status->shm_cpid == 0 || status->shm_perm.uid != status->shm_perm.cuid ||
	    !is_pageless(id))
		return MF_LIFE_UNKNOWN;
	return MF_LIFE_DEAD;
}

/*
 * The next segment of ours from *index on, whoever owns it; *index goes behind
 * it. Returns 1 if there is one, 0 at the end. Costs one call for each slot of
 * the table.
 */
int mf_leftover_next(int *index, struct mf_leftover *found_ret)
{
	struct shminfo limits;
	struct shmid_ds status;
	/* Not SHM_INFO: that one adds up the pages of every segment. */
	const int last = shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits);

	while (*index <= last) {
		int id = shmctl(*index, SHM_STAT_ANY, &status);

		if (id < 0 && errno == EINVAL) /* not used, or an older kernel: what we may read */
			id = shmctl(*index, SHM_STAT, &status);
		(*index)++;
		if (id < 0 || !mf_leftover_marked(status.shm_segsz))
			continue;
		*found_ret = (struct mf_leftover){
			.id = id,
			.life = life_of(id, &status),
			.key = (int64_t)(uint32_t)status.shm_perm.__key,
			.size = status.shm_segsz,
			.uid = status.shm_perm.uid,
			.nattch = status.shm_nattch,
			.creator_pid = status.shm_cpid,
			.change_time_s = status.shm_ctime,
		};
		return 1;
	}
	return 0;
}

/* Remove a segment if it still is what a kill left: 1 removed, 0 left alone, or -errno. */
int mf_leftover_remove(int id)
{
	struct shmid_ds status;

	if (shmctl(id, IPC_STAT, &status) != 0)
		return -errno;
	if (!mf_leftover_marked(status.shm_segsz) || life_of(id, &status) != MF_LIFE_DEAD)
		return 0;
	return shmctl(id, IPC_RMID, NULL) == 0 ? 1 : -errno;
}
