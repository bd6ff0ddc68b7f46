/* SPDX-License-Identifier: MIT */
/*
 * sysvlist.c - all System V objects of this IPC namespace: ipcs(1) and ipcrm(1).
 *
 * SHM_STAT_ANY and its like (Linux 4.17) show what nobody let us read, as
 * /proc/sysvipc does, and at a third of its price. They take an index, not an
 * id; the kernel uses the low bits of an id as the index, so they find an
 * object by its id too, and say the id of what is there now.
 *
 * A listing is given an array and says how many there are: if that is more than
 * there is room for, the caller brings a larger one.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

/* semctl(2): the caller must define it. */
union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

static int64_t unsigned_key(int key)
{
	return (int64_t)(uint32_t)key;
}

/* How many objects there can be at the moment: one more than the highest index in use. */
int64_t mf_sysvlist_room(int kind)
{
	struct shminfo shm;
	struct seminfo sem;
	struct msginfo msg;
	int last;

	/* Not SHM_INFO: that one adds up the pages of every segment. */
	if (kind == MF_SYSVLIST_SHM)
		last = shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&shm);
	else if (kind == MF_SYSVLIST_SEM)
		last = semctl(0, 0, IPC_INFO, (union semun){.info = &sem});
	else
		last = msgctl(0, IPC_INFO, (struct msqid_ds *)(void *)&msg);
	return last < 0 ? -errno : last + 1;
}

/* ---- segments ---- */

static void fill_segment(struct mf_sysvlist_segment *row, int id, const struct shmid_ds *status)
{
	*row = (struct mf_sysvlist_segment){
		.id = id,
		.key = unsigned_key(status->shm_perm.__key),
		.size = status->shm_segsz,
		.mode = status->shm_perm.mode & 0777,
		.uid = status->shm_perm.uid,
		.gid = status->shm_perm.gid,
		.cuid = status->shm_perm.cuid,
		.cgid = status->shm_perm.cgid,
		.nattch = (int64_t)status->shm_nattch,
		.creator_pid = status->shm_cpid,
		.last_pid = status->shm_lpid,
		.attach_time = status->shm_atime,
		.detach_time = status->shm_dtime,
		.change_time = status->shm_ctime,
		.dest = (status->shm_perm.mode & SHM_DEST) != 0,
		.locked = (status->shm_perm.mode & SHM_LOCKED) != 0,
	};
}

/* All segments, without what is in memory: one system call each, and one more. */
int64_t mf_sysvlist_segments(struct mf_sysvlist_segment *rows, size_t room)
{
	struct shm_info usage;
	struct shmid_ds status;
	int64_t found = 0;
	const int64_t end = mf_sysvlist_room(MF_SYSVLIST_SHM);

	if (end < 0)
		return end;
	for (int index = 0; index < end; index++) {
		const int id = shmctl(index, SHM_STAT_ANY, &status);

		if (id < 0)
			continue; /* no such index, or gone a moment ago */
		if ((size_t)found < room)
			fill_segment(&rows[found], id, &status);
		found++;
	}
	/* None at all: there are none, or this kernel is older than SHM_STAT_ANY. */
	if (found == 0 &&
	    (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&usage) < 0 || usage.used_ids > 0))
		return mf_sysvtable_segments(rows, room);
	return found;
}

/* ---- semaphores and message queues ---- */

/* Before Linux 4.17 only what we may read is seen. */
static int array_stat(int index, struct semid_ds *status)
{
	const union semun argument = {.buf = status};
	const int id = semctl(index, 0, SEM_STAT_ANY, argument);

	return id < 0 && errno == EINVAL ? semctl(index, 0, SEM_STAT, argument) : id;
}

static int queue_stat(int index, struct msqid_ds *status)
{
	const int id = msgctl(index, MSG_STAT_ANY, status);

	return id < 0 && errno == EINVAL ? msgctl(index, MSG_STAT, status) : id;
}

