/* SPDX-License-Identifier: MIT */
/* test.c - see test.h. */
#define _GNU_SOURCE
#include "test.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SKIPPED = 77,
	WATCHDOG_SECONDS = 60,
	GUARD_BYTES = 4096,
};

noreturn void test_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	printf("  %s:%d: ", file, line);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	exit(1);
}

noreturn void test_skip(const char *why)
{
	printf("  %s\n", why);
	exit(SKIPPED);
}

/* A crash, a sanitizer's report and a hang are failures like any other. */
static int run_one(const struct test *test)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(WATCHDOG_SECONDS);
		test->run();
		exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("fork");
		return 1;
	}
	if (WIFSIGNALED(status))
		printf("  %s\n",
		       WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int test_main(int argc, char **argv, const struct test *tests, size_t count)
{
	int failed = 0, found = 0;

	for (size_t i = 0; i < count; i++) {
		int status;

		if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
			continue;
		found++;
		status = run_one(&tests[i]);
		printf("%s %s\n",
		       status == 0	   ? "passed"
		       : status == SKIPPED ? "skipped"
					   : "FAILED",
		       tests[i].name);
		failed += status != 0 && status != SKIPPED;
	}
	return failed != 0 || found == 0;
}

pid_t test_fork(void (*run)(void *), void *context)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(context);
		exit(0);
	}
	return child;
}

void test_reap(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		exit(SKIPPED);
	CHECK_EQUAL(status, 0);
}

void test_in_child(void (*run)(void *), void *context)
{
	test_reap(test_fork(run, context));
}

static void idle(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

pid_t test_idle_child(void)
{
	return test_fork(idle, NULL);
}

void test_forbid(long call, int error)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {COUNT_OF(program), program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		test_skip("this kernel has no seccomp filters");
}

uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* From MF_SEED, or new; printed, so that a failure can be had again. */
uint64_t test_seed(void)
{
	const char *text = getenv("MF_SEED");
	uint64_t seed = 0;

	if (text != NULL)
		seed = strtoull(text, NULL, 0);
	else
		CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
	printf("  MF_SEED=%llu\n", (unsigned long long)(seed | 1));
	return seed | 1;
}

unsigned char *test_pages(size_t size)
{
	unsigned char *all =
		mmap(NULL, size + 2 * GUARD_BYTES, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(all != MAP_FAILED);
	CHECK(mprotect(all + GUARD_BYTES, size, PROT_READ | PROT_WRITE) == 0);
	return all + GUARD_BYTES;
}

void test_pages_free(unsigned char *pages, size_t size)
{
	CHECK(munmap(pages - GUARD_BYTES, size + 2 * GUARD_BYTES) == 0);
}

void rig_make(struct rig *rig, uint64_t capacity, uint64_t first_count)
{
	memset(rig, 0, sizeof *rig);
	rig->size = (size_t)mf_ring_size(capacity);
	rig->memory = test_pages(rig->size);
	rig->capacity = capacity;
	rig->shared = (struct mf_ring_layout *)(void *)rig->memory;
	CHECK_EQUAL(mf_ring_format(rig->memory, rig->size, capacity, first_count), 0);
}

void rig_open(struct rig *rig, uint64_t capacity, uint64_t first_count)
{
	int owner;

	rig_make(rig, capacity, first_count);
	CHECK_EQUAL(mf_role_claim_sender(rig->memory, rig->size, 0, &rig->sender, &owner), 0);
	CHECK_EQUAL(mf_role_claim_receiver(rig->memory, rig->size, 0, &rig->receiver, &owner), 0);
}

void rig_close(struct rig *rig)
{
	test_pages_free(rig->memory, rig->size);
}

struct mf_slot *rig_slot(const struct rig *rig, uint64_t count)
{
	struct mf_slot *slots = (struct mf_slot *)(void *)(rig->memory + sizeof *rig->shared);

	return slots + count % (rig->capacity / sizeof *slots);
}

unsigned char *rig_arena(const struct rig *rig)
{
	return rig->memory + sizeof *rig->shared + rig->capacity;
}

static unsigned char byte_of(uint64_t number, size_t place)
{
	return (unsigned char)(number * 131 + place * 7 + (place >> 8) * 13 + 1);
}

void rig_fill(unsigned char *body, size_t size, uint64_t number)
{
	for (size_t place = 0; place < size; place++)
		body[place] = byte_of(number, place);
}

int rig_is(const unsigned char *body, size_t size, uint64_t number)
{
	for (size_t place = 0; place < size; place++)
		if (body[place] != byte_of(number, place))
			return 0;
	return 1;
}

int rig_send(struct rig *rig, size_t size, uint64_t number)
{
	unsigned char *body = malloc(size + 1);
	int status;

	CHECK(body != NULL);
	rig_fill(body, size, number);
	status = mf_sender_send(&rig->sender, body, size);
	free(body);
	return status;
}

void rig_receive(struct rig *rig, size_t size, uint64_t number)
{
	const void *body;
	unsigned char *copy;
	size_t found;

	CHECK_EQUAL(mf_receiver_peek(&rig->receiver, &body, &found), 0);
	CHECK_EQUAL(found, size);
	copy = malloc(size + 1);
	CHECK(copy != NULL);
	mf_receiver_take(&rig->receiver, copy, body, size);
	CHECK(rig_is(copy, size, number));
	free(copy);
}

int role_wait(struct mf_ring_end *end, int is_sender, size_t size, uint64_t deadline_ns)
{
	return mf_role_wait(end, is_sender, size, mf_role_peer_claim(end, is_sender), deadline_ns);
}
