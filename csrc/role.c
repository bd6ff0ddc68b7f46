/* SPDX-License-Identifier: MIT */
/*
 * role.c - who is at the ends of a ring: claim a role, give it back, see what
 * has become of the other side, wait for it.
 */
#include "ring.h"

#include <errno.h>
#include <string.h>

enum {
	/*
	 * Rings whose arena stays in the second-level cache gain when the reader
	 * hands lines back; larger ones lose (docs/decisions/0003).
	 */
	GIVE_LINES_MAX_BYTES = 256 * 1024,
};

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
static int claim(struct mf_ring_end *end, uint64_t *role, uint64_t from, int *owner_ret,
		 uint64_t *before_ret)
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
	*before_ret = owner;
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

/*
 * Become the sender. If the last one died between its commit and its state,
 * its message exists: count it.
 */
int mf_role_claim_sender(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			 int *owner_ret)
{
	struct mf_ring_layout *shared = memory;
	struct mf_slot *slot;
	uint64_t received, before;
	int status = attach(memory, memory_size, end);

	if (status == 0)
		status = claim(end, &shared->sender_claim, from, owner_ret, &before);
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
		unclaim(end, &shared->sender_claim, before); /* a peer sees what it saw before */
		return -EPROTO;
	}
	end->count_seen = received;
	end->position_seen = end->cursor.position - end->capacity; /* full, until looked at */
	mf_wait_init(&end->waiter, &shared->sender_wait, &shared->sender.waits);
	announce(&shared->receiver_wait);
	return 0;
}

int mf_role_claim_receiver(void *memory, size_t memory_size, uint64_t from, struct mf_ring_end *end,
			   int *owner_ret)
{
	struct mf_ring_layout *shared = memory;
	uint64_t before;
	int status = attach(memory, memory_size, end);

	if (status == 0)
		status = claim(end, &shared->receiver_claim, from, owner_ret, &before);
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
void mf_role_close_sender(struct mf_ring_end *end)
{
	struct mf_ring_layout *shared = end->shared;

	close_role(end, &shared->sender_claim, &shared->sender_wait, &shared->receiver_wait);
}

/* Give the receiver's role back; what was not received stays for the next one. */
void mf_role_close_receiver(struct mf_ring_end *end)
{
	struct mf_ring_layout *shared = end->shared;

	close_role(end, &shared->receiver_claim, &shared->receiver_wait, &shared->sender_wait);
}

/* The word in the other end's role: who has it, if anybody. */
uint64_t mf_role_peer_claim(const struct mf_ring_end *end, int is_sender)
{
	const struct mf_ring_layout *shared = end->shared;

	return mf_load_acquire(is_sender ? &shared->receiver_claim : /* SYNC role */
				       &shared->sender_claim);
}

/* What has become of the other end, as enum mf_peer; its pid while it has one. */
int mf_role_peer(const struct mf_ring_end *end, int is_sender, int *pid_ret)
{
	const uint64_t owner = mf_role_peer_claim(end, is_sender);

	*pid_ret = mf_process_claim_pid(owner);
	if (*pid_ret == 0)
		return owner == 0 ? MF_PEER_ABSENT : MF_PEER_CLOSED;
	return mf_process_life(end->claim, owner) == MF_LIFE_DEAD ? MF_PEER_DEAD : MF_PEER_HERE;
}

struct wanted {
	const struct mf_ring_end *end;
	size_t body_size;
	uint64_t peer; /* who was at the other end when we last looked */
	int is_sender;
};

static int wanted_is_there(const void *context)
{
	const struct wanted *wanted = context;

	return mf_role_peer_claim(wanted->end, wanted->is_sender) != wanted->peer ||
	       (wanted->is_sender ? mf_sender_has_space(wanted->end, wanted->body_size)
				  : mf_receiver_has_message(wanted->end, 0));
}

/*
 * Wait for room or for a message, one slice at the longest; returns as
 * mf_wait_slice. Somebody else at the other end than `peer` ends the wait too:
 * the caller may have to watch another process.
 */
int mf_role_wait(struct mf_ring_end *end, int is_sender, size_t body_size, uint64_t peer,
		 uint64_t deadline_ns)
{
	const struct wanted wanted = {end, body_size, peer, is_sender};

	return mf_wait_slice(&end->waiter, wanted_is_there, &wanted, deadline_ns);
}
