/* SPDX-License-Identifier: MIT */
/*
 * test_ring_roles.c - who may take an end, and what a successor finds when the
 * last owner died between any two of its stores.
 */
#define _GNU_SOURCE
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CAPACITY = 4096,
	SLOTS = CAPACITY / (int)sizeof(struct mf_slot),
};

static int claim_sender(struct rig *rig, uint64_t from, int *owner_ret)
{
	return mf_role_claim_sender(rig->memory, rig->size, from, &rig->sender, owner_ret);
}

static int claim_receiver(struct rig *rig, uint64_t from, int *owner_ret)
{
	return mf_role_claim_receiver(rig->memory, rig->size, from, &rig->receiver, owner_ret);
}

static void claim_in_child(void *context)
{
	struct rig *rig = context;

	/* shared pages, a word that nobody uses */
	rig->shared->shape_reserved[0] = mf_process_claim(&rig->shared->namespaces);
}

/* The claim of a process that is gone, or (unreaped) a zombie. */
static uint64_t dead_claim(struct rig *rig)
{
	test_in_child(claim_in_child, rig);
	return rig->shared->shape_reserved[0];
}

/* ---- a death between any two stores ---- */

struct store {
	void *where;
	size_t size;
};

struct scene {
	uint64_t first_count;
	size_t before; /* messages in the ring when the fatal one begins */
	size_t size;   /* of each */
};

static const struct scene scenes[] = {
	{0, 0, 0},
	{0, 0, 8},
	{0, 0, 500},
	{5, 7, 120},
	{29, 3, 1000},	   /* the fourth fits exactly, or wraps */
	{40, 2, 1025},	   /* wraps */
	{0, SLOTS - 1, 9}, /* takes the last slot */
	{(UINT64_C(1) << 32) - 1, 2, 200},
	{UINT64_C(1) << 62, 2, 64},
};

/* The stores of one send, in order, as ring.c says it makes them. */
static size_t stores_of_send(struct rig *rig, size_t size, struct store *stores)
{
	struct mf_progress_layout *progress = &rig->shared->sender;
	struct mf_slot *slot = rig_slot(rig, rig->sender.cursor.count);
	const uint64_t cell = rig->sender.cell ^ 1;
	size_t count = 0;

	if (size > MF_RING_INLINE_MAX)
		stores[count++] = (struct store){&slot->position, 8};
	stores[count++] = size > MF_RING_INLINE_MAX ? (struct store){rig_arena(rig), rig->capacity}
						    : (struct store){slot->body, size};
	stores[count++] = (struct store){&progress->position[cell], 8};
	stores[count++] = (struct store){&progress->bytes[cell], 8};
	stores[count++] = (struct store){&slot->commit, 8};
	stores[count++] = (struct store){&progress->state, 8};
	return count;
}

static void receive_some(struct rig *rig, const struct scene *scene, uint64_t *number, uint64_t end)
{
	for (; *number < end; ++*number)
		rig_receive(rig, scene->size, *number);
}

/* The sender dies after `made` stores of its last message; `drained`: all is read before anybody
 * comes. */
static int sender_dies(const struct scene *scene, size_t made, int drained)
{
	struct store stores[6];
	struct mf_ring_stats stats;
	unsigned char *before, *after;
	uint64_t next = 0, end = scene->before;
	const void *body;
	struct rig rig;
	size_t count, size;
	int owner;

	rig_open(&rig, CAPACITY, scene->first_count);
	for (uint64_t number = 0; number < end; number++)
		CHECK_EQUAL(rig_send(&rig, scene->size, number), 0);
	rig.shared->sender_claim = dead_claim(&rig);
	before = malloc(rig.size);
	after = malloc(rig.size);
	CHECK(before != NULL && after != NULL);
	memcpy(before, rig.memory, rig.size);
	count = stores_of_send(&rig, scene->size, stores);
	CHECK_EQUAL(rig_send(&rig, scene->size, end), 0);
	memcpy(after, rig.memory, rig.size);
	memcpy(rig.memory, before, rig.size);
	for (size_t i = 0; i < made && i < count; i++)
		memcpy(stores[i].where, after + ((unsigned char *)stores[i].where - rig.memory),
		       stores[i].size);
	if (made >= count)
		CHECK(memcmp(rig.memory, after, rig.size) == 0); /* the list is whole */
	if (made >= count - 1)
		end++; /* from the commit word on, the message exists */

	if (drained)
		receive_some(&rig, scene, &next, end);
	CHECK_EQUAL(claim_sender(&rig, 0, &owner), 0);
	CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
	CHECK_EQUAL(stats.messages_sent, scene->first_count + end);
	CHECK_EQUAL(stats.used, (end - next) * scene->size);
	receive_some(&rig, scene, &next, end);
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -EAGAIN);
	for (int more = 0; more < 3; more++) {
		CHECK_EQUAL(rig_send(&rig, scene->size, end++), 0);
		receive_some(&rig, scene, &next, end);
	}
	CHECK_EQUAL(rig_send(&rig, CAPACITY, end), 0);
	rig_receive(&rig, CAPACITY, end);
	rig_close(&rig);
	free(before);
	free(after);
	return made < count;
}

