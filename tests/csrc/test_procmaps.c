/* SPDX-License-Identifier: MIT */
/* test_procmaps.c - the texts of a process's memory: cut anywhere, and of any bytes. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 8,
	PAGE_BYTES = 4096,
	MUTATIONS = 20000,
};

static const char SMAPS[] =
	"55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]\n"
	"Size:                132 kB\n"
	"KernelPageSize:        4 kB\n"
	"Rss:                  16 kB\n"
	"Pss:           123456789 kB\n"
	"Private_Dirty:        16 kB\n"
	"NewFigure:            12 kB\n"
	"THPeligible:           1\n"
	"VmFlags: rd wr mr mw me ac \n"
	"7f0000000000-7f0000001000 r-xp 0000a000 fd:01 18446744073709551615       /a b (deleted)\n"
	"Size:                  4 kB\n"
	"Swap:                  8 kB\n"
	"ProtectionKey:         0\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [anon:a: b]\n"
	"Size:                  4 kB\n";

static const char STATUS[] = "Name:\tVmRSS: 1 kB\nGroups:\t1 2 3\nVmPeak:\t    3060 kB\n"
			     "VmSize:\t    3000 kB\nVmHWM:\t    1736 kB\nVmRSS:\t    1700 kB\n"
			     "RssAnon:\t     112 kB\nVmSwap:\t123456789 kB\nThreads:\t1\n";

/* What the parsers make of a text. */
struct reading {
	size_t rows;
	struct mf_procmaps_vma vmas[ROWS_MAX];
	struct mf_procmaps_smap smaps[ROWS_MAX];
	size_t others;
};

static void check_span(const char *text, size_t size, const char *span, size_t span_size)
{
	CHECK(span >= text && span_size <= size && span + span_size <= text + size);
}

static void read_all(const char *text, size_t size, struct reading *reading)
{
	const char *at = text;
	struct mf_procmaps_vma vma;
	struct mf_procmaps_smap smap;
	struct mf_procmaps_other other;

	memset(reading, 0, sizeof *reading);
	while (mf_procmaps_next(&at, text + size, &vma)) {
		const char *lines;

		mf_procmaps_figures(&at, text + size, &smap);
		check_span(text, size, vma.perms, 4);
		check_span(text, size, vma.device, vma.device_size);
		check_span(text, size, vma.path, vma.path_size);
		check_span(text, size, smap.flags, smap.flags_size);
		check_span(text, size, smap.lines, smap.lines_size);
		lines = smap.lines;
		for (size_t i = 0; i < smap.others; i++) {
			CHECK(mf_procmaps_other(&lines, smap.lines + smap.lines_size, &other));
			check_span(text, size, other.key, other.key_size);
			check_span(text, size, other.text, other.text_size);
		}
		CHECK(!mf_procmaps_other(&lines, smap.lines + smap.lines_size, &other));
		reading->others += smap.others;
		if (reading->rows < ROWS_MAX) {
			reading->vmas[reading->rows] = vma;
			reading->smaps[reading->rows] = smap;
		}
		reading->rows++;
	}
}

/* The text with its end against a page that nobody may touch. */
static char *against_the_end(unsigned char *pages, size_t pages_size, const char *text, size_t size)
{
	CHECK(size <= pages_size);
	return memcpy(pages + pages_size - size, text, size);
}

