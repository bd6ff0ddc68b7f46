/* SPDX-License-Identifier: MIT */
/* sender.c - the writing end of a ring: find room, write, commit. */
#include "ring.h"

#include <errno.h>
#include <string.h>

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
int mf_sender_send(struct mf_ring_end *end, const void *body, size_t body_size)
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

/* Like mf_sender_send, but the caller writes the bytes, then commits, or does neither. */
int mf_sender_loan(struct mf_ring_end *end, size_t body_size, void **body_ret)
{
	int status = sendable(end, body_size);

	if (status == 0)
		status = reserve(end, body_size, body_ret);
	return no_room(end, status);
}

void mf_sender_commit(struct mf_ring_end *end, size_t body_size)
{
	commit(end, body_size);
}

/* Whether a send would find room, or learn that there is no use in waiting. */
int mf_sender_has_space(const struct mf_ring_end *original, size_t body_size)
{
	struct mf_ring_end end = *original; /* a look changes nothing of the end itself */
	const uint64_t room = round_up(body_size, MF_LINE_BYTES);

	if (receiver_closed(&end) || role_lost(&end, &end.shared->sender_claim) ||
	    look_at_receiver(&end) != 0)
		return 1; /* let the caller find out */
	return end.cursor.count - end.count_seen < end.slot_count &&
	       (body_size <= MF_RING_INLINE_MAX ||
		arena_has_room(&end, position_for(&end, room), room));
}

/* How many messages the receiver has yet to take, by a fresh look; 0 if that is impossible. */
uint64_t mf_sender_unread(const struct mf_ring_end *original)
{
	struct mf_ring_end end = *original;

	return look_at_receiver(&end) == 0 ? end.cursor.count - end.count_seen : 0;
}
