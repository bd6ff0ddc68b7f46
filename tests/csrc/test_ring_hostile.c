/* SPDX-License-Identifier: MIT */
/*
 * test_ring_hostile.c - bytes that no memfast writes: each is refused or is
 * payload; none makes us touch memory outside the ring (guard pages around it
 * see that), hang, or crash.
 */
#define _GNU_SOURCE
#include "test.h"

#include "atomics.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CAPACITY = 4096,
	SLOTS = CAPACITY / (int)sizeof(struct mf_slot),
	WAIT_NS = 30 * 1000 * 1000,
	LOOKS = 300000,
};

static const uint64_t forged[] = {
	0,
	1,
	2,
	3,
	63,
	UINT64_C(1) << 31,
	(UINT64_C(1) << 31) - 1,
	UINT64_C(1) << 32,
	(UINT64_C(1) << 32) - 1,
	UINT64_C(1) << 63,
	UINT64_MAX - 1,
	UINT64_MAX,
};

/* A peek's answer lies inside the ring, or there is none. */
static int peek_inside(struct rig *rig, const void **body_ret, size_t *size_ret)
{
	const int status = mf_receiver_peek(&rig->receiver, body_ret, size_ret);
	const unsigned char *body = *body_ret;

	if (status == 0) {
		CHECK(body >= rig->memory + sizeof *rig->shared);
		CHECK(body <= rig->memory + rig->size);
		CHECK(*size_ret <= (size_t)(rig->memory + rig->size - body));
	} else {
		CHECK(status == -EAGAIN || status == -EPIPE || status == -EPROTO ||
		      status == -ESTALE);
	}
	return status;
}

/* Everything an end may do, on whatever the memory holds. */
static void drive(struct rig *rig)
{
	static const size_t sizes[] = {0, 120, 121, 1000, CAPACITY, CAPACITY + 1};
	unsigned char *copy = malloc(2 * CAPACITY);
	struct mf_ring_stats stats;
	const void *body;
	size_t size;
	void *place;

	CHECK(copy != NULL);
	memset(copy, 0x77, 2 * CAPACITY);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		mf_sender_has_space(&rig->sender, sizes[i]);
		CHECK(mf_sender_unread(&rig->sender) <= rig->sender.slot_count);
		mf_sender_send(&rig->sender, copy, sizes[i]);
		if (mf_sender_loan(&rig->sender, sizes[i], &place) == 0) {
			memset(place, 0x55, sizes[i]);
			mf_sender_commit(&rig->sender, sizes[i]);
		}
		mf_receiver_has_message(&rig->receiver, 0);
		if (peek_inside(rig, &body, &size) == 0)
			mf_receiver_take(&rig->receiver, copy, body, size);
		mf_ring_stats(rig->memory, rig->size, &stats);
	}
	free(copy);
}

struct field {
	size_t offset, width;
	uint64_t right;
};

static const struct field shape[] = {
	{offsetof(struct mf_ring_layout, magic), 8, MF_RING_MAGIC},
	{offsetof(struct mf_ring_layout, version), 4, MF_LAYOUT_VERSION},
	{offsetof(struct mf_ring_layout, header_bytes), 4, sizeof(struct mf_ring_layout)},
	{offsetof(struct mf_ring_layout, capacity), 8, CAPACITY},
	{offsetof(struct mf_ring_layout, slot_count), 8, SLOTS},
};

static int status_for(const struct field *field, uint64_t value)
{
	if (value == field->right)
		return 0;
	return field->offset == offsetof(struct mf_ring_layout, version) && value != 0
		       ? -EPROTONOSUPPORT
		       : -EPROTO;
}