static void a_whole_text_is_read_whole(void)
{
	struct reading reading;

	read_all(SMAPS, sizeof SMAPS - 1, &reading);
	CHECK_EQUAL(reading.rows, 3);
	CHECK_EQUAL(reading.others, 2);
	CHECK_EQUAL(reading.vmas[0].start, 0x55d0c8a00000);
	CHECK_EQUAL(reading.smaps[0].figures[MF_PROCMAPS_PSS], 123456789LL * 1024);
	CHECK_EQUAL(reading.smaps[0].figures[MF_PROCMAPS_THP_ELIGIBLE], 1);
	CHECK_EQUAL(reading.smaps[0].flags_size, strlen("rd wr mr mw me ac"));
	CHECK_EQUAL(reading.vmas[1].offset, 0xa000);
	CHECK(reading.vmas[1].inode == UINT64_MAX);
	CHECK_EQUAL(reading.smaps[1].figures[MF_PROCMAPS_SWAP], 8 * 1024);
	CHECK(memcmp(reading.vmas[1].path, "/a b (deleted)", reading.vmas[1].path_size) == 0);
	CHECK(memcmp(reading.vmas[2].path, "[anon:a: b]", reading.vmas[2].path_size) == 0);
}

static void a_cut_text_says_less_and_never_anything_else(void)
{
	unsigned char *pages = test_pages(PAGE_BYTES);
	struct reading whole, cut;

	read_all(SMAPS, sizeof SMAPS - 1, &whole);
	for (size_t size = 0; size < sizeof SMAPS; size++) {
		read_all(against_the_end(pages, PAGE_BYTES, SMAPS, size), size, &cut);
		CHECK(cut.rows <= whole.rows && cut.others <= whole.others);
		for (size_t i = 0; i < cut.rows; i++) {
			CHECK(cut.vmas[i].start == whole.vmas[i].start);
			CHECK(cut.vmas[i].inode == whole.vmas[i].inode);
			CHECK(cut.vmas[i].path_size == whole.vmas[i].path_size);
			for (int f = 0; f < MF_PROCMAPS_FIGURES; f++)
				CHECK(cut.smaps[i].figures[f] == 0 ||
				      cut.smaps[i].figures[f] == whole.smaps[i].figures[f]);
		}
	}
	test_pages_free(pages, PAGE_BYTES);
}

static void any_bytes_are_read_within_their_bounds(void)
{
	static const char ALPHABET[] = "\n\n::  --kB09afVRS[]/\t";
	unsigned char *pages = test_pages(PAGE_BYTES);
	uint64_t state = test_seed();
	struct reading reading;

	for (int i = 0; i < MUTATIONS; i++) {
		const size_t size = 1 + test_random(&state) % (sizeof SMAPS - 1);
		char *text = against_the_end(pages, PAGE_BYTES, SMAPS, size);

		for (uint64_t j = test_random(&state) % 8; j > 0; j--) {
			const uint64_t random = test_random(&state);

			text[random % size] = (random & 1 << 20) != 0
						      ? ALPHABET[(random >> 32) % sizeof ALPHABET]
						      : (char)(random >> 40);
		}
		read_all(text, size, &reading);
	}
	test_pages_free(pages, PAGE_BYTES);
}

static void a_number_too_large_for_64_bits_is_none(void)
{
	static const char TEXT[] = "10000000000000000-20000000000000000 r--p 0 00:00 0 /x\n"
				   "1000-2000 r--p 0 00:00 99999999999999999999999 /y\n";
	struct reading reading;

	read_all(TEXT, sizeof TEXT - 1, &reading);
	CHECK_EQUAL(reading.rows, 1);
	CHECK(reading.vmas[0].inode == UINT64_MAX);
}

static void a_cut_statm_is_refused(void)
{
	static const char STATM[] = "765 434 406 5 0 90 0\n";
	unsigned char *pages = test_pages(PAGE_BYTES);
	struct mf_procmem found;

	CHECK_EQUAL(mf_procmem_parse_statm(STATM, sizeof STATM - 1, 16384, &found), 0);
	CHECK_EQUAL(found.vms, 765 * 16384);
	CHECK_EQUAL(found.rss, 434 * 16384);
	CHECK_EQUAL(found.shared, 406 * 16384);
	CHECK_EQUAL(found.text, 5 * 16384);
	CHECK_EQUAL(found.data, 90 * 16384);
	for (size_t size = 0; size < sizeof STATM; size++) {
		const char *text = against_the_end(pages, PAGE_BYTES, STATM, size);
		const int status = mf_procmem_parse_statm(text, size, 16384, &found);

		CHECK_EQUAL(status, size < strlen("765 434 406 5 0 90 ") ? -EPROTO : 0);
		CHECK(status != 0 || found.data == 90 * 16384);
	}
	CHECK_EQUAL(mf_procmem_parse_statm("1 2 x 4 5 6 7\n", 14, 4096, &found), -EPROTO);
	test_pages_free(pages, PAGE_BYTES);
}

