/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - a sender thread and a receiver thread on one mapping, for
 * ThreadSanitizer, which knows threads but not two mappings of one page.
 *
 * What it checks is that a message's bytes are seen by acquire and release
 * alone. It takes a fence for nothing; the fences only order "I sleep" against
 * "there is something", words that are atomic on both sides, so there is
 * nothing to suppress.
 */
#define _GNU_SOURCE
#include "test.h"

#include "atomics.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	HEAD_BYTES = 16, /* number and size, where they fit */
	PATTERN_BYTES = 64 * 1024,
	PERIOD = 251,
};

struct stream {
	struct rig rig;
	uint64_t messages;
	size_t most;		  /* bytes in a message */
	uint64_t sender_handover; /* after so many messages an end is closed and claimed anew */
	uint64_t receiver_handover;
	uint64_t sleep_every; /* and after so many it pauses, so that the other end sleeps */
	const unsigned char *pattern;
};

/* Mostly small, on both sides of the inline border; sometimes large. */
static size_t size_of(const struct stream *stream, uint64_t number)
{
	uint64_t dice = number * UINT64_C(0x9e3779b97f4a7c15) + 1;

	dice ^= dice >> 29;
	return (size_t)(dice % 32 == 0 ? (dice >> 8) % (stream->most + 1) : (dice >> 8) % 160);
}

static void write_message(const struct stream *stream, unsigned char *body, size_t size,
			  uint64_t number)
{
	const uint64_t head[2] = {number, size};

	memcpy(body, stream->pattern + number % PERIOD, size);
	if (size >= HEAD_BYTES)
		memcpy(body, head, HEAD_BYTES);
}

static void check_message(const struct stream *stream, const unsigned char *body, size_t size,
			  uint64_t number)
{
	const size_t from = size >= HEAD_BYTES ? HEAD_BYTES : 0;
	uint64_t head[2];

	CHECK_EQUAL(size, size_of(stream, number));
	if (from != 0) {
		memcpy(head, body, HEAD_BYTES);
		CHECK_EQUAL(head[0], number);
		CHECK_EQUAL(head[1], size);
	}
	CHECK(memcmp(body + from, stream->pattern + number % PERIOD + from, size - from) == 0);
}

static void wait_for_peer(struct mf_ring_end *end, int is_sender, size_t size)
{
	end->waiter.spin_ns = 1000;
	role_wait(end, is_sender, size, UINT64_MAX);
}

static void reclaim_sender(struct rig *rig, int close)
{
	int owner;

	if (close)
		mf_role_close_sender(&rig->sender);
	CHECK_EQUAL(mf_role_claim_sender(rig->memory, rig->size, 0, &rig->sender, &owner), 0);
}

static void reclaim_receiver(struct rig *rig, int close)
{
	int owner;

	if (close)
		mf_role_close_receiver(&rig->receiver);
	CHECK_EQUAL(mf_role_claim_receiver(rig->memory, rig->size, 0, &rig->receiver, &owner), 0);
}

static int send_one(struct stream *stream, unsigned char *body, size_t size, uint64_t number)
{
	struct mf_ring_end *end = &stream->rig.sender;
	void *place;
	int status;

	if (number % 16 != 3) {
		write_message(stream, body, size, number);
		return mf_sender_send(end, body, size);
	}
	status = mf_sender_loan(end, size, &place);
	if (status != 0)
		return status;
	write_message(stream, place, size, number);
	mf_sender_commit(end, size);
	return 0;
}

static void *sender_thread(void *context)
{
	struct stream *stream = context;
	struct mf_ring_end *end = &stream->rig.sender;
	unsigned char *body = malloc(stream->most + 160);

	reclaim_sender(&stream->rig, 0);
	for (uint64_t number = 0; number < stream->messages; number++) {
		const size_t size = size_of(stream, number);
		void *place;
		int status;

		if (number % 64 == 5 && mf_sender_loan(end, size, &place) == 0)
			memset(place, 0xee, size); /* dropped: it never was */
		while ((status = send_one(stream, body, size, number)) != 0) {
			if (status == -EPIPE)
				sched_yield();
			else
				wait_for_peer(end, 1, size);
		}
		if (number % stream->sender_handover == stream->sender_handover - 1)
			reclaim_sender(&stream->rig, 1);
		if (number % stream->sleep_every == 0)
			usleep(200);
	}
	free(body);
	return NULL;
}

/* Keep this message and what follows it, as far as it is there, and free them together. */
static uint64_t borrow_some(struct stream *stream, const void *body, size_t size, uint64_t number)
{
	struct mf_ring_end *end = &stream->rig.receiver;
	const void *bodies[3] = {body};
	size_t sizes[3] = {size}, count = 1;

	mf_receiver_skip(end);
	end->lent++;
	while (count < 3 && number + count < stream->messages &&
	       mf_receiver_peek(end, &bodies[count], &sizes[count]) == 0) {
		mf_receiver_skip(end);
		count++;
	}
	for (size_t i = 0; i < count; i++)
		check_message(stream, bodies[i], sizes[i], number + i);
	end->lent--;
	mf_receiver_free(end, &end->cursor);
	return count;
}