static void check_all_entries(struct rig *rig, int expected)
{
	struct mf_ring_stats stats;
	uint64_t capacity;
	int owner;

	CHECK_EQUAL(mf_ring_check(rig->memory, rig->size, &capacity), expected);
	CHECK_EQUAL(mf_ring_stats(rig->memory, rig->size, &stats), expected);
	if (expected == 0)
		return;
	CHECK_EQUAL(mf_role_claim_sender(rig->memory, rig->size, 0, &rig->sender, &owner),
		    expected);
	CHECK_EQUAL(mf_role_claim_receiver(rig->memory, rig->size, 0, &rig->receiver, &owner),
		    expected);
	CHECK(rig->shared->sender_claim == 0 && rig->shared->receiver_claim == 0);
}

/* Each field of the shape, forged to each value: refused at each entrance, with nothing written. */
static void forged_shape(void)
{
	struct rig rig;

	rig_make(&rig, CAPACITY, 0);
	for (size_t i = 0; i < COUNT_OF(shape); i++) {
		for (size_t j = 0; j < COUNT_OF(forged) + 2; j++) {
			uint64_t value = j < COUNT_OF(forged)
						 ? forged[j]
						 : shape[i].right + (j % 2 ? 1 : UINT64_MAX);

			if (shape[i].width == 4)
				value = (uint32_t)value;
			memcpy(rig.memory + shape[i].offset, &value, shape[i].width);
			check_all_entries(&rig, status_for(&shape[i], value));
		}
		memcpy(rig.memory + shape[i].offset, &shape[i].right, shape[i].width);
		check_all_entries(&rig, 0);
	}
	rig_close(&rig);
}

/* A capacity and a slot count that agree, but not with the memory, are refused too. */
static void forged_shape_that_agrees(void)
{
	struct rig rig;

	rig_make(&rig, CAPACITY, 0);
	for (unsigned bit = 0; bit < 64; bit++) {
		rig.shared->capacity = UINT64_C(1) << bit;
		rig.shared->slot_count = rig.shared->capacity / sizeof(struct mf_slot);
		check_all_entries(&rig, rig.shared->capacity == CAPACITY ? 0 : -EPROTO);
	}
	rig_close(&rig);
}

/* Each other word of the header, forged under the feet of two ends that are at work. */
static void forged_words_under_live_ends(void)
{
	for (size_t offset = sizeof(uint64_t) * 8;
	     offset < offsetof(struct mf_ring_layout, padding); offset += 8)
		for (size_t i = 0; i < COUNT_OF(forged); i++) {
			struct rig rig;

			rig_open(&rig, CAPACITY, 0);
			for (uint64_t number = 0; number < 3; number++)
				CHECK_EQUAL(rig_send(&rig, 500, number), 0);
			memcpy(rig.memory + offset, &forged[i], 8);
			drive(&rig);
			rig_close(&rig);
		}
}

/* Each word of an end's progress, forged before a successor comes. */
static void forged_progress_for_a_successor(void)
{
	for (size_t offset = offsetof(struct mf_ring_layout, sender);
	     offset < offsetof(struct mf_ring_layout, receiver_wait); offset += 8)
		for (size_t i = 0; i < COUNT_OF(forged); i++) {
			struct rig rig;
			int owner;

			rig_open(&rig, CAPACITY, 0);
			CHECK_EQUAL(rig_send(&rig, 500, 1), 0);
			mf_role_close_sender(&rig.sender);
			mf_role_close_receiver(&rig.receiver);
			memcpy(rig.memory + offset, &forged[i], 8);
			if (mf_role_claim_sender(rig.memory, rig.size, 0, &rig.sender, &owner) ==
				    0 &&
			    mf_role_claim_receiver(rig.memory, rig.size, 0, &rig.receiver,
						   &owner) == 0)
				drive(&rig);
			rig_close(&rig);
		}
}

static uint64_t commit_word(uint64_t count, uint64_t size)
{
	return (count + 1) << 32 | (uint32_t)size;
}

