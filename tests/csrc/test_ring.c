/* SPDX-License-Identifier: MIT */
/* test_ring.c - a ring between two honest ends: format, sizes, wrapping, loans, borrowing. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CAPACITY = 4096,
	LINE = MF_LINE_BYTES,
	SLOTS = CAPACITY / (int)sizeof(struct mf_slot),
};

/* Only a power of two from 4,096 to 2^36 in enough memory becomes a ring; a refusal writes nothing.
 */
static void format_refuses_bad_shapes(void)
{
	static const uint64_t bad[] = {
		0,
		1,
		64,
		2048,
		4095,
		4097,
		5000,
		3 * 4096,
		UINT64_C(1) << 37,
		UINT64_C(1) << 63,
		UINT64_MAX,
	};
	const size_t size = (size_t)mf_ring_size(CAPACITY);
	unsigned char *memory = test_pages(size);

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		CHECK_EQUAL(mf_ring_format(memory, size, bad[i], 0), -EINVAL);
	CHECK_EQUAL(mf_ring_format(memory, size - 1, CAPACITY, 0), -EINVAL);
	CHECK_EQUAL(mf_ring_format(memory, size, 2 * CAPACITY, 0), -EINVAL);
	for (size_t i = 0; i < size; i++)
		CHECK(memory[i] == 0);
	CHECK_EQUAL(mf_ring_format(memory, size, CAPACITY, 0), 0);
	test_pages_free(memory, size);
}

/* Less memory than the ring needs is no ring, down to none at all; nothing beyond it is read. */
static void check_bounds_the_memory(void)
{
	struct mf_ring_stats stats;
	struct rig rig;
	uint64_t capacity = 7;

	rig_make(&rig, CAPACITY, 0);
	for (size_t size = 0; size < rig.size; size += size < 4096 ? 1 : 512)
		CHECK_EQUAL(mf_ring_check(rig.memory, size, &capacity), -EPROTO);
	CHECK_EQUAL(mf_ring_check(rig.memory, rig.size - 1, &capacity), -EPROTO);
	CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size - 1, &stats), -EPROTO);
	CHECK_EQUAL(mf_ring_version(rig.memory, 4095), 0);
	CHECK_EQUAL(capacity, 7);
	CHECK_EQUAL(mf_ring_check(rig.memory, rig.size, &capacity), 0);
	CHECK_EQUAL(capacity, CAPACITY);
	rig_close(&rig);
}

/* Each size around each border goes through whole; one byte more than the capacity is refused. */
static void sizes_at_every_border(void)
{
	static const size_t sizes[] = {0,    1,	   8,	 55,   56,   57,	   63,	    64,
				       65,   119,  120,	 121,  127,  128,	   129,	    1000,
				       4031, 4032, 4033, 4095, 4096, CAPACITY - 1, CAPACITY};
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	for (int lap = 0; lap < 3; lap++)
		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			CHECK_EQUAL(rig_send(&rig, sizes[i], i), 0);
			rig_receive(&rig, sizes[i], i);
			CHECK_EQUAL(rig_send(&rig, CAPACITY + 1, i), -EMSGSIZE);
			CHECK_EQUAL(rig_send(&rig, 2 * CAPACITY, i), -EMSGSIZE);
		}
	CHECK_EQUAL(mf_sender_send(&rig.sender, "", SIZE_MAX), -EMSGSIZE);
	CHECK_EQUAL(rig.sender.cursor.count, 3 * COUNT_OF(sizes));
	rig_close(&rig);
}

/* Move both ends to this place in the arena, from two lines on. */
static void advance(struct rig *rig, size_t offset)
{
	while (offset != 0) {
		const size_t step = offset <= 3 * LINE ? offset : 2 * LINE;

		CHECK_EQUAL(rig_send(rig, step, offset), 0);
		rig_receive(rig, step, offset);
		offset -= step;
	}
}

/*
 * From every place in the arena: what fits before its end goes there, what does not wraps, and
 * an empty ring takes its whole capacity.
 */
