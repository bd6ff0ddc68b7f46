/* SPDX-License-Identifier: MIT */
/*
 * ring.c - one sender and one receiver on memory given to them: claim a role,
 * send, receive, lend. Mapping memory and raising errors are others' work.
 *
 * A message exists from one store on, the commit word of its slot; before it
 * nothing happened, so a sender may die at any instruction. A message is gone
 * from one store on, the receiver's state; before it the next receiver gets it
 * again. Nothing in the shared bytes is trusted: the shape is copied at attach,
 * each word is loaded once, and each length is bounded before it is used.
 */
#include "memfast.h"
#include "layout.h"
#include "atomics.h"

#include <errno.h>
#include <string.h>

enum {
	/*
	 * Rings whose arena stays in the second-level cache gain when the reader
	 * hands lines back; larger ones lose (docs/decisions/0003).
	 */
	GIVE_LINES_MAX_BYTES = 256 * 1024,
	RING_CAPACITY_LOG2_MAX = 36,
};

/* A slot has 32 bits for the length; INT32_MAX is what every consumer of lengths can hold. */
static const uint64_t MESSAGE_MAX_BYTES = INT32_MAX - 63;

static uint64_t round_up(uint64_t value, uint64_t step)
{
	return (value + step - 1) & ~(step - 1);
}

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

static struct mf_slot *slot_at(const struct mf_ring_end *end, uint64_t count)
{
	return (struct mf_slot *)end->slots + (count & (end->slot_count - 1));
}

static int committed(uint64_t count, uint64_t commit)
{
	return (uint32_t)(commit >> 32) == (uint32_t)(count + 1);
}

/* ---- roles ---- */

static int attach(void *memory, size_t memory_size, struct mf_ring_end *end)
{
	uint64_t capacity;
	int status = mf_ring_check(memory, memory_size, &capacity);

	if (status != 0)
		return status;
	memset(end, 0, sizeof *end);
	end->shared = memory;
	end->slots = (unsigned char *)memory + sizeof(struct mf_ring_layout);
	end->arena = end->slots + capacity;
	end->capacity = capacity;
	end->slot_count = capacity / sizeof(struct mf_slot);
	end->give_lines = capacity <= GIVE_LINES_MAX_BYTES;
	end->fenced = mf_wait_register() != 0;
	return 0;
}

/*
 * Take a role: free, given back, left by the provably dead, or handed to us
 * (`from` is the word of who handed it on; otherwise 0). Who has it and that
 * it is taken are one store.
 */
static int claim(struct mf_ring_end *end, uint64_t *role, uint64_t from, int *owner_ret)
{
	uint64_t owner;

	end->claim = mf_process_claim(&end->shared->namespaces);
	do {
		owner = mf_load_acquire(role); /* SYNC role */
		if (owner != from && mf_process_claim_pid(owner) != 0 &&
		    mf_process_life(end->claim, owner) != MF_LIFE_DEAD) {
			*owner_ret = mf_process_claim_pid(owner);
			return -EBUSY;
		}
	} while (!mf_swap_if_acq_rel(role, owner, end->claim)); /* SYNC role */
	return 0;
}

/* Leave a role, unless somebody has taken it over from us; whether we did. */
static int unclaim(struct mf_ring_end *end, uint64_t *role, uint64_t word)
{
	return mf_swap_if_acq_rel(role, end->claim, word); /* SYNC role */
}

/* Let a peer that sleeps see that there is somebody else to wait for, and to watch. */
static void announce(struct mf_wait_layout *peer)
{
	mf_fence_full(); /* SYNC sleep */
	mf_wait_wake(peer);
}

static void load_progress(struct mf_ring_end *end, const struct mf_progress_layout *progress)
{
	const uint64_t state = mf_load_acquire(&progress->state); /* SYNC ring-freed */

	end->cell = state & 1;
	end->cursor.count = state >> 1;
	end->cursor.position = mf_load_relaxed(&progress->position[end->cell]);
	end->cursor.bytes = mf_load_relaxed(&progress->bytes[end->cell]);
}