static int is_or_none(uint64_t value, uint64_t whole)
{
	return value == 0 || value == whole;
}

static void a_cut_status_says_less_and_never_anything_else(void)
{
	unsigned char *pages = test_pages(PAGE_BYTES);
	struct mf_procmem whole = {0};

	mf_procmem_parse_status(STATUS, sizeof STATUS - 1, &whole);
	CHECK_EQUAL(whole.rss, 1700 * 1024);
	CHECK_EQUAL(whole.swap, 123456789LL * 1024);
	for (size_t size = 0; size < sizeof STATUS; size++) {
		struct mf_procmem cut = {0};

		mf_procmem_parse_status(against_the_end(pages, PAGE_BYTES, STATUS, size), size,
					&cut);
		CHECK(is_or_none(cut.rss, whole.rss) && is_or_none(cut.swap, whole.swap));
		CHECK(is_or_none(cut.peak_vms, whole.peak_vms) && is_or_none(cut.anon, whole.anon));
	}
	test_pages_free(pages, PAGE_BYTES);
}

static void the_exact_figures_are_sums_over_whole_lines(void)
{
	unsigned char *pages = test_pages(PAGE_BYTES);
	struct mf_procmem_exact whole, cut;

	mf_procmem_parse_exact(SMAPS, sizeof SMAPS - 1, &whole);
	CHECK_EQUAL(whole.uss, 16 * 1024);
	CHECK_EQUAL(whole.swap, 8 * 1024);
	for (size_t size = 0; size < sizeof SMAPS; size++) {
		mf_procmem_parse_exact(against_the_end(pages, PAGE_BYTES, SMAPS, size), size, &cut);
		CHECK(is_or_none(cut.pss, whole.pss) && is_or_none(cut.uss, whole.uss));
	}
	test_pages_free(pages, PAGE_BYTES);
}

static void a_cut_stat_is_refused(void)
{
	static const char STAT[] =
		"7 (a) R 1 1 (b) 9) S 1 1 1 0 -1 4194304 176 18446744073709551615 3 9 0\n";
	unsigned char *pages = test_pages(PAGE_BYTES);
	uint64_t minor, major;

	CHECK_EQUAL(mf_procmem_parse_faults(STAT, sizeof STAT - 1, &minor, &major), 0);
	CHECK_EQUAL(minor, 176);
	CHECK_EQUAL(major, 3);
	for (size_t size = 0; size < sizeof STAT; size++) {
		const char *text = against_the_end(pages, PAGE_BYTES, STAT, size);

		if (mf_procmem_parse_faults(text, size, &minor, &major) == 0)
			CHECK(minor == 176 && major == 3);
		else
			CHECK(size <= strlen(STAT) - strlen(" 9 0\n"));
	}
	test_pages_free(pages, PAGE_BYTES);
}

static const struct test TESTS[] = {
	TEST(a_whole_text_is_read_whole),
	TEST(a_cut_text_says_less_and_never_anything_else),
	TEST(any_bytes_are_read_within_their_bounds),
	TEST(a_number_too_large_for_64_bits_is_none),
	TEST(a_cut_statm_is_refused),
	TEST(a_cut_status_says_less_and_never_anything_else),
	TEST(the_exact_figures_are_sums_over_whole_lines),
	TEST(a_cut_stat_is_refused),
};

int main(int argc, char **argv)
{
	return test_main(argc, argv, TESTS, COUNT_OF(TESTS));
}
