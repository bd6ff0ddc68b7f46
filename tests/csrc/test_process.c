/* SPDX-License-Identifier: MIT */
/* test_process.c - who is dead, who is alive, and who cannot be told from here. */
#define _GNU_SOURCE
#include "test.h"

#include "atomics.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum {
	NOBODY = 65534,
};

/* What the processes of one test share. */
struct table {
	struct mf_namespaces_layout namespaces;
	uint64_t own;	/* claim of the test itself */
	uint64_t child; /* claim of whoever wrote it last */
	uint64_t ready;
	uint64_t gone; /* claim of a reaped child */
	uint64_t zombie;
	uint64_t alive;
};

static void claim_into(struct table *table, uint64_t *word)
{
	*word = mf_process_claim(&table->namespaces);
}

static void claim_and_end(void *context)
{
	struct table *table = context;

	claim_into(table, &table->child);
}

static void claim_and_stay(void *context)
{
	struct table *table = context;

	claim_into(table, &table->child);
	raise(SIGSTOP);
	for (;;)
		pause();
}

static void end_child(pid_t child)
{
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
}

/* A stopped child, having claimed. */
static pid_t stopped_child(struct table *table)
{
	const pid_t child = test_fork(claim_and_stay, table);
	int status;

	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	return child;
}

static pid_t zombie_child(struct table *table)
{
	const pid_t child = test_fork(claim_and_end, table);
	siginfo_t info;

	CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	CHECK_EQUAL(info.si_status, 0);
	return child;
}

static struct table *new_table(void)
{
	struct table *table = (struct table *)(void *)test_pages(4096);

	claim_into(table, &table->own);
	return table;
}

/* We live, by each of our claims, which name us and are told apart. */
static void self_is_alive(void)
{
	struct table *table = new_table();

	CHECK_EQUAL(mf_process_claim_pid(table->own), getpid());
	CHECK_EQUAL(mf_process_life(table->own, table->own), MF_LIFE_ALIVE);
	claim_into(table, &table->child);
	CHECK(table->child != table->own);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_ALIVE);
	CHECK_EQUAL(mf_process_exists(getpid()), 1);
}

/* A stopped process is slow, not dead; a zombie is dead, unreaped as it is; so is a reaped one. */
static void stopped_lives_zombie_and_reaped_are_dead(void)
{
	struct table *table = new_table();
	pid_t child = stopped_child(table);

	CHECK_EQUAL(mf_process_claim_pid(table->child), child);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_ALIVE);
	CHECK_EQUAL(mf_process_exists(child), 1);
	end_child(child);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_DEAD);
	child = zombie_child(table);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_DEAD);
	CHECK_EQUAL(mf_process_exists(child), 0);
	test_reap(child);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_DEAD);
	CHECK_EQUAL(mf_process_exists(child), 0);
}

/* The same pid with another start time is another process: the one that claimed is dead. */
static void a_reused_pid_is_another_process(void)
{
	struct table *table = new_table();
	const pid_t child = stopped_child(table);

	for (int bit = MF_CLAIM_TICKS_SHIFT; bit < 64; bit++) {
		CHECK_EQUAL(mf_process_life(table->own, table->child ^ UINT64_C(1) << bit),
			    MF_LIFE_DEAD);
		CHECK_EQUAL(mf_process_life(table->own, table->own ^ UINT64_C(1) << bit),
			    MF_LIFE_DEAD);
	}
	end_child(child);
}

static void odd_name(void *context)
{
	struct table *table = context;

	claim_into(table, &table->alive);
	prctl(PR_SET_NAME, "a) Z 1 ( 2)"); /* 15 bytes at most, any bytes */
	claim_and_stay(table);
}

/* A process may be named as if it were other fields of its stat line: that changes nothing. */
static void a_name_cannot_pass_for_a_state(void)
{
	struct table *table = new_table();
	const pid_t child = test_fork(odd_name, table);
	int status;

	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	CHECK_EQUAL(table->child >> MF_CLAIM_TICKS_SHIFT, table->alive >> MF_CLAIM_TICKS_SHIFT);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_ALIVE);
	end_child(child);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_DEAD);
}

/* A claim of another index, or of none, is unknown: never dead, whatever its pid. */
static void other_namespaces_are_unknown(void)
{
	struct table *table = new_table();
	const uint64_t pids[] = {1, (uint64_t)getpid(), (UINT64_C(1) << MF_CLAIM_PID_BITS) - 1};

	for (uint64_t space = 1; space < 8; space++)
		for (size_t i = 0; i < COUNT_OF(pids); i++)
			CHECK_EQUAL(
				mf_process_life(table->own, pids[i] | space << MF_CLAIM_PID_BITS),
				MF_LIFE_UNKNOWN);
	CHECK_EQUAL(mf_process_life(table->own, UINT64_C(5) << MF_CLAIM_TICKS_SHIFT), MF_LIFE_DEAD);
}

