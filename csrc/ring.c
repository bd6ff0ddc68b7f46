/* SPDX-License-Identifier: MIT */
/*
 * ring.c - the ring as a whole, on memory given to it: its size, its making,
 * its check, and its figures as seen from outside.
 */
#include "ring.h"

#include <errno.h>

enum {
	RING_CAPACITY_LOG2_MAX = 36,
};

/* A slot has 32 bits for the length; INT32_MAX is what every consumer of lengths can hold. */
static const uint64_t MESSAGE_MAX_BYTES = INT32_MAX - 63;

/* The bytes that a ring of this capacity (a power of two) takes. */
uint64_t mf_ring_size(uint64_t capacity)
{
	return sizeof(struct mf_ring_layout) + 2 * capacity;
}

/* The largest message that fits into a ring of this capacity. */
uint64_t mf_ring_message_max(uint64_t capacity)
{
	return capacity < MESSAGE_MAX_BYTES ? capacity : MESSAGE_MAX_BYTES;
}

static int capacity_valid(uint64_t capacity)
{
	return capacity >= MF_RING_CAPACITY_MIN && (capacity & (capacity - 1)) == 0 &&
	       capacity <= UINT64_C(1) << RING_CAPACITY_LOG2_MAX;
}

/*
 * Make a ring in zeroed memory that nobody else uses yet. The magic is written
 * last: memory without it is no ring.
 *
 *   first_count  number of the first message: 0, but for tests of wrapping
 */
int mf_ring_format(void *memory, size_t memory_size, uint64_t capacity, uint64_t first_count)
{
	struct mf_ring_layout *shared = memory;
	struct mf_slot *slots = (struct mf_slot *)(shared + 1);

	if (!capacity_valid(capacity) || memory_size < mf_ring_size(capacity))
		return -EINVAL;
	shared->version = MF_LAYOUT_VERSION;
	shared->header_bytes = sizeof *shared;
	shared->capacity = capacity;
	shared->slot_count = capacity / sizeof(struct mf_slot);
	for (uint64_t lap = 0; first_count != 0 && lap < shared->slot_count; lap++) {
		const uint64_t count = first_count + lap;

		/* As if the lap before had been sent: zeroes could pass for message 2^32 - 1. */
		slots[count & (shared->slot_count - 1)].commit = (count + 1 - shared->slot_count)
								 << 32;
	}
	shared->sender.state = first_count << 1;
	shared->receiver.state = first_count << 1;
	mf_store_release(&shared->magic, MF_RING_MAGIC); /* SYNC ring-format */
	return 0;
}

/* The layout version that the memory names, or 0 if it holds no ring at all. */
uint32_t mf_ring_version(const void *memory, size_t memory_size)
{
	const struct mf_ring_layout *shared = memory;

	if (memory_size < sizeof *shared ||
	    mf_load_acquire(&shared->magic) != MF_RING_MAGIC) /* SYNC ring-format */
		return 0;
	return mf_load32_relaxed(&shared->version);
}

/*
 * Whether the memory holds a ring that this build can use: 0, -EPROTO if it
 * holds none or a damaged one, -EPROTONOSUPPORT if another version's.
 */
int mf_ring_check(const void *memory, size_t memory_size, uint64_t *capacity_ret)
{
	const struct mf_ring_layout *shared = memory;
	const uint32_t version = mf_ring_version(memory, memory_size);
	uint64_t capacity;

	if (version == 0)
		return -EPROTO;
	if (version != MF_LAYOUT_VERSION)
		return -EPROTONOSUPPORT;
	capacity = mf_load_relaxed(&shared->capacity);
	if (mf_load32_relaxed(&shared->header_bytes) != sizeof *shared ||
	    !capacity_valid(capacity) || mf_ring_size(capacity) > memory_size ||
	    mf_load_relaxed(&shared->slot_count) != capacity / sizeof(struct mf_slot))
		return -EPROTO;
	*capacity_ret = capacity;
	return 0;
}

/* A whole state of one end; after so many tries beside a busy or hostile one, whatever is there. */
static void read_progress(const struct mf_progress_layout *progress, struct mf_ring_cursor *cursor)
{
	uint64_t state;

	for (int attempt = 0; attempt < 1000; attempt++) {
		state = mf_load_acquire(&progress->state); /* SYNC ring-freed */
		cursor->count = state >> 1;
		cursor->position =
			mf_load_acquire(&progress->position[state & 1]);      /* SYNC ring-freed */
		cursor->bytes = mf_load_acquire(&progress->bytes[state & 1]); /* SYNC ring-freed */
		if (mf_load_acquire(&progress->state) == state)		      /* SYNC ring-freed */
			return;
	}
}

int mf_ring_stats(const void *memory, size_t memory_size, struct mf_ring_stats *stats_ret)
{
	const struct mf_ring_layout *shared = memory;
	struct mf_ring_cursor sent, received;
	int status = mf_ring_check(memory, memory_size, &stats_ret->capacity);

	if (status != 0)
		return status;
	read_progress(&shared->receiver, &received);
	read_progress(&shared->sender, &sent);
	if ((int64_t)(received.count - sent.count) > 0)
		sent = received; /* between its commit and its state: it may have died there */
	stats_ret->messages_sent = sent.count;
	stats_ret->bytes_sent = sent.bytes;
	stats_ret->messages_received = received.count;
	stats_ret->bytes_received = received.bytes;
	stats_ret->used = sent.bytes > received.bytes ? sent.bytes - received.bytes : 0;
	stats_ret->waits =
		mf_load_relaxed(&shared->sender.waits) + mf_load_relaxed(&shared->receiver.waits);
	stats_ret->sender_pid = mf_process_claim_pid(mf_load_relaxed(&shared->sender_claim));
	stats_ret->receiver_pid = mf_process_claim_pid(mf_load_relaxed(&shared->receiver_claim));
	return 0;
}
