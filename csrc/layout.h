/* SPDX-License-Identifier: MIT */
/*
 * layout.h - the bytes two processes share. Changing anything here is a format
 * change: raise MF_LAYOUT_VERSION (memfast.h) and say so in CHANGELOG.md.
 *
 * A pointer is never stored in shared memory, and a process that attaches
 * copies the shape to private memory and never reads it again.
 */
#ifndef MEMFAST_LAYOUT_H
#define MEMFAST_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MF_LINE_BYTES = 64,
	MF_NAMESPACE_COUNT = 7, /* the eighth index says: not recorded, so unknown */
};

/*
 * A claim: who owns something, in one word, so that taking it and saying who
 * took it are the same store.
 *
 *   bit 63                  37 36       25 24   22 21                      0
 *      +----------------------+-----------+-------+------------------------+
 *      | start time (ticks    | number of | name- | process id             |
 *      | after boot, low end) | the claim | space | as its namespace has it|
 *      +----------------------+-----------+-------+------------------------+
 *
 * Pids end at 2^22 (PID_MAX_LIMIT, proc_sys_kernel(5)). The number tells two
 * claims of one process apart. Of the start time the low 27 bits are kept:
 * after 15 days at 100 Hz a reused pid may pass for its former owner, which
 * makes a dead process look alive and never the other way round. Pid 0 is
 * nobody: 0 is "never taken", and MF_CLAIM_CLOSED is "given back in order".
 */
#define MF_CLAIM_PID_BITS	22
#define MF_CLAIM_NAMESPACE_BITS 3
#define MF_CLAIM_NUMBER_BITS	12
#define MF_CLAIM_NUMBER_SHIFT	(MF_CLAIM_PID_BITS + MF_CLAIM_NAMESPACE_BITS)
#define MF_CLAIM_TICKS_SHIFT	(MF_CLAIM_NUMBER_SHIFT + MF_CLAIM_NUMBER_BITS)
#define MF_CLAIM_CLOSED		(UINT64_C(1) << MF_CLAIM_NUMBER_SHIFT)

/*
 * The namespaces a claim may refer to. Each word is set once, from zero, and
 * holds the inode of a pid namespace (high half) and of a time namespace (low
 * half): a pid and a start time mean something only to who shares both.
 */
struct mf_namespaces_layout {
	uint64_t inodes[MF_NAMESPACE_COUNT];
	uint64_t claims; /* claims made so far: only ever a source of different numbers */
};

/*
 * The ring: one sender, one receiver, messages of any size up to `capacity`.
 *
 *   offset      0          64           128        256        384
 *               +----------+------------+----------+----------+----------+
 *               | shape    | namespaces | roles    | sender   | receiver |
 *               +----------+------------+----------+----------+----------+
 *                 constant   set once     claims     sender     receiver
 *                                                    stores     stores
 *   offset      512        640          4096              4096 + capacity
 *               +----------+------------+-----------------+--------------+
 *               | wait     | wait       | slots, 128 bytes| arena,       |
 *               | receiver | sender     | each            | capacity     |
 *               +----------+------------+-----------------+--------------+
 *                 the sleeper stores,     one lap of        payloads over
 *                 the other side looks    `slot_count`      120 bytes
 *
 * Two lines apart, because the adjacent-line prefetcher moves lines in pairs.
 */
struct mf_slot {
	/*
	 * The commit word: the low half of (message number + 1) above, the length
	 * below. A slot's stale word is a lap old and so can never pass for the
	 * next one: nothing has to be cleared.
	 */
	uint64_t commit;
	union {
		unsigned char body[120]; /* length <= 120 */
		uint64_t position;	 /* longer: where in the arena, counted without wrapping */
	};
};

/*
 * How far an end has come. `state` is the number of messages, shifted up by
 * one; its lowest bit says which cell of each pair is true. So the three move
 * in one store, and a death between any two stores leaves the old state whole.
 */