/* Publish in two steps, cells first, so that no death can leave them apart. */
static void store_cells(const struct mf_ring_end *end, struct mf_progress_layout *progress,
			const struct mf_ring_cursor *cursor)
{
	const uint64_t cell = end->cell ^ 1;

	/* Released, for a peer that pairs this cell with a state one lap newer. */
	mf_store_release(&progress->position[cell], cursor->position); /* SYNC ring-freed */
	mf_store_release(&progress->bytes[cell], cursor->bytes);       /* SYNC ring-freed */
}

static void store_state(struct mf_ring_end *end, struct mf_progress_layout *progress,
			const struct mf_ring_cursor *cursor)
{
	end->cell ^= 1;
	mf_store_release(&progress->state, cursor->count << 1 | end->cell); /* SYNC ring-freed */
}

/*
 * Become the sender. If the last one died between its commit and its state,
 * its message exists: count it.
 */
int mf_ring_claim_sender(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			 int *owner_ret)
{
	struct mf_ring_layout *shared = memory;
	struct mf_slot *slot;
	uint64_t received;
	int status = attach(memory, memory_size, end);

	if (status == 0)
		status = claim(end, &shared->sender_claim, from, owner_ret);
	if (status != 0)
		return status;
	load_progress(end, &shared->sender);
	received = mf_load_acquire(&shared->receiver.state) >> 1; /* SYNC ring-freed */
	slot = slot_at(end, end->cursor.count);
	if (committed(end->cursor.count, mf_load_acquire(&slot->commit))) { /* SYNC ring-filled */
		end->cursor.count++;
		end->cursor.position = mf_load_relaxed(&shared->sender.position[end->cell ^ 1]);
		end->cursor.bytes = mf_load_relaxed(&shared->sender.bytes[end->cell ^ 1]);
		store_state(end, &shared->sender, &end->cursor);
	}
	if (end->cursor.count - received > end->slot_count) {
		unclaim(end, &shared->sender_claim, 0);
		return -EPROTO;
	}
	end->count_seen = received;
	end->position_seen = end->cursor.position - end->capacity; /* full, until looked at */
	mf_wait_init(&end->waiter, &shared->sender_wait, &shared->sender.waits);
	announce(&shared->receiver_wait);
	return 0;
}

int mf_ring_claim_receiver(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			   int *owner_ret)
{
	struct mf_ring_layout *shared = memory;
	int status = attach(memory, memory_size, end);

	if (status == 0)
		status = claim(end, &shared->receiver_claim, from, owner_ret);
	if (status != 0)
		return status;
	load_progress(end, &shared->receiver);
	mf_wait_init(&end->waiter, &shared->receiver_wait, &shared->receiver.waits);
	announce(&shared->sender_wait);
	return 0;
}

static void close_role(struct mf_ring_end *end, uint64_t *role, struct mf_wait_layout *own,
		       struct mf_wait_layout *peer)
{
	if (!unclaim(end, role, MF_CLAIM_CLOSED))
		return; /* handed on */
	announce(peer);
	mf_wait_wake(own); /* threads of ours that wait */
}

/* Give the sender's role back; the receiver drains what is there and is then told. */
void mf_ring_close_sender(struct mf_ring_end *end)
{
	struct mf_ring_layout *shared = end->shared;

	close_role(end, &shared->sender_claim, &shared->sender_wait, &shared->receiver_wait);
}

/* Give the receiver's role back; what was not received stays for the next one. */
void mf_ring_close_receiver(struct mf_ring_end *end)
{
	struct mf_ring_layout *shared = end->shared;

	close_role(end, &shared->receiver_claim, &shared->receiver_wait, &shared->sender_wait);
}

/* The word in the other end's role: who has it, if anybody. */
uint64_t mf_ring_peer_claim(const struct mf_ring_end *end, int is_sender)
{
	const struct mf_ring_layout *shared = end->shared;

	return mf_load_acquire(is_sender ? &shared->receiver_claim : /* SYNC role */
				       &shared->sender_claim);
}

