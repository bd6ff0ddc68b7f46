/* SPDX-License-Identifier: MIT */
/* test_wait.c - sleeping and waking: no wake-up is lost, none is needless twice. */
#define _GNU_SOURCE
#include "test.h"

#include "atomics.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define ROUNDS 20000
#else
#define ROUNDS 100000
#endif

enum {
	CAPACITY = 4096,
	SLOTS = CAPACITY / (int)sizeof(struct mf_slot),
	STEP_TURNS = 5, /* of an empty loop: a nanosecond or two each */
	JITTER_TURNS = 100,
};

static const uint64_t long_slice_ns = UINT64_C(5) * 1000 * 1000 * 1000;

/* ---- one process sleeps, another wakes it at the worst moment ---- */

struct duel {
	struct rig rig;
	int sender_sleeps; /* for room; otherwise the receiver, for a message */
	uint64_t rounds;   /* at least, and an eighth of them slept through */
	uint64_t seed;
	int forbid_sleeper, forbid_waker; /* membarrier(2) */
	int may_lose;			  /* a wake-up, which then costs a short slice */
};

/* Words of the header that nobody uses: the round the sleeper waits in, and the last one served. */
static uint64_t *awaited(struct duel *duel)
{
	return &duel->rig.shared->shape_reserved[1];
}

static uint64_t *served(struct duel *duel)
{
	return &duel->rig.shared->shape_reserved[2];
}

/* Set before the last round is served, so whoever was served in it sees it. */
static uint64_t *over(struct duel *duel)
{
	return &duel->rig.shared->shape_reserved[3];
}

/* Each side on a processor of its own, or they would only ever take turns. */
static void pin(int which)
{
	cpu_set_t set, one;

	CHECK_EQUAL(sched_getaffinity(0, sizeof set, &set), 0);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && which-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
		}
}

static struct mf_ring_end *begin(struct duel *duel, int is_sender, int forbid)
{
	struct mf_ring_end *end = is_sender ? &duel->rig.sender : &duel->rig.receiver;
	const int registers = mf_wait_register() == 0;
	int owner;

	if (forbid)
		test_forbid(SYS_membarrier, EPERM);
	CHECK_EQUAL((is_sender ? mf_role_claim_sender : mf_role_claim_receiver)(
			    duel->rig.memory, duel->rig.size, 0, end, &owner),
		    0);
	CHECK_EQUAL(end->fenced, forbid || !registers);
	return end;
}

/* One try to send, or to receive, this number: 0 or -EAGAIN. */
static int pass(struct duel *duel, int is_sender, uint64_t number)
{
	const void *body;
	uint64_t found;
	size_t size;
	int status;

	if (is_sender)
		return mf_sender_send(&duel->rig.sender, &number, sizeof number);
	status = mf_receiver_peek(&duel->rig.receiver, &body, &size);
	if (status != 0)
		return status;
	CHECK_EQUAL(size, sizeof found);
	mf_receiver_take(&duel->rig.receiver, &found, body, size);
	CHECK_EQUAL(found, number);
	return 0;
}

/*
 * A slice that runs out with our mark in place although the other side is done, its wake-up
 * included, is a lost wake-up, however slow the machine.
 */
static void sleeper(void *context)
{
	struct duel *duel = context;
	struct mf_ring_end *end;
	uint64_t round = 0;
	int status;

	pin(0);
	end = begin(duel, duel->sender_sleeps, duel->forbid_sleeper);
	for (uint64_t number = 0; duel->sender_sleeps && number < SLOTS; number++)
		CHECK_EQUAL(pass(duel, 1, number), 0);
	do {
		const uint64_t number = round++ + (duel->sender_sleeps ? SLOTS : 0);

		mf_store_release(awaited(duel), round);
		while ((status = pass(duel, duel->sender_sleeps, number)) == -EAGAIN) {
			end->waiter.spin_ns = 1;
			if (role_wait(end, duel->sender_sleeps, 8, UINT64_MAX) == -ETIMEDOUT &&
			    mf_load_acquire(served(duel)) == round && !duel->may_lose)
				CHECK(mf_load32_relaxed(&end->waiter.shared->word) !=
				      MF_WAIT_ASLEEP);
		}
		CHECK_EQUAL(status, 0);
	} while (!mf_load_acquire(over(duel)));
}

/*
 * Serve the other side while it marks itself asleep: later if it was still awake last time,
 * sooner if it slept, and a little to either side. So most rounds hit within 100 ns of the race.
 * Beside other load it sleeps less often: it goes on until there were sleeps enough to tell.
 */
