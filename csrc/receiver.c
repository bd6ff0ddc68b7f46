/* SPDX-License-Identifier: MIT */
/* receiver.c - the reading end of a ring: look, copy, free. */
#include "ring.h"

#include <errno.h>
#include <string.h>

/*
 * Look at the next message without taking it: -EAGAIN if there is none yet,
 * -EPIPE if the sender has closed and all was received,
 * -EPROTO if its length or place is impossible, -ESTALE if the role is no longer
 * ours. Length and place are loaded
 * once; what is returned lies inside the ring whatever the peer stores.
 */
int mf_receiver_peek(struct mf_ring_end *end, const void **body_ret, size_t *body_size_ret)
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

		/* Senders begin on a line, and give_lines() goes by lines. */
		if (offset % MF_LINE_BYTES != 0 || body_size > end->capacity - offset)
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
void mf_receiver_free(struct mf_ring_end *end, const struct mf_ring_cursor *upto)
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
void mf_receiver_skip(struct mf_ring_end *end)
{
	end->cursor = end->next;
}

/* Copy the message peeked at and free its place; `destination` holds body_size bytes. */
void mf_receiver_take(struct mf_ring_end *end, void *destination, const void *body,
		      size_t body_size)
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
	mf_receiver_free(end, &end->cursor);
}

/* Whether a receive would find a message, or learn that none will come. */
int mf_receiver_has_message(const struct mf_ring_end *end, size_t unused)
{
	const uint64_t count = end->cursor.count;

	(void)unused;
	return committed(count,
			 mf_load_acquire(&slot_at(end, count)->commit)) || /* SYNC ring-filled */
	       mf_load_relaxed(&end->shared->sender_claim) == MF_CLAIM_CLOSED ||
	       role_lost(end, &end->shared->receiver_claim);
}