/* A length and a place that the sender cannot have written: refused, or inside; also unaligned. */
static void forged_slots(void)
{
	static const uint64_t sizes[] = {0,
					 1,
					 120,
					 121,
					 122,
					 127,
					 128,
					 129,
					 191,
					 193,
					 4000,
					 4033,
					 4095,
					 4096,
					 4097,
					 8192,
					 UINT32_C(1) << 31,
					 UINT32_MAX};
	unsigned char *copy = malloc(CAPACITY);

	CHECK(copy != NULL);
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		for (uint64_t place = 0; place < CAPACITY + COUNT_OF(forged); place++) {
			static struct rig rig;
			const void *body;
			size_t size;

			if (rig.memory == NULL)
				rig_open(&rig, CAPACITY, 0);
			rig_slot(&rig, rig.receiver.cursor.count)->position =
				place < CAPACITY ? place : forged[place - CAPACITY];
			rig_slot(&rig, rig.receiver.cursor.count)->commit =
				commit_word(rig.receiver.cursor.count, sizes[i]);
			if (peek_inside(&rig, &body, &size) == 0) {
				CHECK_EQUAL(size, sizes[i]);
				mf_receiver_take(&rig.receiver, copy, body, size);
			} else {
				CHECK(sizes[i] > MF_RING_INLINE_MAX);
			}
		}
	free(copy);
}

/* A receiver that claims to be ahead of the sender is found out; one that is behind is full. */
static void forged_receiver_progress(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 1000);
	for (uint64_t number = 0; number < SLOTS; number++)
		CHECK_EQUAL(rig_send(&rig, 1, number), 0);
	CHECK_EQUAL(rig_send(&rig, 1, 0), -EAGAIN);
	rig.shared->receiver.state = (1000 + SLOTS + 1) << 1; /* received what was never sent */
	CHECK_EQUAL(rig_send(&rig, 1, 0), -EPROTO);
	CHECK(mf_sender_has_space(&rig.sender, 1)); /* no use in waiting */
	CHECK_EQUAL(mf_sender_unread(&rig.sender), 0);
	rig.shared->receiver.state = 999 << 1; /* took something back */
	CHECK_EQUAL(rig_send(&rig, 1, 0), -EPROTO);
	rig.shared->receiver.state = 1000 << 1;
	CHECK_EQUAL(rig_send(&rig, 1, 0), -EAGAIN);
	for (size_t i = 0; i < COUNT_OF(forged); i++) {
		rig.shared->receiver.position[0] = forged[i];
		rig.shared->receiver.state = (1000 + SLOTS - 2) << 1;
		rig_send(&rig, 1000, 0);
		drive(&rig);
		rig.shared->receiver.state = rig.sender.cursor.count << 1;
		rig_send(&rig, 1, 0);
	}
	rig_close(&rig);
}

/* ---- a peer that changes its mind between our loads ---- */

struct mutator {
	struct rig *rig;
	uint64_t *commit, *position;
	uint32_t stop;
};

static void *mutate(void *context)
{
	static const uint32_t sizes[] = {8, 120, 121, 4096, 4097, 129, UINT32_MAX};
	struct mutator *mutator = context;
	uint64_t seed = 88172645463325252u;

	while (mf_load32_relaxed(&mutator->stop) == 0) {
		const uint64_t dice = test_random(&seed);

		mf_store_relaxed(mutator->commit,
				 commit_word(mf_load_relaxed(mutator->commit) >> 32,
					     sizes[dice % COUNT_OF(sizes)]) -
					 (UINT64_C(1) << 32));
		mf_store_relaxed(mutator->position, dice % 4 == 0 ? dice >> 8 : dice >> 8 << 6);
	}
	return NULL;
}