static void waker(void *context)
{
	struct duel *duel = context;
	struct mf_ring_layout *shared = duel->rig.shared;
	const uint64_t *waits =
		duel->sender_sleeps ? &shared->sender.waits : &shared->receiver.waits;
	uint64_t aim = 0, waits_seen = 0;
	int is_last = 0;

	pin(1);
	begin(duel, !duel->sender_sleeps, duel->forbid_waker);
	for (uint64_t round = 1; !is_last; round++) {
		const uint64_t turns = aim + test_random(&duel->seed) % JITTER_TURNS;

		while (mf_load_acquire(awaited(duel)) != round)
			mf_pause();
		for (volatile uint64_t turn = 0; turn < turns; turn++)
			;
		is_last = round >= duel->rounds && waits_seen > duel->rounds / 8;
		if (is_last)
			mf_store_release(over(duel), 1);
		CHECK_EQUAL(pass(duel, !duel->sender_sleeps, round - 1), 0);
		mf_store_release(served(duel), round);
		while (mf_load_acquire(awaited(duel)) == round && !is_last)
			mf_pause();
		if (mf_load_relaxed(waits) == waits_seen)
			aim += STEP_TURNS;
		else if (aim >= STEP_TURNS)
			aim -= STEP_TURNS;
		waits_seen = mf_load_relaxed(waits);
	}
}

static void fight(struct duel *duel)
{
	int status;

	duel->seed = test_seed();
	rig_make(&duel->rig, CAPACITY, 0);
	test_fork(sleeper, duel);
	test_fork(waker, duel);
	for (int child = 0; child < 2; child++) {
		CHECK(wait(&status) > 0);
		CHECK_EQUAL(status, 0); /* and our death ends the other child */
	}
	rig_close(&duel->rig);
}

/* Each message is sent at the moment when the receiver goes to sleep: not one is slept through. */
static void no_wakeup_is_lost_for_messages(void)
{
	struct duel duel = {.rounds = ROUNDS};

	fight(&duel);
}

/* Each message is received at the moment when the sender goes to sleep for want of room. */
static void no_wakeup_is_lost_for_room(void)
{
	struct duel duel = {.rounds = ROUNDS / 2, .sender_sleeps = 1};

	fight(&duel);
}

/* Where membarrier(2) is forbidden to both, both fence for themselves. */
static void without_membarrier(void)
{
	struct duel duel = {.rounds = ROUNDS / 4, .forbid_sleeper = 1, .forbid_waker = 1};

	fight(&duel);
	duel.sender_sleeps = 1;
	fight(&duel);
}

/* Where it is forbidden to the waker, that one fences, so a sleeper that has it loses nothing. */
static void without_membarrier_for_the_waker(void)
{
	struct duel duel = {.rounds = ROUNDS / 4, .forbid_waker = 1};

	fight(&duel);
}

/* Where it is forbidden to the sleeper alone, that one sleeps in short slices, and they still talk.
 */
static void without_membarrier_for_the_sleeper(void)
{
	struct duel duel = {.rounds = ROUNDS / 4, .forbid_sleeper = 1, .may_lose = 1};

	fight(&duel);
}

/* ---- a sleeper that died ---- */

static void sleep_as_receiver(void *context)
{
	struct rig *rig = context;
	int owner;

	CHECK_EQUAL(mf_role_claim_receiver(rig->memory, rig->size, 0, &rig->receiver, &owner), 0);
	rig->receiver.waiter.slice_ns = long_slice_ns;
	for (;;)
		role_wait(&rig->receiver, 0, 0, UINT64_MAX);
}

static void until_asleep(struct mf_wait_layout *wait)
{
	while (mf_load32_relaxed(&wait->word) != MF_WAIT_ASLEEP)
		usleep(100);
}

/* The mark of a dead sleeper is taken away by the first wake-up: later sends make no system call.
 */
static void a_dead_sleeper_costs_one_wakeup(void)
{
	struct rig rig;
	pid_t child;
	int owner;

	rig_make(&rig, CAPACITY, 0);
	child = test_fork(sleep_as_receiver, &rig);
	until_asleep(&rig.shared->receiver_wait);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK_EQUAL(rig.shared->receiver_wait.word, MF_WAIT_ASLEEP);
	CHECK_EQUAL(mf_role_claim_sender(rig.memory, rig.size, 0, &rig.sender, &owner), 0);
	for (uint64_t number = 0; number < 20; number++) {
		CHECK_EQUAL(rig_send(&rig, 8, number), 0);
		CHECK_EQUAL(rig.shared->receiver_wait.word, MF_WAIT_AWAKE);
	}
	rig_close(&rig);
}

/* ---- what wakes whom: every slice here is longer than the test may take ---- */

struct waiting {
	struct mf_ring_end *end;
	int is_sender;
	size_t size;
	int status;
};

static void *sleep_once(void *context)
{
	struct waiting *waiting = context;

	waiting->status = role_wait(waiting->end, waiting->is_sender, waiting->size, UINT64_MAX);
	return NULL;
}

