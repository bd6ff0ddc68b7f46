/* SPDX-License-Identifier: MIT */
/*
 * text_fuzz.c - texts of the kernel, damaged in any way, through every parser.
 *
 * The input chooses a true text and damages it: bytes changed, taken out, put
 * in, the end cut off. The copy that is parsed ends where its memory ends, so
 * that ASan sees one step beyond. What is checked besides: what a parser says
 * is there lies inside the text, and it comes to an end.
 */
#include "fuzz.h"

#include <string.h>

enum {
	TEXT_BYTES_MOST = 4096,
	PATCH_BYTES_MOST = 9,
};

static const char *const texts[] = {
	"MemTotal:       16318248 kB\nMemFree:         1234567 kB\nMemAvailable:    7654321 kB\n"
	"Buffers:           12345 kB\nCached:          3000000 kB\nActive(anon):       4321 kB\n"
	"ShadowCallStack:10373888 kB\nSwapTotal:       2097148 kB\nSwapFree:        2097100 kB\n"
	"Shmem:             17000 kB\nSReclaimable:      40000 kB\nHugePages_Total:       5\n",

	"Node 0 MemTotal:       16318248 kB\nNode 0 MemFree:         1234567 kB\n",

	"pgfault 1234567890\npgmajfault 12\npswpin 0\nnr_free_pages 98765\n",

	"55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]\n"
	"7f0000000000-7f0000001000 r-xp 00012000 fd:01 1234567                    /a b\\012c "
	"(deleted)\n"
	"7f0000002000-7f0000003000 ---p 00000000 00:00 0 \n"
	"7ffe00000000-7ffe00021000 rw-s 00000000 00:00 0                          [anon:x: 1 kB]\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n",

	"55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]\n"
	"Size:                132 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
	"Rss:                  16 kB\nPss:                  12 kB\nPss_Dirty:            12 kB\n"
	"Shared_Clean:          0 kB\nPrivate_Dirty:        12 kB\nNewFigure:             3 kB\n"
	"Odd:               words\nTHPeligible:           1\nProtectionKey:         0\n"
	"VmFlags: rd wr mr mw me ac sd \n"
	"7f0000000000-7f0000001000 r-xp 00012000 fd:01 1234567                    /lib/x.so\n"
	"Size:                  4 kB\nRss:                   4 kB\nVmFlags: rd ex mr mw me\n",

	"Name:\tcat (x) \\n\nUmask:\t0022\nVmPeak:\t   10240 kB\nVmHWM:\t    5120 kB\n"
	"VmRSS:\t    5000 kB\nRssAnon:\t     100 kB\nRssFile:\t    4900 kB\nVmSwap:\t       7 kB\n"
	"VmPTE:\t      44 kB\nHugetlbPages:\t       0 kB\nThreads:\t1\n",

	"5583 1234 900 12 0 345 0\n",

	"123 (a ) (b) S 1 1 1 0 -1 4194560 1234 5678 12 34 56 78\n",
};

/* The text as the input has left it, in memory of its very size. */
static char *damaged(struct input *input, size_t *size_ret)
{
	static const char alphabet[] = "0123456789abcdefkB: \n\t()-/[]\\MSVNR";
	static char text[TEXT_BYTES_MOST];
	const char *from = texts[take_byte(input) % (sizeof texts / sizeof *texts)];
	size_t size = strlen(from);
	char *copy;

	memcpy(text, from, size);
	while (input->left != 0) {
		const unsigned what = take_byte(input);
		const size_t place =
			size == 0 ? 0 : (take_byte(input) << 8 | take_byte(input)) % size;
		const size_t count = 1 + take_byte(input) % PATCH_BYTES_MOST;

		if (what % 8 == 0) { /* the end cut off */
			size = place;
		} else if (what % 8 <= 2) { /* bytes taken out */
			const size_t gone = count < size - place ? count : size - place;

			memmove(text + place, text + place + gone, size - place - gone);
			size -= gone;
		} else if (what % 8 <= 4 && size + count < sizeof text) { /* bytes put in */
			memmove(text + place + count, text + place, size - place);
			size += count;
		}
		if (what % 8 <= 2)
			continue;
		for (size_t i = place; i < place + count && i < size; i++)
			text[i] = what >= 192 ? (char)take_byte(input)
					      : alphabet[take_byte(input) % (sizeof alphabet - 1)];
	}
	copy = malloc(size != 0 ? size : 1);
	REQUIRE(copy != NULL);
	memcpy(copy, text, size);
	*size_ret = size;
	return copy;
}

static void require_inside(const char *text, size_t size, const char *part, size_t part_size)
{
	if (part_size != 0)
		REQUIRE(part >= text && part <= text + size &&
			part_size <= (size_t)(text + size - part));
}

static void fields(const char *text, size_t size)
{
	const char *at = text, *before = text;
	struct mf_text_field field;
	uint64_t value;

	while (mf_text_next(&at, text + size, &field)) {
		REQUIRE(at > before && at <= text + size && field.key_size != 0);
		require_inside(text, size, field.key, field.key_size);
		/* The first of its name, which need not be this one. */
		REQUIRE(mf_text_find(text, size, field.key, field.key_size, &value) == 0);
		before = at;
	}
	REQUIRE(at == text + size);
}

static void meminfo(const char *text, size_t size)
{
	static struct mf_meminfo_places
		places; /* of the last text: they may be wrong for this one */
	struct mf_meminfo_places none = {0};
	struct mf_meminfo info, again;
	struct mf_free figures;

	mf_meminfo_parse(text, size, 1, &none, &info);
	mf_meminfo_parse(text, size, 1, &none, &again);
	REQUIRE(memcmp(&info, &again, sizeof info) == 0);
	mf_meminfo_parse(text, size, 1, &places, &again);
	mf_meminfo_free(&info, &figures);
	REQUIRE(figures.available <= figures.total || figures.available == figures.free);
}

static void mappings(const char *text, size_t size)
{
	const char *const end = text + size;
	const char *at = text, *before = text;
	struct mf_procmaps_vma vma;
	struct mf_procmaps_smap smap;
	struct mf_procmaps_other other;

	while (mf_procmaps_next(&at, end, &vma)) {
		const char *line;

		REQUIRE(at > before && at <= end);
		before = at;
		require_inside(text, size, vma.perms, 4);
		require_inside(text, size, vma.device, vma.device_size);
		require_inside(text, size, vma.path, vma.path_size);
		mf_procmaps_figures(&at, end, &smap);
		REQUIRE(at >= before && at <= end);
		require_inside(text, size, smap.flags, smap.flags_size);
		require_inside(text, size, smap.lines, smap.lines_size);
		line = smap.lines;
		while (smap.others != 0 &&
		       mf_procmaps_other(&line, smap.lines + smap.lines_size, &other)) {
			require_inside(smap.lines, smap.lines_size, other.key, other.key_size);
			require_inside(smap.lines, smap.lines_size, other.text, other.text_size);
		}
	}
}

static void process(const char *text, size_t size)
{
	struct mf_procmem figures = {0};
	struct mf_procmem_exact exact = {0};
	uint64_t minor, major;

	mf_procmem_parse_statm(text, size, 4096, &figures);
	mf_procmem_parse_status(text, size, &figures);
	mf_procmem_parse_exact(text, size, &exact);
	mf_procmem_parse_faults(text, size, &minor, &major);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct input input = {data, size};
	size_t text_size;
	char *text = damaged(&input, &text_size);

	fields(text, text_size);
	meminfo(text, text_size);
	mappings(text, text_size);
	process(text, text_size);
	free(text);
	return 0;
}
