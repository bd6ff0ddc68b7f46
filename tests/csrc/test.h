/* SPDX-License-Identifier: MIT */
/* test.h - the harness of the C tests: each test in a process of its own, under a watchdog. */
#ifndef MEMFAST_TEST_H
#define MEMFAST_TEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>

#include "memfast.h"
#include "layout.h"

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(function)	{#function, function}
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Run all tests whose name contains argv[1]; returns the exit status of the program. */
int test_main(int argc, char **argv, const struct test *tests, size_t count);

noreturn void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
noreturn void test_skip(const char *why);

#define CHECK(expression)                                                 \
	do {                                                              \
		if (!(expression))                                        \
			test_fail(__FILE__, __LINE__, "%s", #expression); \
	} while (0)

#define CHECK_EQUAL(actual, expected)                                                            \
	do {                                                                                     \
		const long long actual_value = (long long)(actual);                              \
		const long long expected_value = (long long)(expected);                          \
		if (actual_value != expected_value)                                              \
			test_fail(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #actual, \
				  actual_value, #expected, expected_value);                      \
	} while (0)

/* Run a function in a child and wait for it: its checks are our checks. */
void test_in_child(void (*run)(void *), void *context);
pid_t test_fork(void (*run)(void *), void *context);
void test_reap(pid_t child);
/* A child that does nothing until it is killed. */
pid_t test_idle_child(void);

/* From now on a system call fails with this error in this process, as under a seccomp profile. */
void test_forbid(long call, int error);

/* xorshift64*: small, seeded, the same everywhere. */
uint64_t test_random(uint64_t *state);
uint64_t test_seed(void);

/* Zeroed pages that children share, between two pages that nobody may touch. */
unsigned char *test_pages(size_t size);
void test_pages_free(unsigned char *pages, size_t size);

/* A ring with both ends claimed by this process. */
struct rig {
	unsigned char *memory;
	size_t size;
	uint64_t capacity;
	struct mf_ring_layout *shared;
	struct mf_ring_end sender;
	struct mf_ring_end receiver;
};

void rig_make(struct rig *rig, uint64_t capacity, uint64_t first_count); /* no end claimed */
void rig_open(struct rig *rig, uint64_t capacity, uint64_t first_count);
void rig_close(struct rig *rig);
struct mf_slot *rig_slot(const struct rig *rig, uint64_t count);
unsigned char *rig_arena(const struct rig *rig);

/* Message `number` of this size: its bytes tell number and place. */
void rig_fill(unsigned char *body, size_t size, uint64_t number);
int rig_is(const unsigned char *body, size_t size, uint64_t number);
/* One slice of waiting, for whoever is at the other end now. */
int role_wait(struct mf_ring_end *end, int is_sender, size_t size, uint64_t deadline_ns);
int rig_send(struct rig *rig, size_t size, uint64_t number);
/* Receive and check that it is message `number` of this size. */
void rig_receive(struct rig *rig, size_t size, uint64_t number);

#endif