/* What has become of the other end, as enum mf_peer; its pid while it has one. */
int mf_ring_peer(const struct mf_ring_end *end, int is_sender, int *pid_ret)
{
	const uint64_t owner = mf_ring_peer_claim(end, is_sender);

	*pid_ret = mf_process_claim_pid(owner);
	if (*pid_ret == 0)
		return owner == 0 ? MF_PEER_ABSENT : MF_PEER_CLOSED;
	return mf_process_life(end->claim, owner) == MF_LIFE_DEAD ? MF_PEER_DEAD : MF_PEER_HERE;
}

/* ---- sending ---- */

static int receiver_closed(const struct mf_ring_end *end)
{
	return mf_load_relaxed(&end->shared->receiver_claim) == MF_CLAIM_CLOSED;
}

/* Look at the receiver's progress anew: a line that only this look brings over. */
static int look_at_receiver(struct mf_ring_end *end)
{
	const struct mf_progress_layout *receiver = &end->shared->receiver;
	const uint64_t state = mf_load_acquire(&receiver->state); /* SYNC ring-freed */

	if (end->cursor.count - (state >> 1) > end->slot_count)
		return -EPROTO; /* it claims to have received what was never sent */
	end->count_seen = state >> 1;
	/* At least as new as the state: whatever it frees was read before it was stored. */
	end->position_seen = mf_load_acquire(&receiver->position[state & 1]); /* SYNC ring-freed */
	return 0;
}

/* Where a payload of this size would begin: it never wraps, so it can be lent. */
static uint64_t position_for(const struct mf_ring_end *end, uint64_t room)
{
	const uint64_t offset = end->cursor.position & (end->capacity - 1);

	return offset + room > end->capacity ? end->cursor.position + end->capacity - offset
					     : end->cursor.position;
}

static int arena_has_room(const struct mf_ring_end *end, uint64_t position, uint64_t room)
{
	return end->cursor.count == end->count_seen || /* nothing unread: all of it is free */
	       position + room - end->position_seen <= end->capacity;
}

/*
 * Find room for a message: -EAGAIN if there is none now. Sets end->next to the
 * cursor after it, and its slot's position word if it goes to the arena.
 */
static int reserve(struct mf_ring_end *end, size_t body_size, void **body_ret)
{
	struct mf_slot *slot = slot_at(end, end->cursor.count);
	int status;

	if (end->cursor.count - end->count_seen >= end->slot_count) {
		status = look_at_receiver(end);
		if (status != 0)
			return status;
		if (end->cursor.count - end->count_seen >= end->slot_count)
			return -EAGAIN;
	}
	end->next.count = end->cursor.count + 1;
	end->next.bytes = end->cursor.bytes + body_size;
	if (body_size <= MF_RING_INLINE_MAX) {
		end->next.position = end->cursor.position;
		*body_ret = slot->body;
		return 0;
	}

	const uint64_t room = round_up(body_size, MF_LINE_BYTES);
	const uint64_t position = position_for(end, room);

	if (!arena_has_room(end, position, room)) {
		status = look_at_receiver(end);
		if (status != 0)
			return status;
		if (!arena_has_room(end, position, room))
			return -EAGAIN;
	}
	end->next.position = position + room;
	mf_store_relaxed(&slot->position, position);
	*body_ret = end->arena + (position & (end->capacity - 1));
	return 0;
}

/* Whether the role has been taken from us, which only a damaged or hostile ring does. */
static int role_lost(const struct mf_ring_end *end, const uint64_t *role)
{
	return mf_load_relaxed(role) != end->claim;
}

static int sendable(const struct mf_ring_end *end, size_t body_size)
{
	if (body_size > mf_ring_message_max(end->capacity))
		return -EMSGSIZE;
	return receiver_closed(end) ? -EPIPE : 0;
}

/* Before anybody waits for room: a role that is no longer ours gets none. */
static int no_room(const struct mf_ring_end *end, int status)
{
	return status == -EAGAIN && role_lost(end, &end->shared->sender_claim) ? -ESTALE : status;
}

