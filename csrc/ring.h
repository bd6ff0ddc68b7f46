/* SPDX-License-Identifier: MIT */
/*
 * ring.h - what the files that work on a ring's bytes share: ring.c (the ring
 * as a whole), role.c (who is at its ends), sender.c and receiver.c.
 *
 * A message exists from one store on, the commit word of its slot; before it
 * nothing happened, so a sender may die at any instruction. A message is gone
 * from one store on, the receiver's state; before it the next receiver gets it
 * again. Nothing in the shared bytes is trusted: the shape is copied when a
 * role is claimed, each word is loaded once, and each length is bounded before
 * it is used.
 */
#ifndef MEMFAST_RING_H
#define MEMFAST_RING_H

#include "memfast.h"
#include "layout.h"
#include "atomics.h"

static inline uint64_t round_up(uint64_t value, uint64_t step)
{
	return (value + step - 1) & ~(step - 1);
}

static inline struct mf_slot *slot_at(const struct mf_ring_end *end, uint64_t count)
{
	return (struct mf_slot *)end->slots + (count & (end->slot_count - 1));
}

static inline int committed(uint64_t count, uint64_t commit)
{
	return (uint32_t)(commit >> 32) == (uint32_t)(count + 1);
}

/* Whether the role has been taken from us, which only a damaged or hostile ring does. */
static inline int role_lost(const struct mf_ring_end *end, const uint64_t *role)
{
	return mf_load_relaxed(role) != end->claim;
}

/* Publish in two steps, cells first, so that no death can leave them apart. */
static inline void store_cells(const struct mf_ring_end *end, struct mf_progress_layout *progress,
			       const struct mf_ring_cursor *cursor)
{
	const uint64_t cell = end->cell ^ 1;

	/* Released, for a peer that pairs this cell with a state one lap newer. */
	mf_store_release(&progress->position[cell], cursor->position); /* SYNC ring-freed */
	mf_store_release(&progress->bytes[cell], cursor->bytes);       /* SYNC ring-freed */
}

static inline void store_state(struct mf_ring_end *end, struct mf_progress_layout *progress,
			       const struct mf_ring_cursor *cursor)
{
	end->cell ^= 1;
	mf_store_release(&progress->state, cursor->count << 1 | end->cell); /* SYNC ring-freed */
}

#endif
