/* SPDX-License-Identifier: MIT */
/*
 * floors.c - what the hardware and the kernel allow: measured in the same run
 * as everything else, because virtual machines drift.
 *
 *   floors line N            round trip of one cache line between two cores, ns (median)
 *   floors futex N PAUSE_US  round trip between two sleepers, each woken by futex(2), ns
 *   floors memcpy BYTES N    copy speed of one core, bytes a second
 *   floors sysinfo N         sysinfo(2), ns: the quickest and the median batch of a hundred calls
 *   floors pread FILE N      pread(2) of an open file, likewise
 *   floors read FILE N       open, read(2) to the end, close: one call, likewise
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

static void pin(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int ascending(const void *left, const void *right)
{
	const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void print_median(uint64_t *samples, size_t count)
{
	qsort(samples, count, sizeof *samples, ascending);
	printf("%llu\n", (unsigned long long)samples[count / 2]);
}

static void wait_line(uint32_t *word, uint32_t value, int sleeps)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != value)
		if (sleeps)
			syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void store_line(uint32_t *word, uint32_t value, int sleeps)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	if (sleeps)
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int ping_pong(size_t count, int sleeps, long pause_us)
{
	uint32_t *word =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *samples = calloc(count, sizeof *samples);
	const struct timespec pause = {0, pause_us * 1000};

	if (word == MAP_FAILED || samples == NULL)
		return 1;
	if (fork() == 0) {
		pin(1);
		for (uint32_t i = 0; i < count; i++) {
			wait_line(word, 2 * i + 1, sleeps);
			store_line(word, 2 * i + 2, sleeps);
		}
		_exit(0);
	}
	pin(0);
	for (uint32_t i = 0; i < count; i++) {
		if (pause_us != 0)
			nanosleep(&pause, NULL);
		samples[i] = now_ns();
		store_line(word, 2 * i + 1, sleeps);
		wait_line(word, 2 * i + 2, sleeps);
		samples[i] = now_ns() - samples[i];
	}
	print_median(samples, count);
	return 0;
}

static int copy(size_t bytes, size_t count)
{
	char *from = aligned_alloc(4096, bytes), *to = aligned_alloc(4096, bytes);
	uint64_t begin;

	if (from == NULL || to == NULL)
		return 1;
	pin(0);
	memset(from, 1, bytes);
	memset(to, 2, bytes);
	begin = now_ns();
	for (size_t i = 0; i < count; i++) {
		memcpy(to, from, bytes);
		__asm__ volatile("" ::"r"(to) : "memory");
	}
	printf("%.0f\n", (double)bytes * (double)count * 1e9 / (double)(now_ns() - begin));
	return 0;
}

static char text[1 << 16];

static int read_whole(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t part;

	if (fd < 0)
		return -1;
	do
		part = read(fd, text, sizeof text);
	while (part > 0);
	close(fd);
	return (int)part;
}

/* Batches of calls, each timed as one: the quickest and the median, ns a call. */
static int calls(const char *what, const char *path, size_t count)
{
	const size_t batch = strcmp(what, "read") == 0 ? 1 : 100;
	const int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	uint64_t *samples = calloc(count, sizeof *samples);
	struct sysinfo info;
	int failed = samples == NULL;

	pin(0);
	for (size_t i = 0; i < count && !failed; i++) {
		samples[i] = now_ns();
		for (size_t j = 0; j < batch; j++)
			failed |= *what == 's'	 ? sysinfo(&info) != 0
				  : *what == 'p' ? pread(fd, text, 8192, 0) <= 0
						 : read_whole(path) != 0;
		samples[i] = now_ns() - samples[i];
	}
	if (failed)
		return 1;
	qsort(samples, count, sizeof *samples, ascending);
	printf("%.1f %.1f\n", (double)samples[0] / (double)batch,
	       (double)samples[count / 2] / (double)batch);
	return 0;
}

int main(int count, char **words)
{
	if (count == 3 && strcmp(words[1], "line") == 0)
		return ping_pong(strtoul(words[2], NULL, 10), 0, 0);
	if (count == 4 && strcmp(words[1], "futex") == 0)
		return ping_pong(strtoul(words[2], NULL, 10), 1, strtol(words[3], NULL, 10));
	if (count == 4 && strcmp(words[1], "memcpy") == 0)
		return copy(strtoul(words[2], NULL, 10), strtoul(words[3], NULL, 10));
	if (count == 3 && strcmp(words[1], "sysinfo") == 0)
		return calls(words[1], NULL, strtoul(words[2], NULL, 10));
	if (count == 4 && (strcmp(words[1], "pread") == 0 || strcmp(words[1], "read") == 0))
		return calls(words[1], words[2], strtoul(words[3], NULL, 10));
	fprintf(stderr, "usage: floors line N | futex N PAUSE_US | memcpy BYTES N |"
			" sysinfo N | pread FILE N | read FILE N\n");
	return 2;
}