static void commit(struct mf_ring_end *end, size_t body_size)
{
	struct mf_progress_layout *progress = &end->shared->sender;
	struct mf_slot *slot = slot_at(end, end->cursor.count);

	store_cells(end, progress, &end->next);
	/* The message exists from this store on; before it, nothing happened. */
	mf_store_release(&slot->commit, /* SYNC ring-filled */
			 (end->cursor.count + 1) << 32 | (uint32_t)body_size);
	end->cursor = end->next;
	store_state(end, progress, &end->cursor);
	if (end->fenced)
		mf_fence_full(); /* SYNC sleep */
	else
		mf_fence_compiler(); /* SYNC sleep: the sleeper's membarrier(2) does the rest */
	if (mf_load32_relaxed(&end->shared->receiver_wait.word) == MF_WAIT_ASLEEP)
		mf_wait_wake(&end->shared->receiver_wait);
}

/*
 * Send one message: one copy, and no system call unless the receiver sleeps.
 *
 * Returns 0, -EAGAIN if there is no room now, -EMSGSIZE if there can never be,
 * -EPIPE if the receiver has closed, -EPROTO if its progress is impossible,
 * -ESTALE if the role is no longer ours.
 */
int mf_ring_send(struct mf_ring_end *end, const void *body, size_t body_size)
{
	void *place;
	int status = sendable(end, body_size);

	if (status == 0)
		status = reserve(end, body_size, &place);
	if (status != 0)
		return no_room(end, status);
	if (body_size != 0)
		memcpy(place, body, body_size);
	commit(end, body_size);
	return 0;
}

/* Like mf_ring_send, but the caller writes the bytes, then commits, or does neither. */
int mf_ring_loan(struct mf_ring_end *end, size_t body_size, void **body_ret)
{
	int status = sendable(end, body_size);

	if (status == 0)
		status = reserve(end, body_size, body_ret);
	return no_room(end, status);
}

void mf_ring_commit(struct mf_ring_end *end, size_t body_size)
{
	commit(end, body_size);
}

/* Whether a send would find room, or learn that there is no use in waiting. Needs no lock. */
int mf_ring_has_space(const struct mf_ring_end *original, size_t body_size)
{
	struct mf_ring_end end = *original; /* a private copy: other threads may be sending */
	const uint64_t room = round_up(body_size, MF_LINE_BYTES);

	if (receiver_closed(&end) || role_lost(&end, &end.shared->sender_claim) ||
	    look_at_receiver(&end) != 0)
		return 1; /* let the caller find out */
	return end.cursor.count - end.count_seen < end.slot_count &&
	       (body_size <= MF_RING_INLINE_MAX ||
		arena_has_room(&end, position_for(&end, room), room));
}

/* ---- receiving ---- */

/*
 * Look at the next message without taking it: -EAGAIN if there is none yet,
 * -EPIPE if the sender has closed and all was received,
 * -EPROTO if its length or place is impossible, -ESTALE if the role is no longer
 * ours. Length and place are loaded
 * once; what is returned lies inside the ring whatever the peer stores.
 */
int mf_ring_peek(struct mf_ring_end *end, const void **body_ret, size_t *body_size_ret)
{
	const struct mf_slot *slot = slot_at(end, end->cursor.count);
	uint64_t commit = mf_load_acquire(&slot->commit); /* SYNC ring-filled */

	if (!committed(end->cursor.count, commit)) {
		if (role_lost(end, &end->shared->receiver_claim))
			return -ESTALE;
		if (mf_load_acquire(&end->shared->sender_claim) != MF_CLAIM_CLOSED) /* SYNC role */
			return -EAGAIN;
		commit = mf_load_acquire(
			&slot->commit); /* SYNC ring-filled: its last one, perhaps */
		if (!committed(end->cursor.count, commit))
			return -EPIPE;
	}

	const uint64_t body_size = (uint32_t)commit;

	end->next.count = end->cursor.count + 1;
	end->next.bytes = end->cursor.bytes + body_size;
	if (body_size <= MF_RING_INLINE_MAX) {
		end->next.position = end->cursor.position;
		*body_ret = slot->body;
	} else {
		const uint64_t position = mf_load_relaxed(&slot->position);
		const uint64_t offset = position & (end->capacity - 1);

		if (body_size > end->capacity - offset)
			return -EPROTO;
		end->next.position = position + round_up(body_size, MF_LINE_BYTES);
		*body_ret = end->arena + offset;
	}
	*body_size_ret = body_size;
	return 0;
}