static void wraps_at_every_place(void)
{
	for (size_t offset = 2 * LINE; offset <= CAPACITY; offset += LINE) {
		const size_t left = CAPACITY - offset;
		const size_t sizes[] = {
			121, 128, 129, left, left + 1, left + LINE, CAPACITY - LINE, CAPACITY};

		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			struct rig rig;

			if (sizes[i] > CAPACITY)
				continue;
			rig_open(&rig, CAPACITY, 0);
			advance(&rig, offset);
			CHECK_EQUAL(rig.sender.cursor.position, offset);
			CHECK_EQUAL(rig_send(&rig, sizes[i], 1), 0);
			CHECK_EQUAL(rig_send(&rig, 5, 2), 0);
			rig_receive(&rig, sizes[i], 1);
			rig_receive(&rig, 5, 2);
			CHECK_EQUAL(rig_send(&rig, CAPACITY, 3), 0);
			CHECK_EQUAL(rig_send(&rig, 121, 4), -EAGAIN);
			CHECK_EQUAL(rig_send(&rig, 120, 4), 0);
			rig_receive(&rig, CAPACITY, 3);
			rig_receive(&rig, 120, 4);
			rig_close(&rig);
		}
	}
}

/* A ring has room for `slot_count` messages, whatever their size; one received makes room for one.
 */
static void full_by_slots(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	CHECK_EQUAL(mf_sender_unread(&rig.sender), 0);
	for (uint64_t number = 0; number < 5 * SLOTS; number++) {
		if (number >= SLOTS) {
			CHECK_EQUAL(mf_sender_unread(&rig.sender), SLOTS);
			CHECK(!mf_sender_has_space(&rig.sender, 0));
			CHECK_EQUAL(rig_send(&rig, number % 121, number), -EAGAIN);
			rig_receive(&rig, (number - SLOTS) % 121, number - SLOTS);
			CHECK_EQUAL(mf_sender_unread(&rig.sender), SLOTS - 1);
			CHECK(mf_sender_has_space(&rig.sender, 0));
		}
		CHECK_EQUAL(rig_send(&rig, number % 121, number), 0);
	}
	rig_close(&rig);
}

/* A full arena stops large messages and not small ones, and has room again as soon as one is read.
 */
static void full_by_arena(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	for (uint64_t number = 0; number < 4; number++)
		CHECK_EQUAL(rig_send(&rig, 1024, number), 0);
	CHECK_EQUAL(rig_send(&rig, 121, 4), -EAGAIN);
	CHECK(!mf_sender_has_space(&rig.sender, 121));
	CHECK(mf_sender_has_space(&rig.sender, 120));
	CHECK_EQUAL(rig_send(&rig, 120, 4), 0);
	rig_receive(&rig, 1024, 0);
	CHECK(!mf_sender_has_space(&rig.sender, 1025));
	CHECK_EQUAL(rig_send(&rig, 1025, 5), -EAGAIN);
	CHECK(mf_sender_has_space(&rig.sender, 1024));
	CHECK_EQUAL(rig_send(&rig, 1024, 5), 0); /* to the last byte */
	for (uint64_t number = 1; number < 4; number++)
		rig_receive(&rig, 1024, number);
	rig_receive(&rig, 120, 4);
	rig_receive(&rig, 1024, 5);
	rig_close(&rig);
}

/* Random traffic equals a plain queue, at the counts where 32 and 63 bits end, in rings of each
 * kind. */
static void random_traffic_equals_a_queue(void)
{
	static const uint64_t firsts[] = {0, (UINT64_C(1) << 32) - 3, UINT64_C(1) << 32,
					  UINT64_C(1) << 62, (UINT64_C(1) << 63) - 50000};
	static const uint64_t capacities[] = {4096, 8192, 65536, 512 * 1024};
	uint64_t seed = test_seed();

	for (size_t run = 0; run < COUNT_OF(firsts) * COUNT_OF(capacities); run++) {
		const uint64_t capacity = capacities[run % COUNT_OF(capacities)];
		size_t queue[512 * 1024 / sizeof(struct mf_slot)];
		uint64_t sent = 0, received = 0;
		struct rig rig;

		rig_open(&rig, capacity, firsts[run / COUNT_OF(capacities)]);
		for (int step = 0; step < 8000; step++) {
			const uint64_t dice = test_random(&seed);
			const uint64_t most = dice % 64 == 0  ? capacity + 1
					      : dice % 2 == 0 ? 130
							      : 1500;
			const size_t size = (size_t)((dice >> 32) % most);

			if ((dice >> 8) % 16 < (step / 500 % 2 == 0 ? 10 : 6)) {
				const int space = mf_sender_has_space(&rig.sender, size);
				const int status = rig_send(&rig, size, sent);

				CHECK_EQUAL(status, space ? 0 : -EAGAIN);
				CHECK(status == 0 || sent != received);
				if (status == 0)
					queue[sent++ % COUNT_OF(queue)] = size;
			} else if (sent != received) {
				CHECK(mf_receiver_has_message(&rig.receiver, 0));
				rig_receive(&rig, queue[received % COUNT_OF(queue)], received);
				received++;
			} else {
				CHECK(!mf_receiver_has_message(&rig.receiver, 0));
			}
		}
		CHECK(sent > 2000);
		rig_close(&rig);
	}
}