/* A successor counts a committed message and no other, whether or not it was received meanwhile. */
static void sender_dies_between_any_two_stores(void)
{
	for (size_t scene = 0; scene < COUNT_OF(scenes); scene++)
		for (int drained = 0; drained < 2; drained++)
			for (size_t made = 0; sender_dies(&scenes[scene], made, drained); made++)
				;
}

/* Stats are never nonsense: a receiver may be ahead of a sender that has committed and no more. */
static void stats_between_commit_and_state(void)
{
	struct mf_ring_stats stats;
	struct rig rig;
	uint64_t state;

	rig_open(&rig, CAPACITY, 0);
	state = rig.shared->sender.state;
	CHECK_EQUAL(rig_send(&rig, 100, 0), 0);
	rig.shared->sender.state = state; /* not yet stored */
	rig_receive(&rig, 100, 0);
	CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
	CHECK_EQUAL(stats.used, 0);
	rig_close(&rig);
}

/* The receiver dies after `made` of its three stores: the message is gone with the last, not
 * before. */
static void receiver_dies_between_any_two_stores(void)
{
	for (size_t scene = 1; scene < COUNT_OF(scenes); scene++)
		for (size_t made = 0; made <= 3; made++) {
			const struct mf_progress_layout *after;
			struct mf_progress_layout before, copy;
			struct rig rig;
			uint64_t cell;
			int owner;

			rig_open(&rig, CAPACITY, scenes[scene].first_count);
			for (uint64_t number = 0; number < 2; number++)
				CHECK_EQUAL(rig_send(&rig, scenes[scene].size, number), 0);
			rig.shared->receiver_claim = dead_claim(&rig);
			before = rig.shared->receiver;
			cell = rig.receiver.cell ^ 1;
			rig_receive(&rig, scenes[scene].size, 0);
			copy = rig.shared->receiver;
			after = &copy;
			rig.shared->receiver = before;
			if (made >= 1)
				rig.shared->receiver.position[cell] = after->position[cell];
			if (made >= 2)
				rig.shared->receiver.bytes[cell] = after->bytes[cell];
			if (made >= 3)
				rig.shared->receiver.state = after->state;

			CHECK_EQUAL(claim_receiver(&rig, 0, &owner), 0);
			if (made < 3)
				rig_receive(&rig, scenes[scene].size, 0);
			rig_receive(&rig, scenes[scene].size, 1);
			CHECK_EQUAL(rig_send(&rig, CAPACITY, 2), 0);
			rig_receive(&rig, CAPACITY, 2);
			rig_close(&rig);
		}
}

enum {
	STEPPED_MESSAGES = 6,
	STEPPED_BYTES = 40,
};

static void be_stepped(void *context)
{
	struct rig *rig = context;
	unsigned char copy[STEPPED_BYTES];
	const void *body;
	size_t size;

	CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
	raise(SIGSTOP);
	for (uint64_t number = 0; number < STEPPED_MESSAGES; number++) {
		mf_sender_send(&rig->sender, "forty bytes, of which nobody reads a one",
			       STEPPED_BYTES);
		CHECK_EQUAL(mf_receiver_peek(&rig->receiver, &body, &size), 0);
		mf_receiver_take(&rig->receiver, copy, body, size);
	}
}

/*
 * After each single instruction of send and take, messages and bytes belong together: no state
 * is published before its cells, and a successor that comes just then goes on from a whole one.
 */
static void progress_is_whole_after_every_instruction(void)
{
	struct mf_ring_stats stats;
	int status, steps = 0;
	struct rig rig;
	pid_t child;

	rig_open(&rig, CAPACITY, 0);
	child = test_fork(be_stepped, &rig);
	CHECK(waitpid(child, &status, 0) == child);
	if (!WIFSTOPPED(status))
		test_skip("not permitted to trace a child here");
	do {
		CHECK_EQUAL(mf_ring_stats(rig.memory, rig.size, &stats), 0);
		CHECK_EQUAL(stats.bytes_sent, stats.messages_sent * STEPPED_BYTES);
		CHECK_EQUAL(stats.bytes_received, stats.messages_received * STEPPED_BYTES);
		CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
		CHECK(waitpid(child, &status, 0) == child);
		steps++;
	} while (stats.messages_received < STEPPED_MESSAGES && WIFSTOPPED(status));
	CHECK(stats.messages_received == STEPPED_MESSAGES && steps > 100);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	rig_close(&rig);
}