/* Let `count` threads sleep on an end, do something, and see all of them woken by it. */
static void woken_by(struct rig *rig, int is_sender, size_t size, size_t count,
		     void (*act)(struct rig *))
{
	struct mf_ring_end *end = is_sender ? &rig->sender : &rig->receiver;
	struct waiting waiting[3];
	pthread_t threads[3];

	end->waiter.slice_ns = long_slice_ns;
	for (size_t i = 0; i < count; i++) {
		waiting[i] = (struct waiting){end, is_sender, size, -1};
		CHECK(pthread_create(&threads[i], NULL, sleep_once, &waiting[i]) == 0);
	}
	while (mf_load_relaxed(end->waiter.waits) != count)
		usleep(100);
	usleep(2000); /* from the count into the futex: not needed to be right, only to be asleep */
	act(rig);
	for (size_t i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQUAL(waiting[i].status, 0);
	}
	rig_close(rig);
}

static void act_send(struct rig *rig)
{
	CHECK_EQUAL(rig_send(rig, 300, 0), 0);
}

static void act_receive(struct rig *rig)
{
	rig_receive(rig, 3000, 0);
}

static void act_close_sender(struct rig *rig)
{
	mf_role_close_sender(&rig->sender);
}

static void act_close_receiver(struct rig *rig)
{
	mf_role_close_receiver(&rig->receiver);
}

static void full(struct rig *rig)
{
	rig_open(rig, CAPACITY, 0);
	CHECK_EQUAL(rig_send(rig, 3000, 0), 0);
	CHECK_EQUAL(rig_send(rig, 3000, 0), -EAGAIN);
}

/* A message wakes a receiver, room a sender; a close wakes its own threads and the other side. */
static void message_wakes_receivers(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	woken_by(&rig, 0, 0, 3, act_send);
}

static void room_wakes_senders(void)
{
	struct rig rig;

	full(&rig);
	woken_by(&rig, 1, 3000, 3, act_receive);
}

static void sender_close_wakes_receivers(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	woken_by(&rig, 0, 0, 2, act_close_sender);
}

static void receiver_close_wakes_senders(void)
{
	struct rig rig;

	full(&rig);
	woken_by(&rig, 1, 3000, 2, act_close_receiver);
}

static void receiver_close_wakes_its_own(void)
{
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	woken_by(&rig, 0, 0, 2, act_close_receiver);
}

static void sender_close_wakes_its_own(void)
{
	struct rig rig;

	full(&rig);
	woken_by(&rig, 1, 3000, 2, act_close_sender);
}

/* ---- ends of a wait ---- */

/* A wait without result ends at its deadline and not before. */
static void deadline_is_kept(void)
{
	static const uint64_t waits_ns[] = {0, 1, 30000, 2000000, 70000000};
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	for (size_t i = 0; i < COUNT_OF(waits_ns); i++) {
		const uint64_t deadline = mf_wait_clock_ns() + waits_ns[i];

		while (role_wait(&rig.receiver, 0, 0, deadline) != -ETIMEDOUT ||
		       mf_wait_clock_ns() < deadline)
			CHECK(mf_wait_clock_ns() < deadline + long_slice_ns);
	}
	CHECK_EQUAL(rig.receiver.waiter.shared->word, MF_WAIT_ASLEEP);
	rig_close(&rig);
}

static void nothing(int number)
{
	(void)number;
}

static void *interrupt(void *context)
{
	struct waiting *waiting = context;

	until_asleep(waiting->end->waiter.shared);
	usleep(5000);
	kill(getpid(), SIGUSR1);
	return NULL;
}

/* A signal ends a sleep, and says so. */
static void a_signal_interrupts(void)
{
	struct sigaction action = {.sa_handler = nothing};
	struct waiting waiting;
	sigset_t set, before;
	pthread_t thread;
	struct rig rig;

	rig_open(&rig, CAPACITY, 0);
	rig.receiver.waiter.slice_ns = long_slice_ns;
	waiting.end = &rig.receiver;
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &before); /* for the thread */
	CHECK(pthread_create(&thread, NULL, interrupt, &waiting) == 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	CHECK_EQUAL(role_wait(&rig.receiver, 0, 0, UINT64_MAX), -EINTR);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(no_wakeup_is_lost_for_messages),
		TEST(no_wakeup_is_lost_for_room),
		TEST(without_membarrier),
		TEST(without_membarrier_for_the_waker),
		TEST(without_membarrier_for_the_sleeper),
		TEST(a_dead_sleeper_costs_one_wakeup),
		TEST(message_wakes_receivers),
		TEST(room_wakes_senders),
		TEST(sender_close_wakes_receivers),
		TEST(receiver_close_wakes_senders),
		TEST(receiver_close_wakes_its_own),
		TEST(sender_close_wakes_its_own),
		TEST(deadline_is_kept),
		TEST(a_signal_interrupts),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