/* What a loan's owner writes is what arrives; a loan that is dropped never existed. */
static void loans(void)
{
	static const size_t sizes[] = {0, 1, 120, 121, 1000, CAPACITY};
	const void *unused;
	struct rig rig;
	void *place;
	size_t size;

	rig_open(&rig, CAPACITY, 0);
	for (size_t i = 0; i < 8 * COUNT_OF(sizes); i++) {
		size = sizes[i % COUNT_OF(sizes)];
		CHECK_EQUAL(mf_sender_loan(&rig.sender, size, &place), 0);
		memset(place, 0x5a, size); /* dropped */
		CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &unused, &size), -EAGAIN);
		size = sizes[i % COUNT_OF(sizes)];
		CHECK_EQUAL(mf_sender_loan(&rig.sender, size, &place), 0);
		rig_fill(place, size, i);
		CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &unused, &size), -EAGAIN);
		mf_sender_commit(&rig.sender, sizes[i % COUNT_OF(sizes)]);
		rig_receive(&rig, sizes[i % COUNT_OF(sizes)], i);
	}
	CHECK_EQUAL(mf_sender_loan(&rig.sender, CAPACITY + 1, &place), -EMSGSIZE);
	CHECK_EQUAL(rig_send(&rig, CAPACITY, 0), 0);
	CHECK_EQUAL(mf_sender_loan(&rig.sender, 121, &place), -EAGAIN);
	CHECK_EQUAL(mf_sender_loan(&rig.sender, 120, &place), 0);
	rig_close(&rig);
}

/* Borrow the next message: look at it and pass it, with the cursor before it for later. */
static struct mf_ring_cursor borrow(struct rig *rig, size_t size, const unsigned char **body_ret)
{
	const struct mf_ring_cursor start = rig->receiver.cursor;
	const void *body;
	size_t found;

	CHECK_EQUAL(mf_receiver_peek(&rig->receiver, &body, &found), 0);
	CHECK_EQUAL(found, size);
	mf_receiver_skip(&rig->receiver);
	rig->receiver.lent++;
	*body_ret = body;
	return start;
}

/* A borrowed message keeps its bytes while others behind it are received, until it is freed. */
static void borrowed_messages_stay(void)
{
	const unsigned char *first, *second;
	struct mf_ring_cursor before_second;
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	for (uint64_t lap = 0; lap < 20; lap++) {
		const uint64_t base = 10 * lap;

		for (uint64_t number = 0; number < 4; number++)
			CHECK_EQUAL(rig_send(&rig, 1024, base + number), 0);
		borrow(&rig, 1024, &first);
		rig_receive(&rig, 1024, base + 1); /* lies between: its place stays taken */
		before_second = borrow(&rig, 1024, &second);
		rig_receive(&rig, 1024, base + 3);
		CHECK_EQUAL(rig_send(&rig, 121, 0), -EAGAIN);
		CHECK(rig_is(first, 1024, base) && rig_is(second, 1024, base + 2));
		rig.receiver.lent--; /* the first goes: so does what was read behind it */
		mf_receiver_free(&rig.receiver, &before_second);
		CHECK_EQUAL(rig_send(&rig, 2048, base + 4), 0);
		CHECK_EQUAL(rig_send(&rig, 121, 0), -EAGAIN);
		CHECK(rig_is(second, 1024, base + 2));
		rig.receiver.lent--;
		mf_receiver_free(&rig.receiver, &rig.receiver.cursor);
		rig_receive(&rig, 2048, base + 4);
		CHECK_EQUAL(rig_send(&rig, CAPACITY, base + 5), 0);
		rig_receive(&rig, CAPACITY, base + 5);
	}
	rig_close(&rig);
}