/* ---- roles ---- */

/* A live owner keeps its role, and a refused claim says who has it and changes nothing. */
static void a_live_owner_is_not_robbed(void)
{
	struct mf_ring_layout header;
	struct mf_ring_end other;
	struct rig rig;
	int owner = 0;

	rig_open(&rig, CAPACITY, 0);
	header = *rig.shared;
	CHECK_EQUAL(mf_role_claim_sender(rig.memory, rig.size, 0, &other, &owner), -EBUSY);
	CHECK_EQUAL(owner, getpid());
	CHECK_EQUAL(mf_role_claim_receiver(rig.memory, rig.size, 0, &other, &owner), -EBUSY);
	CHECK_EQUAL(owner, getpid());
	header.namespaces.claims =
		rig.shared->namespaces.claims; /* but for the numbers given out */
	CHECK(memcmp(&header, rig.shared, sizeof header) == 0);
	rig_close(&rig);
}

static void claim_both(void *context)
{
	struct rig *rig = context;
	int owner;

	CHECK_EQUAL(claim_sender(rig, 0, &owner), 0);
	CHECK_EQUAL(claim_receiver(rig, 0, &owner), 0);
}

/* A dead owner's role is free, also while it is a zombie; a role given back is free at once. */
static void the_dead_and_the_closed_are_succeeded(void)
{
	struct rig rig;
	siginfo_t info;
	pid_t child;
	int owner, pid;

	rig_make(&rig, CAPACITY, 0);
	child = test_fork(claim_both, &rig);
	CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	CHECK_EQUAL(claim_sender(&rig, 0, &owner), 0);
	CHECK_EQUAL(mf_role_peer(&rig.sender, 1, &pid), MF_PEER_DEAD);
	CHECK_EQUAL(pid, child);
	test_reap(child);
	CHECK_EQUAL(mf_role_peer(&rig.sender, 1, &pid), MF_PEER_DEAD);
	CHECK_EQUAL(claim_receiver(&rig, 0, &owner), 0);
	mf_role_close_sender(&rig.sender);
	mf_role_close_receiver(&rig.receiver);
	test_in_child(claim_both, &rig);
	rig_close(&rig);
}

/* The peer is absent, here, or closed; what is dead is seen above. */
static void peer_says_what_became_of_it(void)
{
	struct rig rig;
	int owner, pid;

	rig_make(&rig, CAPACITY, 0);
	CHECK_EQUAL(claim_sender(&rig, 0, &owner), 0);
	CHECK_EQUAL(mf_role_peer(&rig.sender, 1, &pid), MF_PEER_ABSENT);
	CHECK_EQUAL(claim_receiver(&rig, 0, &owner), 0);
	CHECK_EQUAL(mf_role_peer(&rig.sender, 1, &pid), MF_PEER_HERE);
	CHECK_EQUAL(pid, getpid());
	CHECK_EQUAL(mf_role_peer(&rig.receiver, 0, &pid), MF_PEER_HERE);
	mf_role_close_receiver(&rig.receiver);
	CHECK_EQUAL(mf_role_peer(&rig.sender, 1, &pid), MF_PEER_CLOSED);
	CHECK_EQUAL(pid, 0);
	rig_close(&rig);
}

struct transfer {
	struct rig *rig;
	uint64_t from_sender, from_receiver;
	int expected;
};

static void take_over(void *context)
{
	const struct transfer *transfer = context;
	int owner;

	CHECK_EQUAL(claim_sender(transfer->rig, transfer->from_sender, &owner), transfer->expected);
	if (transfer->expected == 0)
		CHECK_EQUAL(rig_send(transfer->rig, 300, 2), 0);
	CHECK_EQUAL(claim_receiver(transfer->rig, transfer->from_receiver, &owner),
		    transfer->expected);
}

/*
 * With its owner's word a role is handed on while the owner lives; without it, or with another,
 * not. Who handed it on cannot close it any more.
 */
static void a_role_is_handed_on_with_its_word(void)
{
	struct rig rig;
	struct transfer transfer;
	const void *body;
	size_t size;
	int owner;

	rig_open(&rig, CAPACITY, 0);
	CHECK_EQUAL(rig_send(&rig, 300, 1), 0);
	transfer = (struct transfer){&rig, rig.receiver.claim, rig.sender.claim, -EBUSY};
	test_in_child(take_over, &transfer);
	transfer = (struct transfer){&rig, rig.sender.claim, rig.receiver.claim, 0};
	test_in_child(take_over, &transfer);
	mf_role_close_sender(&rig.sender);
	mf_role_close_receiver(&rig.receiver);
	CHECK(rig.shared->sender_claim != MF_CLAIM_CLOSED);
	CHECK(rig.shared->receiver_claim != MF_CLAIM_CLOSED);
	CHECK_EQUAL(claim_receiver(&rig, 0, &owner), 0); /* the child is dead */
	rig_receive(&rig, 300, 1);
	rig_receive(&rig, 300, 2);
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -EAGAIN);
	rig_close(&rig);
}

