/* SPDX-License-Identifier: MIT */
/*
 * ring_fuzz.c - a ring made of arbitrary bytes, attached to and used.
 *
 * The input is a program: bytes to lay over the ring and calls to make, in any
 * order. The ring lies between guard pages, the copies in the heap, so that
 * ASan and the hardware see a step outside. What is checked besides: a peek
 * answers with a place inside the ring, a loan likewise, and the shape that an
 * end uses never changes.
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "layout.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
	CAPACITY = 4096,
	RING_BYTES = sizeof(struct mf_ring_layout) + 2 * CAPACITY,
	GUARD_BYTES = 4096,
	PATCH_BYTES_MOST = 31,
};

/* What is kept from one input to the next: the memory, and how a fresh ring looks. */
struct bench {
	unsigned char *ring;
	unsigned char *fresh;
	unsigned char *copy;
	struct mf_ring_end fresh_sender, fresh_receiver;
};

static unsigned char *guarded(size_t size)
{
	unsigned char *all =
		mmap(NULL, size + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(all != MAP_FAILED);
	REQUIRE(mprotect(all + GUARD_BYTES, size, PROT_READ | PROT_WRITE) == 0);
	return all + GUARD_BYTES;
}

/* A ring with some history: messages of both kinds in it, others gone. */
static void prepare(struct bench *bench)
{
	const void *body;
	size_t size;
	int owner;

	bench->ring = guarded(RING_BYTES);
	bench->fresh = malloc(RING_BYTES);
	bench->copy = malloc(CAPACITY);
	REQUIRE(bench->fresh != NULL && bench->copy != NULL);
	memset(bench->copy, 0x33, CAPACITY);
	REQUIRE(mf_ring_format(bench->ring, RING_BYTES, CAPACITY, 0) == 0);
	REQUIRE(mf_role_claim_sender(bench->ring, RING_BYTES, 0, &bench->fresh_sender, &owner) ==
		0);
	REQUIRE(mf_role_claim_receiver(bench->ring, RING_BYTES, 0, &bench->fresh_receiver,
				       &owner) == 0);
	for (size_t message = 0; message < 8; message++)
		REQUIRE(mf_sender_send(&bench->fresh_sender, bench->copy, message * 60) == 0);
	for (size_t message = 0; message < 4; message++) {
		REQUIRE(mf_receiver_peek(&bench->fresh_receiver, &body, &size) == 0);
		mf_receiver_take(&bench->fresh_receiver, bench->copy, body, size);
	}
	memcpy(bench->fresh, bench->ring, RING_BYTES);
}

/* Where things happen is a word of the header or of a slot that is due; anywhere otherwise. */
static size_t place_of(struct input *input, const struct mf_ring_end *receiver)
{
	const unsigned kind = take_byte(input);
	const size_t low = take_byte(input);

	if (kind < 96)
		return low * 3;
	if (kind < 192) /* the slots that come next */
		return sizeof(struct mf_ring_layout) +
		       ((receiver->cursor.count + low / 32) * sizeof(struct mf_slot) + low % 32) %
			       CAPACITY;
	return ((size_t)kind << 8 | low) * 5 % RING_BYTES;
}

static void patch(struct bench *bench, const struct mf_ring_end *receiver, struct input *input)
{
	const size_t place = place_of(input, receiver);
	size_t count = 1 + take_byte(input) % PATCH_BYTES_MOST;

	while (count-- != 0 && input->left != 0)
		bench->ring[(place + count) % RING_BYTES] = (unsigned char)take_byte(input);
}

/* A slot that is due, with a commit word that passes and a length and place of the input's. */
static void forge(struct bench *bench, const struct mf_ring_end *receiver, struct input *input)
{
	static const uint32_t sizes[] = {0, 120, 121, 128, 129, 4095, 4096, 4097, UINT32_MAX};
	const uint64_t count = receiver->cursor.count;
	struct mf_slot *slot =
		(struct mf_slot *)(void *)(bench->ring + sizeof(struct mf_ring_layout)) +
		count % (CAPACITY / sizeof *slot);
	const unsigned which = take_byte(input);

	slot->commit = (count + 1) << 32 | sizes[which % (sizeof sizes / sizeof *sizes)];
	slot->position = (uint64_t)take_byte(input) << 8 | take_byte(input);
	if (which >= 128)
		slot->position |= UINT64_MAX << 13;
}

static int inside(const struct bench *bench, const void *body, size_t size)
{
	const unsigned char *first = body;

	return first >= bench->ring + sizeof(struct mf_ring_layout) &&
	       first <= bench->ring + RING_BYTES &&
	       size <= (size_t)(bench->ring + RING_BYTES - first);
}

static void receive(struct bench *bench, struct mf_ring_end *receiver, unsigned how)
{
	const void *body;
	size_t size;
	const int status = mf_receiver_peek(receiver, &body, &size);

	REQUIRE(status == 0 || status == -EAGAIN || status == -EPIPE || status == -EPROTO ||
		status == -ESTALE);
	if (status != 0)
		return;
	REQUIRE(size <= CAPACITY && inside(bench, body, size));
	if (how % 4 == 0)
		mf_receiver_skip(receiver);
	else
		mf_receiver_take(receiver, bench->copy, body, size);
	if (how % 4 == 1)
		mf_receiver_free(receiver, &receiver->cursor);
}

static void lend(struct bench *bench, struct mf_ring_end *sender, size_t size)
{
	void *body;

	if (mf_sender_loan(sender, size, &body) != 0)
		return;
	REQUIRE(size <= CAPACITY && inside(bench, body, size));
	memset(body, 0x44, size);
	mf_sender_commit(sender, size);
}

/* A failed claim leaves an end that must not be used: go on with the one we had. */
static void claim(struct bench *bench, struct mf_ring_end *end, int is_sender, unsigned how)
{
	struct mf_ring_end fresh = *end;
	uint64_t from = how & 1 ? end->claim : 0;
	int owner, status;

	if (how & 2) {
		if (is_sender)
			mf_role_close_sender(end);
		else
			mf_role_close_receiver(end);
	}
	status = (is_sender ? mf_role_claim_sender : mf_role_claim_receiver)(
		bench->ring, RING_BYTES, from, &fresh, &owner);
	if (status == 0)
		*end = fresh;
}

static void step(struct bench *bench, struct mf_ring_end *sender, struct mf_ring_end *receiver,
		 struct input *input)
{
	const unsigned what = take_byte(input), how = take_byte(input);
	struct mf_ring_stats stats;
	uint64_t capacity;
	int pid;

	switch (what % 16) {
	case 0:
	case 1:
		mf_sender_send(sender, bench->copy, how);
		break;
	case 2:
		if (mf_sender_send(sender, bench->copy, how * 16) == -EMSGSIZE)
			REQUIRE(how * 16 > CAPACITY);
		break;
	case 3:
		lend(bench, sender, how * 20);
		break;
	case 4:
		mf_sender_has_space(sender, how * 20);
		REQUIRE(mf_sender_unread(sender) <= sender->slot_count);
		mf_receiver_has_message(receiver, 0);
		break;
	case 5:
		mf_ring_stats(bench->ring, RING_BYTES, &stats);
		mf_ring_check(bench->ring, RING_BYTES, &capacity);
		break;
	case 6:
		if (how < 16) /* a dozen system calls: not too often */
			claim(bench, how & 4 ? sender : receiver, (how & 4) != 0, how);
		break;
	case 7:
		if (how < 16)
			mf_role_peer(how & 1 ? sender : receiver, how & 1, &pid);
		break;
	case 8:
	case 9:
		patch(bench, receiver, input);
		break;
	case 10:
	case 11:
		forge(bench, receiver, input);
		break;
	default:
		receive(bench, receiver, how);
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct bench bench;
	struct input input = {data, size};
	struct mf_ring_end sender, receiver;

	if (bench.ring == NULL)
		prepare(&bench);
	memcpy(bench.ring, bench.fresh, RING_BYTES);
	sender = bench.fresh_sender;
	receiver = bench.fresh_receiver;
	while (input.left != 0)
		step(&bench, &sender, &receiver, &input);
	REQUIRE(sender.capacity == CAPACITY && receiver.capacity == CAPACITY);
	REQUIRE(sender.shared == (void *)bench.ring && receiver.shared == (void *)bench.ring);
	return 0;
}