static int segment_stat(int index, struct shmid_ds *status)
{
	const int id = shmctl(index, SHM_STAT_ANY, status);

	return id < 0 && errno == EINVAL ? shmctl(index, SHM_STAT, status) : id;
}

int64_t mf_sysvlist_arrays(struct mf_sysvlist_array *rows, size_t room)
{
	struct semid_ds status;
	int64_t found = 0;
	const int64_t end = mf_sysvlist_room(MF_SYSVLIST_SEM);

	if (end < 0)
		return end;
	for (int index = 0; index < end; index++) {
		const int id = array_stat(index, &status);

		if (id < 0)
			continue;
		if ((size_t)found < room)
			rows[found] = (struct mf_sysvlist_array){
				.id = id,
				.key = unsigned_key(status.sem_perm.__key),
				.mode = status.sem_perm.mode & 0777,
				.uid = status.sem_perm.uid,
				.gid = status.sem_perm.gid,
				.cuid = status.sem_perm.cuid,
				.cgid = status.sem_perm.cgid,
				.nsems = (int64_t)status.sem_nsems,
				.operation_time = status.sem_otime,
				.change_time = status.sem_ctime,
			};
		found++;
	}
	return found;
}

int64_t mf_sysvlist_queues(struct mf_sysvlist_queue *rows, size_t room)
{
	struct msqid_ds status;
	int64_t found = 0;
	const int64_t end = mf_sysvlist_room(MF_SYSVLIST_MSG);

	if (end < 0)
		return end;
	for (int index = 0; index < end; index++) {
		const int id = queue_stat(index, &status);

		if (id < 0)
			continue;
		if ((size_t)found < room)
			rows[found] = (struct mf_sysvlist_queue){
				.id = id,
				.key = unsigned_key(status.msg_perm.__key),
				.mode = status.msg_perm.mode & 0777,
				.uid = status.msg_perm.uid,
				.gid = status.msg_perm.gid,
				.cuid = status.msg_perm.cuid,
				.cgid = status.msg_perm.cgid,
				.used_bytes = (int64_t)status.__msg_cbytes,
				.messages = (int64_t)status.msg_qnum,
				.limit_bytes = (int64_t)status.msg_qbytes,
				.send_pid = status.msg_lspid,
				.receive_pid = status.msg_lrpid,
				.send_time = status.msg_stime,
				.receive_time = status.msg_rtime,
				.change_time = status.msg_ctime,
			};
		found++;
	}
	return found;
}

/* One semaphore of an array. Needs the right to read it. */
int mf_sysvlist_semaphore(int id, int number, struct mf_sysvlist_semaphore *semaphore_ret)
{
	const int commands[] = {GETVAL, GETNCNT, GETZCNT, GETPID};
	int64_t values[4];

	for (int i = 0; i < 4; i++) {
		values[i] = semctl(id, number, commands[i]);
		if (values[i] < 0)
			return -errno;
	}
	*semaphore_ret = (struct mf_sysvlist_semaphore){
		.value = values[0],
		.waiting_increase = values[1],
		.waiting_zero = values[2],
		.last_pid = values[3],
	};
	return 0;
}

/* ---- sums and limits ---- */

/* What is in use. SHM_INFO adds up the pages of every segment. */
int mf_sysvlist_usage(struct mf_sysvlist_usage *usage_ret)
{
	struct shm_info shm;
	struct seminfo sem;
	struct msginfo msg;

	if (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&shm) < 0 ||
	    semctl(0, 0, SEM_INFO, (union semun){.info = &sem}) < 0 ||
	    msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&msg) < 0)
		return -errno;
	*usage_ret = (struct mf_sysvlist_usage){
		.segments = (uint64_t)shm.used_ids,
		.shm_pages = shm.shm_tot,
		.shm_resident_pages = shm.shm_rss,
		.shm_swapped_pages = shm.shm_swp,
		.shm_swap_attempts = shm.swap_attempts,
		.shm_swap_successes = shm.swap_successes,
		.semaphore_arrays = (uint64_t)sem.semusz,
		.semaphores = (uint64_t)sem.semaem,
		.queues = (uint64_t)msg.msgpool,
		.messages = (uint64_t)msg.msgmap,
		.message_bytes = (uint64_t)msg.msgtql,
	};
	return 0;
}