/* A full table gives the index that says "not recorded"; two of those do not know each other. */
static void a_full_table_is_unknown(void)
{
	struct table *table = new_table();
	uint64_t own, other;

	for (uint64_t i = 0; i < MF_NAMESPACE_COUNT; i++)
		table->namespaces.inodes[i] = 1000 + i;
	claim_into(table, &own);
	claim_into(table, &other);
	CHECK_EQUAL(own >> MF_CLAIM_PID_BITS & 7, MF_NAMESPACE_COUNT);
	CHECK_EQUAL(mf_process_life(own, other), MF_LIFE_UNKNOWN);
	CHECK_EQUAL(mf_process_life(own, table->own), MF_LIFE_UNKNOWN);
}

/* ---- worlds of their own ---- */

static void need(int status)
{
	if (status != 0)
		test_skip("not permitted to make namespaces or mounts here");
}

static void mount_own_proc(const char *options)
{
	need(unshare(CLONE_NEWNS));
	need(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	need(mount("proc", "/proc", "proc", 0, options));
}

static void judge_from_inside(void *context)
{
	struct table *table = context;
	uint64_t own;

	CHECK_EQUAL(getpid(), 1);
	mount_own_proc(NULL);
	claim_into(table, &own);
	CHECK(own >> MF_CLAIM_PID_BITS != table->own >> MF_CLAIM_PID_BITS);
	CHECK_EQUAL(mf_process_life(own, own), MF_LIFE_ALIVE);
	/* a pid of the world outside, which is nobody's here, and one that was reaped there */
	CHECK_EQUAL(mf_process_life(own, table->own), MF_LIFE_UNKNOWN);
	CHECK_EQUAL(mf_process_life(own, table->gone), MF_LIFE_UNKNOWN);
	table->child = own;
}

static void in_pid_namespace(void (*run)(void *), void *context)
{
	need(unshare(CLONE_NEWPID));
	test_in_child(run, context);
}

static void judge_from_outside(void *context)
{
	struct table *table = context;
	uint64_t own;

	claim_into(table, &own);
	in_pid_namespace(judge_from_inside, table);
	CHECK_EQUAL(mf_process_life(own, table->child), MF_LIFE_UNKNOWN); /* dead, in truth */
	CHECK_EQUAL(mf_process_life(own, own), MF_LIFE_ALIVE);
}

/* Across a pid namespace nobody is ever found dead, from either side. */
static void another_pid_namespace_is_unknown(void)
{
	struct table *table = new_table();

	test_in_child(claim_and_end, table);
	table->gone = table->child;
	test_in_child(judge_from_outside, table);
}

static void judge_with_proper_proc(void *context)
{
	struct table *table = context;
	uint64_t own;

	mount_own_proc(NULL);
	claim_into(table, &own);
	CHECK(mf_process_life(own, table->alive) != MF_LIFE_DEAD);
	CHECK(mf_process_life(own, own) == MF_LIFE_ALIVE);
}

/* Claim while /proc still shows the namespace outside; a sibling with the right one judges us. */
static void claim_under_foreign_proc(void *context)
{
	struct table *table = context;

	CHECK_EQUAL(getpid(), 1);
	claim_into(table, &table->alive);
	test_in_child(judge_with_proper_proc, table);
	CHECK(mf_process_life(table->alive, table->alive) != MF_LIFE_DEAD);
}

static void enter_pid_namespace(void *context)
{
	in_pid_namespace(claim_under_foreign_proc, context);
}

/* A /proc of another pid namespace (unshare -p without --mount-proc) makes nobody dead who lives.
 */
static void a_foreign_proc_makes_nobody_dead(void)
{
	test_in_child(enter_pid_namespace, new_table());
}

/* The three that every odd world must judge: alive, zombie, reaped. */
static void judge_three(struct table *table, int alive, int zombie, int gone)
{
	CHECK_EQUAL(mf_process_life(table->own, table->alive), alive);
	CHECK_EQUAL(mf_process_life(table->own, table->zombie), zombie);
	CHECK_EQUAL(mf_process_life(table->own, table->gone), gone);
}

static void judge_in(void (*world)(void *))
{
	struct table *table = new_table();
	pid_t alive, zombie;

	test_in_child(claim_and_end, table);
	table->gone = table->child;
	zombie = zombie_child(table);
	table->zombie = table->child;
	alive = stopped_child(table);
	table->alive = table->child;
	test_in_child(world, table);
	end_child(alive);
	end_child(zombie);
}

static void hidden_proc(void *context)
{
	mount_own_proc("hidepid=2");
	need(setgid(NOBODY));
	need(setuid(NOBODY));
	judge_three(context, MF_LIFE_ALIVE, MF_LIFE_DEAD, MF_LIFE_DEAD);
}

static void no_proc(void *context)
{
	struct table *table = context;
	uint64_t claim;

	need(unshare(CLONE_NEWNS));
	need(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	need(mount("none", "/proc", "tmpfs", 0, NULL));
	judge_three(table, MF_LIFE_ALIVE, MF_LIFE_DEAD, MF_LIFE_DEAD);
	claim_into(table, &claim);
	CHECK_EQUAL(claim >> MF_CLAIM_PID_BITS & 7, MF_NAMESPACE_COUNT);
}

static void no_pidfd(void *context)
{
	test_forbid(SYS_pidfd_open, EPERM);
	judge_three(context, MF_LIFE_ALIVE, MF_LIFE_DEAD, MF_LIFE_DEAD);
}

static void no_pidfd_hidden_proc(void *context)
{
	struct table *table = context;

	mount_own_proc("hidepid=2");
	need(setgid(NOBODY));
	need(setuid(NOBODY));
	test_forbid(SYS_pidfd_open, EPERM);
	CHECK(mf_process_life(table->own, table->alive) != MF_LIFE_DEAD);
	CHECK_EQUAL(mf_process_exists(mf_process_claim_pid(table->alive)), 1);
}

static void no_descriptors(void *context)
{
	struct table *table = context;
	const struct rlimit none = {3, 3};

	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
	CHECK(mf_process_life(table->own, table->alive) != MF_LIFE_DEAD);
	CHECK(mf_process_life(table->own, table->own) != MF_LIFE_DEAD);
	CHECK_EQUAL(mf_process_exists(getpid()), 1);
}

/* What hidepid= hides lives on; the dead are dead all the same. */
static void hidden_processes_live(void)
{
	judge_in(hidden_proc);
}

/* Without /proc the kernel still tells the dead; a claim made there says it cannot be judged. */
static void without_proc(void)
{
	judge_in(no_proc);
}

/* Where pidfd_open(2) is forbidden, zombie and reaped are told dead by other means. */
static void without_pidfd(void)
{
	judge_in(no_pidfd);
}

/* With neither, the living are never taken for dead. */
static void with_neither(void)
{
	judge_in(no_pidfd_hidden_proc);
}

static void *outlive_the_leader(void *context)
{
	struct table *table = context;

	usleep(2000); /* the leader ends meanwhile; which of the two comes first does not matter */
	mf_store_release(&table->ready, 1);
	for (;;)
		pause();
	return NULL;
}

static void lead_and_leave(void *context)
{
	struct table *table = context;
	pthread_t thread;

	claim_into(table, &table->child);
	CHECK(pthread_create(&thread, NULL, outlive_the_leader, table) == 0);
	syscall(SYS_exit, 0); /* this thread alone */
}

static void judge_leaderless(void *context)
{
	struct table *table = context;

	test_forbid(SYS_pidfd_open, EPERM);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_ALIVE);
}

/* A process whose first thread ended looks like a zombie, and lives as long as its other threads.
 */
static void a_process_without_its_first_thread_lives(void)
{
	struct table *table = new_table();
	const pid_t child = test_fork(lead_and_leave, table);

	while (mf_load_acquire(&table->ready) == 0)
		usleep(100);
	usleep(2000);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_ALIVE);
	CHECK_EQUAL(mf_process_exists(child), 1);
	test_in_child(judge_leaderless, table);
	end_child(child);
	CHECK_EQUAL(mf_process_life(table->own, table->child), MF_LIFE_DEAD);
}

/* Out of descriptors nobody dies. */
static void without_descriptors(void)
{
	judge_in(no_descriptors);
}

/* A pid that is none is unknown, and unknown counts as alive. */
static void nonsense_pids_exist(void)
{
	CHECK_EQUAL(mf_process_exists(0), 1);
	CHECK_EQUAL(mf_process_exists(-1), 1);
	CHECK_EQUAL(mf_process_exists(INT64_MIN), 1);
	CHECK_EQUAL(mf_process_exists(1), 1);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(self_is_alive),
		TEST(stopped_lives_zombie_and_reaped_are_dead),
		TEST(a_reused_pid_is_another_process),
		TEST(a_name_cannot_pass_for_a_state),
		TEST(other_namespaces_are_unknown),
		TEST(a_full_table_is_unknown),
		TEST(another_pid_namespace_is_unknown),
		TEST(a_foreign_proc_makes_nobody_dead),
		TEST(hidden_processes_live),
		TEST(without_proc),
		TEST(without_pidfd),
		TEST(with_neither),
		TEST(without_descriptors),
		TEST(a_process_without_its_first_thread_lives),
		TEST(nonsense_pids_exist),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