struct mf_progress_layout {
	uint64_t state;	      /* messages sent, or received, times two, plus the cell */
	uint64_t position[2]; /* arena bytes taken, or given back, counted without wrapping */
	uint64_t bytes[2];    /* payload bytes sent, or received */
	uint64_t waits;	      /* how often this end went to sleep */
	uint64_t reserved[10];
};

struct mf_wait_layout {
	uint32_t word; /* futex: MF_WAIT_... */
	uint32_t reserved[31];
};

enum {
	MF_WAIT_AWAKE = 0,
	MF_WAIT_ASLEEP = 1, /* look after committing: somebody wants a wake-up */
};

struct mf_ring_layout {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t capacity;
	uint64_t slot_count;
	uint64_t shape_reserved[4];
	struct mf_namespaces_layout namespaces;
	uint64_t sender_claim;
	uint64_t receiver_claim;
	uint64_t roles_reserved[14];
	struct mf_progress_layout sender;
	struct mf_progress_layout receiver;
	struct mf_wait_layout receiver_wait;
	struct mf_wait_layout sender_wait;
	unsigned char padding[4096 - 768];
	/* slots, then the arena */
};

#define MF_RING_MAGIC UINT64_C(0x474e495254534146) /* "FASTRING", little-endian */

static_assert(sizeof(struct mf_slot) == 128, "format");
static_assert(offsetof(struct mf_slot, body) == 8, "format");
static_assert(sizeof(struct mf_namespaces_layout) == 64, "format");
static_assert(sizeof(struct mf_progress_layout) == 128, "format");
static_assert(sizeof(struct mf_wait_layout) == 128, "format");
static_assert(offsetof(struct mf_ring_layout, namespaces) == 64, "format");
static_assert(offsetof(struct mf_ring_layout, sender_claim) == 128, "format");
static_assert(offsetof(struct mf_ring_layout, sender) == 256, "format");
static_assert(offsetof(struct mf_ring_layout, receiver) == 384, "format");
static_assert(offsetof(struct mf_ring_layout, receiver_wait) == 512, "format");
static_assert(offsetof(struct mf_ring_layout, sender_wait) == 640, "format");
static_assert(sizeof(struct mf_ring_layout) == 4096, "format");

/*
 * Behind the user's bytes of a System V segment of ours: the last 128 bytes of
 * its last 4 KiB. Its size in the kernel ends MF_SEGMENT_MARK bytes into a
 * page, which is how `ipcs` and the reaper tell our segments from others'; the
 * tail itself lies beyond that size but inside the page, which shmat(2) always
 * maps whole.
 *
 *   ...user's bytes | unused | mark: 3955 of 4096 | unused | tail, 128 bytes |
 */
struct mf_segment_tail {
	uint64_t magic;
	uint64_t nonce;	     /* random: this life of the id */
	uint64_t size_bytes; /* what the user asked for */
	uint64_t init;	     /* open_or_create: 0, a claim while init runs, then MF_CLAIM_CLOSED */
	uint64_t reserved[4];
	struct mf_namespaces_layout namespaces;
};

enum {
	MF_SEGMENT_MARK = 3955,
};

#define MF_SEGMENT_MAGIC UINT64_C(0x4d47455354534146) /* "FASTSEGM", little-endian */

static_assert(sizeof(struct mf_segment_tail) == 128, "format");
static_assert(MF_SEGMENT_MARK + sizeof(struct mf_segment_tail) <= 4096, "the tail lies behind");

/* What a name under /dev/shm/memfast-<euid>/ holds when it stands for a segment. */
struct mf_name_record {
	uint64_t magic;
	uint32_t version;
	int32_t segment_id;
	uint64_t nonce;	    /* must equal the segment's */
	uint64_t ipc_inode; /* the IPC namespace in which the id means something */
	uint64_t reserved[4];
};

#define MF_NAME_MAGIC UINT64_C(0x454d414e54534146) /* "FASTNAME", little-endian */

static_assert(sizeof(struct mf_name_record) == 64, "format");

#endif