/* Stats count what went through, in messages and bytes, and who is there. */
static void stats_tell_what_went_through(void)
{
	struct mf_ring_stats stats;
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	for (uint64_t number = 0; number < 100; number++) {
		CHECK_EQUAL(rig_send(&rig, 100 + number, number), 0);
		CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
		CHECK_EQUAL(stats.used, 100 + number);
		CHECK_EQUAL(stats.messages_sent, stats.messages_received + 1);
		rig_receive(&rig, 100 + number, number);
	}
	CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
	CHECK_EQUAL(stats.capacity, CAPACITY);
	CHECK_EQUAL(stats.used, 0);
	CHECK_EQUAL(stats.messages_sent, 100);
	CHECK_EQUAL(stats.messages_received, 100);
	CHECK_EQUAL(stats.bytes_sent, 14950);
	CHECK_EQUAL(stats.bytes_received, 14950);
	CHECK_EQUAL(stats.waits, 0);
	CHECK_EQUAL(stats.sender_pid, mf_process_claim_pid(rig.sender.claim));
	CHECK_EQUAL(stats.receiver_pid, stats.sender_pid);
	mf_role_close_sender(&rig.sender);
	CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
	CHECK_EQUAL(stats.sender_pid, 0);
	rig_close(&rig);
}

/* A closed sender's messages are received, then the end is told; a new sender goes on where it was.
 */
static void sender_closes(void)
{
	const void *body;
	struct rig rig;
	size_t size;
	int owner;

	rig_open(&rig, CAPACITY, 0);
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -EAGAIN);
	CHECK_EQUAL(rig_send(&rig, 300, 1), 0);
	CHECK_EQUAL(rig_send(&rig, 3, 2), 0);
	mf_role_close_sender(&rig.sender);
	rig_receive(&rig, 300, 1);
	rig_receive(&rig, 3, 2);
	CHECK(mf_receiver_has_message(&rig.receiver, 0));
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -EPIPE);
	CHECK_EQUAL(mf_role_claim_sender(rig.memory, rig.size, 0, &rig.sender, &owner), 0);
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -EAGAIN);
	CHECK_EQUAL(rig_send(&rig, 400, 3), 0);
	rig_receive(&rig, 400, 3);
	rig_close(&rig);
}

/* A sender is told that the receiver closed; what was not received waits for the next receiver. */
static void receiver_closes(void)
{
	struct rig rig;
	void *place;
	int owner;

	rig_open(&rig, CAPACITY, 0);
	CHECK_EQUAL(rig_send(&rig, 300, 1), 0);
	CHECK_EQUAL(rig_send(&rig, 3, 2), 0);
	rig_receive(&rig, 300, 1);
	mf_role_close_receiver(&rig.receiver);
	CHECK_EQUAL(rig_send(&rig, 3, 3), -EPIPE);
	CHECK_EQUAL(mf_sender_loan(&rig.sender, 3, &place), -EPIPE);
	CHECK(mf_sender_has_space(&rig.sender, 3)); /* no use in waiting */
	CHECK_EQUAL(mf_role_claim_receiver(rig.memory, rig.size, 0, &rig.receiver, &owner), 0);
	CHECK_EQUAL(rig_send(&rig, 3, 3), 0);
	rig_receive(&rig, 3, 2);
	rig_receive(&rig, 3, 3);
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(format_refuses_bad_shapes),
		TEST(check_bounds_the_memory),
		TEST(sizes_at_every_border),
		TEST(wraps_at_every_place),
		TEST(full_by_slots),
		TEST(full_by_arena),
		TEST(random_traffic_equals_a_queue),
		TEST(loans),
		TEST(borrowed_messages_stay),
		TEST(stats_tell_what_went_through),
		TEST(sender_closes),
		TEST(receiver_closes),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