/* Length and place may change at any instant: what we use is what we bounded. */
static void slots_that_change_while_we_look(void)
{
	unsigned char *copy = malloc(CAPACITY);
	int accepted = 0, refused = 0;
	struct mutator mutator;
	pthread_t thread;
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	mutator =
		(struct mutator){&rig, &rig_slot(&rig, 0)->commit, &rig_slot(&rig, 0)->position, 0};
	mf_store_relaxed(mutator.commit, commit_word(0, 8));
	CHECK(pthread_create(&thread, NULL, mutate, &mutator) == 0);
	for (int look = 0; look < LOOKS || accepted < LOOKS / 100 || refused < LOOKS / 100;
	     look++) {
		const struct mf_ring_end before = rig.receiver;
		const void *body;
		size_t size;

		if (peek_inside(&rig, &body, &size) == 0) {
			CHECK(size <= CAPACITY && copy != NULL);
			mf_receiver_take(&rig.receiver, copy, body, size);
			accepted++;
		} else {
			refused++;
		}
		rig.receiver = before; /* the same slot again */
	}
	mf_store32_relaxed(&mutator.stop, 1);
	pthread_join(thread, NULL);
	rig_close(&rig);
	free(copy);
}

/* A slot whose length and place fit, then ones of which neither fits, nor with the other's. */
static void show_slot(struct rig *rig, int fits)
{
	rig_slot(rig, 0)->position = fits ? CAPACITY - 256 : CAPACITY - 128;
	rig_slot(rig, 0)->commit = commit_word(0, fits ? 129 : CAPACITY);
}

static void peek_when_told(void *context)
{
	struct rig *rig = context;
	const void *body;
	size_t size;

	CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
	for (;;) {
		show_slot(rig, 1);
		raise(SIGSTOP);
		peek_inside(rig, &body, &size);
		rig->shared->shape_reserved[0]++; /* a word that nobody uses: the peek is over */
	}
}

/* Length and place change before any one instruction of a look: what it gives is inside. */
static void slots_that_change_before_any_instruction(void)
{
	struct rig rig;
	int status;
	pid_t child;

	rig_open(&rig, CAPACITY, 0);
	child = test_fork(peek_when_told, &rig);
	CHECK(waitpid(child, &status, 0) == child);
	if (!WIFSTOPPED(status))
		test_skip("not permitted to trace a child here");
	for (int change_at = 0, done = 0; !done; change_at++) {
		const uint64_t peeks = rig.shared->shape_reserved[0];

		for (int step = 0; step < change_at; step++) {
			CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
			CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
		}
		done = rig.shared->shape_reserved[0] != peeks; /* it was over before the change */
		show_slot(&rig, 0);
		CHECK(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
		CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	rig_close(&rig);
}

/*
 * Whatever the words say that we sleep by, a wait ends at its deadline, and says so: by
 * -ETIMEDOUT, since only then does the caller look at the time, the signals and the peer.
 */
static void forged_wait_words_do_not_hide_the_deadline(void)
{
	for (size_t i = 0; i < COUNT_OF(forged); i++)
		for (int is_sender = 0; is_sender < 2; is_sender++) {
			struct mf_ring_end *end;
			uint64_t deadline, give_up;
			struct rig rig;

			rig_open(&rig, CAPACITY, 0);
			while (is_sender && rig_send(&rig, 1, 0) == 0)
				;
			if (is_sender)
				rig.shared->sender_wait.word = (uint32_t)forged[i];
			else
				rig.shared->receiver_wait.word = (uint32_t)forged[i];
			end = is_sender ? &rig.sender : &rig.receiver;
			deadline = mf_wait_clock_ns() + WAIT_NS;
			give_up = deadline + 100 * (uint64_t)WAIT_NS;
			while (role_wait(end, is_sender, 1, deadline) != -ETIMEDOUT ||
			       mf_wait_clock_ns() < deadline)
				CHECK(mf_wait_clock_ns() < give_up);
			rig_close(&rig);
		}
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(forged_shape),
		TEST(forged_shape_that_agrees),
		TEST(forged_words_under_live_ends),
		TEST(forged_progress_for_a_successor),
		TEST(forged_slots),
		TEST(forged_receiver_progress),
		TEST(slots_that_change_while_we_look),
		TEST(slots_that_change_before_any_instruction),
		TEST(forged_wait_words_do_not_hide_the_deadline),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