/*
 * Store to each line we have read the word that it holds already. The bytes
 * stay (the next receiver may need them), but the line becomes ours alone, and
 * the sender's next pass gets it from one owner instead of two sharers.
 */
static void give_lines(unsigned char *body, size_t body_size)
{
	for (size_t offset = 0; offset < body_size; offset += MF_LINE_BYTES) {
		uint64_t *word = (uint64_t *)(void *)(body + offset);

		mf_store_relaxed(word, mf_load_relaxed(word));
	}
}

/* Say how far the sender may write again, and wake it if it waits for that. */
void mf_ring_free(struct mf_ring_end *end, const struct mf_ring_cursor *upto)
{
	struct mf_progress_layout *progress = &end->shared->receiver;

	store_cells(end, progress, upto);
	store_state(end, progress, upto);
	if (end->fenced)
		mf_fence_full(); /* SYNC sleep */
	else
		mf_fence_compiler(); /* SYNC sleep: the sleeper's membarrier(2) does the rest */
	if (mf_load32_relaxed(&end->shared->sender_wait.word) == MF_WAIT_ASLEEP)
		mf_wait_wake(&end->shared->sender_wait);
}

/* Pass the message peeked at, without freeing it: it was lent, or lies behind one that was. */
void mf_ring_skip(struct mf_ring_end *end)
{
	end->cursor = end->next;
}

/* Copy the message peeked at and free its place; `destination` holds body_size bytes. */
void mf_ring_take(struct mf_ring_end *end, void *destination, const void *body, size_t body_size)
{
	struct mf_slot *slot = slot_at(end, end->cursor.count);

	if (body_size != 0)
		memcpy(destination, body, body_size);
	end->cursor = end->next;
	if (end->lent != 0)
		return; /* an older message is still being read */
	if (end->give_lines) {
		if (body_size > MF_RING_INLINE_MAX)
			give_lines(end->arena + ((const unsigned char *)body - end->arena),
				   body_size);
		give_lines((unsigned char *)slot,
			   body_size + 8 > MF_LINE_BYTES && body_size <= MF_RING_INLINE_MAX
				   ? sizeof *slot
				   : MF_LINE_BYTES);
	}
	mf_ring_free(end, &end->cursor);
}

/* Whether a receive would find a message, or learn that none will come. Needs no lock. */
int mf_ring_has_message(const struct mf_ring_end *end, size_t unused)
{
	const uint64_t count = end->cursor.count;

	(void)unused;
	return committed(count,
			 mf_load_acquire(&slot_at(end, count)->commit)) || /* SYNC ring-filled */
	       mf_load_relaxed(&end->shared->sender_claim) == MF_CLAIM_CLOSED ||
	       role_lost(end, &end->shared->receiver_claim);
}

/* ---- waiting ---- */

struct wanted {
	const struct mf_ring_end *end;
	size_t body_size;
};

static int space_wanted(const void *context)
{
	const struct wanted *wanted = context;

	return mf_ring_has_space(wanted->end, wanted->body_size);
}

static int message_wanted(const void *context)
{
	const struct wanted *wanted = context;

	return mf_ring_has_message(wanted->end, 0);
}

/* Wait for room or for a message, one slice at the longest; returns as mf_wait_slice. */
int mf_ring_wait(struct mf_ring_end *end, int is_sender, size_t body_size, uint64_t deadline_ns)
{
	const struct wanted wanted = {end, body_size};

	return mf_wait_slice(&end->waiter, is_sender ? space_wanted : message_wanted, &wanted,
			     deadline_ns);
}

/* ---- looking from outside ---- */

/* A whole state of one end, or of a moment later; -EBUSY never: it settles in a few tries. */
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
	stats_ret->used = sent.bytes - received.bytes;
	stats_ret->waits =
		mf_load_relaxed(&shared->sender.waits) + mf_load_relaxed(&shared->receiver.waits);
	stats_ret->sender_pid = mf_process_claim_pid(mf_load_relaxed(&shared->sender_claim));
	stats_ret->receiver_pid = mf_process_claim_pid(mf_load_relaxed(&shared->receiver_claim));
	return 0;
}