/* Within one process too a role is handed on once, and is not the old end's any more. */
static void a_role_is_handed_on_once(void)
{
	struct mf_ring_end old_sender, old_receiver, third;
	const void *body;
	struct rig rig;
	size_t size;
	int owner;

	rig_open(&rig, CAPACITY, 0);
	old_sender = rig.sender;
	old_receiver = rig.receiver;
	CHECK_EQUAL(claim_sender(&rig, old_sender.claim, &owner), 0);
	CHECK_EQUAL(claim_receiver(&rig, old_receiver.claim, &owner), 0);
	mf_role_close_sender(&old_sender);
	mf_role_close_receiver(&old_receiver);
	CHECK_EQUAL(rig.shared->sender_claim, rig.sender.claim);
	CHECK_EQUAL(rig.shared->receiver_claim, rig.receiver.claim);
	CHECK_EQUAL(mf_receiver_peek(&old_receiver, &body, &size), -ESTALE);
	CHECK_EQUAL(rig_send(&rig, 300, 1), 0);
	rig_receive(&rig, 300, 1);
	CHECK_EQUAL(mf_role_claim_sender(rig.memory, rig.size, old_sender.claim, &third, &owner),
		    -EBUSY);
	CHECK_EQUAL(
		mf_role_claim_receiver(rig.memory, rig.size, old_receiver.claim, &third, &owner),
		-EBUSY);
	rig_close(&rig);
}

/* An end whose role was taken from it (a damaged ring) waits for nothing: it is told. */
static void a_lost_role_is_told(void)
{
	const void *body;
	struct rig rig;
	void *place;
	size_t size;

	rig_open(&rig, CAPACITY, 0);
	CHECK_EQUAL(rig_send(&rig, 3000, 1), 0);
	rig.shared->sender_claim = rig.shared->receiver_claim = 0;
	CHECK(mf_sender_has_space(&rig.sender, 3000));
	CHECK_EQUAL(rig_send(&rig, 3000, 2), -ESTALE);
	CHECK_EQUAL(mf_sender_loan(&rig.sender, 3000, &place), -ESTALE);
	rig_receive(&rig, 3000, 1);
	CHECK(mf_receiver_has_message(&rig.receiver, 0));
	CHECK_EQUAL(mf_receiver_peek(&rig.receiver, &body, &size), -ESTALE);
	rig_close(&rig);
}

/* Any word in a role: only a provably dead owner of our own namespace, or nobody, is replaced. */
static void any_word_in_a_role(void)
{
	const uint64_t pids[] = {0, (uint64_t)getpid(), (UINT64_C(1) << MF_CLAIM_PID_BITS) - 1};
	struct rig rig;
	uint64_t own;
	int owner;

	rig_make(&rig, CAPACITY, 0);
	own = mf_process_claim(&rig.shared->namespaces);
	CHECK_EQUAL((own >> MF_CLAIM_PID_BITS) & 7, 0);
	for (uint64_t space = 0; space < 8; space++) {
		for (size_t i = 0; i < COUNT_OF(pids); i++)
			for (int bit = MF_CLAIM_TICKS_SHIFT; bit < 64; bit++) {
				const int expected = pids[i] != 0 && space != 0 ? -EBUSY : 0;
				const uint64_t ticks = own >> MF_CLAIM_TICKS_SHIFT
								      << MF_CLAIM_TICKS_SHIFT;

				rig.shared->sender_claim = pids[i] | space << MF_CLAIM_PID_BITS |
							   (ticks ^ UINT64_C(1) << bit);
				rig.shared->receiver_claim = rig.shared->sender_claim;
				CHECK_EQUAL(claim_sender(&rig, 0, &owner), expected);
				CHECK_EQUAL(claim_receiver(&rig, 0, &owner), expected);
			}
		rig.shared->sender_claim = own | space << MF_CLAIM_PID_BITS;
		CHECK_EQUAL(claim_sender(&rig, 0, &owner), -EBUSY);
	}
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(sender_dies_between_any_two_stores),
		TEST(stats_between_commit_and_state),
		TEST(receiver_dies_between_any_two_stores),
		TEST(progress_is_whole_after_every_instruction),
		TEST(a_live_owner_is_not_robbed),
		TEST(the_dead_and_the_closed_are_succeeded),
		TEST(peer_says_what_became_of_it),
		TEST(a_role_is_handed_on_with_its_word),
		TEST(a_role_is_handed_on_once),
		TEST(a_lost_role_is_told),
		TEST(any_word_in_a_role),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
