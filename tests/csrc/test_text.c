/* SPDX-License-Identifier: MIT */
/* test_text.c - texts of the kernel, cut anywhere: what is read lies inside, and says what stands
 * there. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char meminfo[] = "MemTotal:       16318248 kB\n"
			      "MemFree:         1234567 kB\n"
			      "\n"
			      "MemAvailable:    7654321 kB\n"
			      "ShadowCallStack:10373888 kB\n"
			      "Cached:          3000000\n"
			      "Node 3 Shmem:         17 kB\n"
			      "SwapTotal:       2097148 kB\n"
			      "SwapFree:        2097100 kB\n"
			      "SReclaimable:      40000 kB\n"
			      "HugePages_Total:       5\n";

/* A copy that ends where its bytes end: a read behind them is an error under ASan. */
static char *exact(const char *text, size_t size)
{
	char *copy = malloc(size != 0 ? size : 1);

	CHECK(copy != NULL);
	memcpy(copy, text, size);
	return copy;
}

static uint64_t find(const char *text, size_t size, const char *key)
{
	uint64_t value = 0;
	const int status = mf_text_find(text, size, key, strlen(key), &value);

	CHECK(status == 0 || status == -ENOENT);
	return status == 0 ? value : UINT64_MAX - 1;
}

/* Each key once, in order, with or without a blank, a unit, an empty line, a node before it. */
static void lines_are_told_apart(void)
{
	static const struct {
		const char *key;
		uint64_t value;
	} expected[] = {
		{"MemTotal", 16318248ull * 1024},
		{"MemFree", 1234567ull * 1024},
		{"MemAvailable", 7654321ull * 1024},
		{"ShadowCallStack", 10373888ull * 1024},
		{"Cached", 3000000},
		{"Shmem", 17 * 1024},
		{"SwapTotal", 2097148ull * 1024},
		{"SwapFree", 2097100ull * 1024},
		{"SReclaimable", 40000 * 1024},
		{"HugePages_Total", 5},
	};
	const size_t size = sizeof meminfo - 1;
	const char *at = meminfo;
	struct mf_text_field field;

	for (size_t i = 0; i < COUNT_OF(expected); i++) {
		CHECK(mf_text_next(&at, meminfo + size, &field));
		CHECK_EQUAL(field.key_size, strlen(expected[i].key));
		CHECK(memcmp(field.key, expected[i].key, field.key_size) == 0);
		CHECK_EQUAL(field.value, expected[i].value);
		CHECK_EQUAL(find(meminfo, size, expected[i].key), expected[i].value);
	}
	CHECK(!mf_text_next(&at, meminfo + size, &field));
	CHECK(at == meminfo + size);
	CHECK_EQUAL(find(meminfo, size, "Mem"), UINT64_MAX - 1);
	CHECK_EQUAL(find(meminfo, size, ""), UINT64_MAX - 1);
}

/* A text that ends anywhere is read to there, and never says more than it holds. */
static void cut_anywhere(void)
{
	for (size_t size = 0; size < sizeof meminfo; size++) {
		char *copy = exact(meminfo, size);
		const char *at = copy;
		struct mf_text_field field;
		struct mf_meminfo_places places = {0};
		struct mf_meminfo info;
		struct mf_free figures;
		size_t count = 0;

		while (mf_text_next(&at, copy + size, &field)) {
			CHECK(field.key >= copy && field.key + field.key_size <= copy + size);
			count++;
		}
		CHECK(count <= 10);
		find(copy, size, "HugePages_Total");
		find(copy, size, "HugePages_TotalAndMore");
		mf_meminfo_parse(copy, size, 1, &places, &info);
		mf_meminfo_free(&info, &figures);
		CHECK(info.total <= 16318248ull * 1024);
		CHECK(figures.available == info.available || figures.available == info.free);
		free(copy);
	}
}

/* Numbers stop at the largest there is. */
static void numbers_saturate(void)
{
	static const char text[] = "A: 18446744073709551615\nB: 18446744073709551616\n"
				   "C: 18014398509481983 kB\nD: 18014398509481984 kB\n";

	CHECK_EQUAL(find(text, sizeof text - 1, "A"), UINT64_MAX);
	CHECK_EQUAL(find(text, sizeof text - 1, "B"), UINT64_MAX);
	CHECK_EQUAL(find(text, sizeof text - 1, "C"), 18014398509481983ull * 1024);
	CHECK_EQUAL(find(text, sizeof text - 1, "D"), UINT64_MAX);
}

/* The kernel's order is a help, not a need: keys are found in any order, and without their unit. */
static void keys_in_any_order(void)
{
	static const char text[] =
		"Slab: 7\nMemFree: 2 kB\nX: 1 kB\nMemTotal: 9 kB\nBuffers: 3 kB\n"
		"Committed_AS: 4 kB\nMemAvailable: 5 kB\nCached: 6 kB\n";
	struct mf_meminfo_places places = {0};
	struct mf_meminfo info;

	mf_meminfo_parse(text, sizeof text - 1, 1, &places, &info);
	CHECK_EQUAL(info.total, 9 * 1024);
	CHECK_EQUAL(info.free, 2 * 1024);
	CHECK_EQUAL(info.buffers, 3 * 1024);
	CHECK_EQUAL(info.slab, 7 * 1024);
	CHECK_EQUAL(info.committed, 4 * 1024);
	CHECK_EQUAL(info.available, 5 * 1024);
	CHECK_EQUAL(info.cached, 6 * 1024);
	CHECK_EQUAL(info.shmem, 0);
	mf_meminfo_parse(text, sizeof text - 1, 0, &places, &info);
	CHECK_EQUAL(info.cached, 6 * 1024);
	CHECK_EQUAL(info.available, 5 * 1024);
}

/* Places of one text are of use for the next one of its shape, and of no other; never are they
 * trusted. */
static void places_are_looked_at_again(void)
{
	static const char first[] = "MemTotal: 11 kB\nX: 5 kB\nMemFree: 22 kB\nCached: 33 kB\n";
	static const char same[] = "MemTotal: 44 kB\nX: 6 kB\nMemFree: 55 kB\nCached: 66 kB\n";
	static const char other[] = "MemFree: 77 kB\nX: 5 kB\nMemTotal: 88 kB\nCached: 99 kB\n";
	static const char *const texts[] = {first, same, other, first};
	static const uint64_t totals[] = {11, 44, 88, 11}, frees[] = {22, 55, 77, 22};
	struct mf_meminfo_places places = {0};
	struct mf_meminfo info;

	for (size_t i = 0; i < COUNT_OF(texts); i++) {
		const size_t size = strlen(texts[i]);
		char *copy = exact(texts[i], size);

		mf_meminfo_parse(copy, size, 1, &places, &info);
		CHECK_EQUAL(places.count, 3);
		CHECK_EQUAL(info.total, totals[i] * 1024);
		CHECK_EQUAL(info.free, frees[i] * 1024);
		free(copy);
	}
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(lines_are_told_apart),	  TEST(cut_anywhere),
		TEST(numbers_saturate),		  TEST(keys_in_any_order),
		TEST(places_are_looked_at_again),
	};

	return test_main(argc, argv, tests, COUNT_OF(tests));
}
