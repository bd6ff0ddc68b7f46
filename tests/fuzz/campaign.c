/* SPDX-License-Identifier: MIT */
/* campaign.c - random inputs for a fuzz target: campaign SEED COUNT [FIRST], the same for the same
 * seed. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	INPUT_BYTES_MOST = 160,
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* Input `number` of a campaign: told by seed and number alone. */
static void run_input(uint64_t seed, uint64_t number)
{
	uint64_t state = (seed ^ (number + 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
	unsigned char data[INPUT_BYTES_MOST];
	size_t size = (size_t)(next_random(&state) % INPUT_BYTES_MOST);

	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(next_random(&state) >> 32);
	LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
	const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	const uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	volatile uint64_t *number =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 1;

	REQUIRE(number != MAP_FAILED);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	if (fork() == 0) {
		for (*number = first; *number < first + count; ++*number)
			run_input(seed, *number);
		exit(0);
	}
	wait(&status);
	if (status == 0)
		printf("%llu inputs, no crash\n", (unsigned long long)count);
	else
		printf("input %llu ends with wait status %d: again by SEED %llu, COUNT 1, FIRST "
		       "%llu\n",
		       (unsigned long long)*number, status, (unsigned long long)seed,
		       (unsigned long long)*number);
	return status != 0;
}