static void *receiver_thread(void *context)
{
	struct stream *stream = context;
	struct mf_ring_end *end = &stream->rig.receiver;
	unsigned char *copy = malloc(stream->most + 160);
	uint64_t number = 0, handover = stream->receiver_handover, pause = stream->sleep_every / 2;

	reclaim_receiver(&stream->rig, 0);
	while (number < stream->messages) {
		const void *body;
		size_t size;
		const int status = mf_receiver_peek(end, &body, &size);

		if (status == -EPIPE) {
			sched_yield(); /* between two senders */
		} else if (status == -EAGAIN) {
			wait_for_peer(end, 0, 0);
		} else {
			CHECK_EQUAL(status, 0);
			if (number % 8 == 5) {
				number += borrow_some(stream, body, size, number);
			} else {
				mf_receiver_take(end, copy, body, size);
				check_message(stream, copy, size, number++);
			}
		}
		if (number >= handover) {
			reclaim_receiver(&stream->rig, 1);
			handover += stream->receiver_handover;
		}
		if (number >= pause) {
			usleep(200);
			pause += stream->sleep_every;
		}
	}
	free(copy);
	return NULL;
}

static void run_stream(uint64_t capacity, uint64_t first_count, uint64_t messages, size_t most,
		       uint64_t handover)
{
	struct stream stream = {.messages = messages,
				.most = most,
				.sender_handover = handover,
				.receiver_handover = handover * 2 / 3,
				.sleep_every = 5003};
	unsigned char *pattern = malloc(PATTERN_BYTES + PERIOD);
	struct mf_ring_stats stats;
	pthread_t sender, receiver;

	CHECK(pattern != NULL && most <= PATTERN_BYTES);
	for (size_t i = 0; i < PATTERN_BYTES + PERIOD; i++)
		pattern[i] = (unsigned char)(i * 7 + i / PERIOD);
	stream.pattern = pattern;
	rig_make(&stream.rig, capacity, first_count);
	CHECK(pthread_create(&sender, NULL, sender_thread, &stream) == 0);
	CHECK(pthread_create(&receiver, NULL, receiver_thread, &stream) == 0);
	pthread_join(sender, NULL);
	pthread_join(receiver, NULL);
	CHECK_EQUAL(mf_ring_stats(stream.rig.memory, stream.rig.size, &stats), 0);
	CHECK_EQUAL(stats.messages_sent, first_count + messages);
	CHECK_EQUAL(stats.messages_received, first_count + messages);
	CHECK_EQUAL(stats.used, 0);
	CHECK(stats.waits > 0);
	rig_close(&stream.rig);
	free(pattern);
}

/* The smallest ring: always full or empty. */
static void smallest_ring(void)
{
	run_stream(4096, 0, 600000, 4096, 9973);
}

/* The default ring, whose arena lines are handed back. */
static void default_ring(void)
{
	run_stream(65536, 0, 900000, 16384, 9973);
}

/* A ring beyond the second-level cache, whose lines are not. */
static void large_ring(void)
{
	run_stream(512 * 1024, 0, 400000, 65536, 9973);
}

/* Across the end of the 32 bits that a commit word holds of a count. */
static void counts_that_wrap(void)
{
	run_stream(8192, (UINT64_C(1) << 32) - 50000, 200000, 2048, 9973);
}

/* Ends that are given back and taken again all the time: a successor sees what the last one did. */
static void frequent_hand_overs(void)
{
	run_stream(4096, 0, 100000, 4096, 50);
}

/* ---- looking on ---- */

enum {
	LOOKED_AT_BYTES = 40,
};

static void *send_and_receive(void *context)
{
	struct stream *stream = context;

	for (uint64_t number = 0; number < stream->messages; number++) {
		CHECK_EQUAL(rig_send(&stream->rig, LOOKED_AT_BYTES, number), 0);
		rig_receive(&stream->rig, LOOKED_AT_BYTES, number);
	}
	return NULL;
}

/* Whoever looks on sees messages and bytes that belong together: no state before its cells. */
static void stats_are_whole_at_any_instant(void)
{
	struct stream stream = {.messages = 300000};
	struct mf_ring_stats stats;
	pthread_t thread;
	uint64_t looks = 0;

	rig_open(&stream.rig, 4096, 0);
	CHECK(pthread_create(&thread, NULL, send_and_receive, &stream) == 0);
	do {
		CHECK_EQUAL(mf_ring_stats(stream.rig.memory, stream.rig.size, &stats), 0);
		CHECK_EQUAL(stats.bytes_sent, stats.messages_sent * LOOKED_AT_BYTES);
		CHECK_EQUAL(stats.bytes_received, stats.messages_received * LOOKED_AT_BYTES);
		CHECK(stats.messages_sent >= stats.messages_received);
		looks++;
	} while (stats.messages_received != stream.messages);
	CHECK(looks > 1000);
	pthread_join(thread, NULL);
	rig_close(&stream.rig);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(smallest_ring),	   TEST(default_ring),
		TEST(large_ring),	   TEST(counts_that_wrap),
		TEST(frequent_hand_overs), TEST(stats_are_whole_at_any_instant),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