int mf_sysvlist_limits(struct mf_sysvlist_limits *limits_ret)
{
	struct shminfo shm;
	struct seminfo sem;
	struct msginfo msg;

	if (shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&shm) < 0 ||
	    semctl(0, 0, IPC_INFO, (union semun){.info = &sem}) < 0 ||
	    msgctl(0, IPC_INFO, (struct msqid_ds *)(void *)&msg) < 0)
		return -errno;
	*limits_ret = (struct mf_sysvlist_limits){
		.shmmax = shm.shmmax,
		.shmmin = shm.shmmin,
		.shmall = shm.shmall,
		.shmmni = shm.shmmni,
		.semmni = (uint64_t)sem.semmni,
		.semmsl = (uint64_t)sem.semmsl,
		.semmns = (uint64_t)sem.semmns,
		.semopm = (uint64_t)sem.semopm,
		.semvmx = (uint64_t)sem.semvmx,
		.msgmni = (uint64_t)msg.msgmni,
		.msgmax = (uint64_t)msg.msgmax,
		.msgmnb = (uint64_t)msg.msgmnb,
	};
	return 0;
}

/* ---- removal ---- */

static int same(const struct mf_sysvlist_seen *seen, int id, const struct ipc_perm *now,
		int64_t change_time)
{
	return id == seen->id && unsigned_key(now->__key) == seen->key &&
	       (int64_t)now->uid == seen->uid && change_time == seen->change_time;
}

static int remove_segment(const struct mf_sysvlist_seen *seen)
{
	struct shmid_ds status;
	const int id = segment_stat((int)seen->id, &status);

	if (id < 0)
		return -errno;
	if (!same(seen, id, &status.shm_perm, status.shm_ctime))
		return -ESTALE;
	if (seen->only_unused && status.shm_nattch != 0)
		return -EBUSY;
	if (shmctl(id, IPC_RMID, NULL) != 0)
		return -errno;
	return segment_stat(id, &status) == id;
}

static int remove_array(const struct mf_sysvlist_seen *seen)
{
	struct semid_ds status;
	const int id = array_stat((int)seen->id, &status);

	if (id < 0)
		return -errno;
	if (!same(seen, id, &status.sem_perm, status.sem_ctime))
		return -ESTALE;
	return semctl(id, 0, IPC_RMID) == 0 ? 0 : -errno;
}

static int remove_queue(const struct mf_sysvlist_seen *seen)
{
	struct msqid_ds status;
	const int id = queue_stat((int)seen->id, &status);

	if (id < 0)
		return -errno;
	if (!same(seen, id, &status.msg_perm, status.msg_ctime))
		return -ESTALE;
	return msgctl(id, IPC_RMID, NULL) == 0 ? 0 : -errno;
}

/*
 * Remove what was seen, if it still is that: an id may have come to name
 * another object, or the object another owner. Returns 0 if it is gone, 1 if it
 * is only marked, -ESTALE or -EBUSY if it was left alone.
 */
int mf_sysvlist_remove(int kind, const struct mf_sysvlist_seen *seen)
{
	switch (kind) {
	case MF_SYSVLIST_SHM:
		return remove_segment(seen);
	case MF_SYSVLIST_SEM:
		return remove_array(seen);
	default:
		return remove_queue(seen);
	}
}

/*
 * Whether nobody has a segment attached and who made it is provably dead. A pid
 * that lives is taken for the creator: that its process started after the last
 * change of the segment proves nothing, since the clock may have been set.
 */
int mf_sysvlist_abandoned(int64_t nattch, int64_t creator_pid)
{
	return nattch == 0 && mf_process_exists(creator_pid) == 0;
}
