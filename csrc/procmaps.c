/* SPDX-License-Identifier: MIT */
/*
 * procmaps.c - the mappings of a process: /proc/PID/maps and /proc/PID/smaps.
 *
 *   55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]
 *   Size:                132 kB
 *   Rss:                  16 kB          and some twenty more lines, in smaps only
 *   VmFlags: rd wr mr mw me ac
 *
 * A mapping's own line begins with a digit of a lower-case hexadecimal number, a
 * figure's with a capital letter; no path and no name can hold a line's end (the
 * kernel writes \012). A line that lacks its end was cut and is not believed, and
 * neither is one of another shape: what follows such a line belongs to nobody.
 * Nothing is read beyond the end that is given, whatever the bytes.
 */
#include "memfast.h"

#include <stdlib.h>
#include <string.h>

/* The kernel pads a figure's key and its number (fs/proc/task_mmu.c); both grow if they must. */
enum {
	PERMS_BYTES = 4, /* "rw-s" */
	LABEL_BYTES = 16,
	VALUE_BYTES = 8,
	UNIT_BYTES = 4, /* " kB\n" */
	FIGURE_BYTES = LABEL_BYTES + VALUE_BYTES + UNIT_BYTES,
};

/* By enum mf_procmaps_figure, which is the kernel's own order. */
static const char LABELS[MF_PROCMAPS_FIGURES][LABEL_BYTES + 1] = {
	"Size:           ", "KernelPageSize: ", "MMUPageSize:    ", "Rss:            ",
	"Pss:            ", "Pss_Dirty:      ", "Shared_Clean:   ", "Shared_Dirty:   ",
	"Private_Clean:  ", "Private_Dirty:  ", "Referenced:     ", "Anonymous:      ",
	"KSM:            ", "LazyFree:       ", "AnonHugePages:  ", "ShmemPmdMapped: ",
	"FilePmdMapped:  ", "Shared_Hugetlb: ", "Private_Hugetlb:", "Swap:           ",
	"SwapPss:        ", "Locked:         ", "THPeligible:    ",
};

/* ---- a mapping's own line: "start-end perms offset major:minor inode   path" ---- */

/* A digit's value and 1; 0 for any other byte. A branch on digit or letter would be a guess. */
static const unsigned char DIGITS[256] = {
	['0'] = 1,  ['1'] = 2,	['2'] = 3,  ['3'] = 4,	['4'] = 5,  ['5'] = 6,
	['6'] = 7,  ['7'] = 8,	['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
	['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* A hexadecimal number of 64 bits and the one character behind it; NULL if they are not there. */
static const char *take_hex(const char *at, const char *end, char behind, uint64_t *number_ret)
{
	const char *const from = at;
	uint64_t number = 0;

	for (unsigned digit; at < end && (digit = DIGITS[(unsigned char)*at]) != 0; at++) {
		if (number >> 60 != 0)
			return NULL;
		number = number << 4 | (digit - 1);
	}
	*number_ret = number;
	return at == from || at == end || *at != behind ? NULL : at + 1;
}

/* Take the line [at, end), which is without its newline; 1 if it is a mapping's. */
static int take_vma(const char *at, const char *end, struct mf_procmaps_vma *vma)
{
	uint64_t major, minor;

	at = take_hex(at, end, '-', &vma->start);
	at = at == NULL ? NULL : take_hex(at, end, ' ', &vma->end);
	if (at == NULL || end - at <= PERMS_BYTES || at[PERMS_BYTES] != ' ')
		return 0;
	vma->perms = at;
	at = take_hex(at + PERMS_BYTES + 1, end, ' ', &vma->offset);
	vma->device = at;
	at = at == NULL ? NULL : take_hex(at, end, ':', &major);
	at = at == NULL ? NULL : take_hex(at, end, ' ', &minor);
	if (at == NULL)
		return 0;
	vma->device_size = (size_t)(at - 1 - vma->device);
	at = mf_text_number(at, end, &vma->inode);
	if (at == NULL || (at < end && *at != ' '))
		return 0;
	while (at < end && *at == ' ') /* to column 73; a path begins with something else */
		at++;
	vma->path = at;
	vma->path_size = (size_t)(end - at);
	return 1;
}

/* The end of the line at `at`, or NULL: it was cut. */
static const char *line_end(const char *at, const char *end)
{
	return at == end ? NULL : memchr(at, '\n', (size_t)(end - at));
}

/*
 * The next mapping's own line from *at on, which moves behind it; 0 if there is
 * none before `end`. All other lines are passed over.
 */
int mf_procmaps_next(const char **at, const char *end, struct mf_procmaps_vma *vma_ret)
{
	const char *stop;

	while ((stop = line_end(*at, end)) != NULL) {
		const char *const line = *at;

		*at = stop + 1;
		if (take_vma(line, stop, vma_ret))
			return 1;
	}
	return 0;
}

/* ---- the figures below it ---- */

/* The eight bytes of a number that the kernel padded with blanks; 0 if they are anything else. */
static int take_padded(const char *at, uint64_t *number_ret)
{
	uint64_t number = 0;
	int i = 0;

	while (i < VALUE_BYTES - 1 && at[i] == ' ')
		i++;
	for (; i < VALUE_BYTES; i++) {
		const unsigned digit = (unsigned)(at[i] - '0');

		if (digit > 9)
			return 0;
		number = number * 10 + digit;
	}
	*number_ret = number;
	return 1;
}

/* What follows the line at `at` if it is this figure's and padded as usual; else NULL. */
static const char *take_usual(const char *at, const char *end, int figure, uint64_t *number_ret)
{
	if (end - at < FIGURE_BYTES || memcmp(at, LABELS[figure], LABEL_BYTES) != 0 ||
	    !take_padded(at + LABEL_BYTES, number_ret))
		return NULL;
	at += LABEL_BYTES + VALUE_BYTES;
	if (memcmp(at, " kB\n", UNIT_BYTES) == 0) {
		*number_ret *= 1024;
		return at + UNIT_BYTES;
	}
	return *at == '\n' ? at + 1 : NULL;
}

/* Take "Key:   value" of any width; 0 if the line [at, end) is of another shape. */
static int take_key(const char *at, const char *end, struct mf_procmaps_other *other)
{
	const char *colon = at, *rest;

	while (colon < end && *colon != ':' && *colon != ' ')
		colon++;
	if (colon == end || *colon != ':' || *at < 'A' || *at > 'Z')
		return 0;
	other->key = at;
	other->key_size = (size_t)(colon - at);
	for (at = colon + 1; at < end && (*at == ' ' || *at == '\t');)
		at++;
	while (end > at && end[-1] == ' ')
		end--;
	other->text = at;
	other->text_size = (size_t)(end - at);
	rest = mf_text_number(at, end, &other->number);
	other->has_number = rest == end;
	if (rest != NULL && end - rest == 3 && memcmp(rest, " kB", 3) == 0) {
		other->has_number = 1;
		other->number = mf_text_kib(other->number);
	}
	return 1;
}

static int is_flags(const struct mf_procmaps_other *line)
{
	return line->key_size == 7 && memcmp(line->key, "VmFlags", 7) == 0;
}

/* Which figure the line is; -1: none that is known. */
static int figure_of(const struct mf_procmaps_other *line)
{
	const size_t size = line->key_size;

	for (int figure = 0; line->has_number && figure < MF_PROCMAPS_FIGURES; figure++)
		if (size < LABEL_BYTES && LABELS[figure][size] == ':' &&
		    memcmp(LABELS[figure], line->key, size) == 0)
			return figure;
	return -1;
}

/*
 * The figures of the mapping whose own line ends at *at, which moves behind
 * them. What the kernel does not say is 0. Lines that are not known are counted,
 * and mf_procmaps_other() finds them in smap_ret->lines.
 */
void mf_procmaps_figures(const char **at, const char *end, struct mf_procmaps_smap *smap_ret)
{
	const char *stop;
	int next = 0;

	memset(smap_ret, 0, sizeof *smap_ret);
	smap_ret->lines = smap_ret->flags = *at;
	while (*at < end) {
		struct mf_procmaps_other line;
		uint64_t number;
		int figure;

		if (next < MF_PROCMAPS_FIGURES &&
		    (stop = take_usual(*at, end, next, &number)) != NULL) {
			smap_ret->figures[next++] = number;
			*at = stop;
			continue;
		}
		stop = line_end(*at, end);
		if (stop == NULL)
			break;
		if (stop == *at) { /* an empty line */
			*at = stop + 1;
			continue;
		}
		if (!take_key(*at, stop, &line))
			break;
		*at = stop + 1;
		figure = figure_of(&line);
		if (figure >= 0) {
			smap_ret->figures[figure] = line.number;
			next = figure + 1;
		} else if (is_flags(&line)) {
			smap_ret->flags = line.text;
			smap_ret->flags_size = line.text_size;
		} else {
			smap_ret->others++;
		}
	}
	smap_ret->lines_size = (size_t)(*at - smap_ret->lines);
}

/* The next line from *at on, which moves behind it, whose key is not known; 0 if there is none. */
int mf_procmaps_other(const char **at, const char *end, struct mf_procmaps_other *other_ret)
{
	const char *stop;

	while ((stop = line_end(*at, end)) != NULL) {
		const char *const line = *at;

		*at = stop + 1;
		if (take_key(line, stop, other_ret) && figure_of(other_ret) < 0 &&
		    !is_flags(other_ret))
			return 1;
	}
	return 0;
}

/* ---- the files ---- */

/*
 * The text of the process's maps, or smaps (0: this process), for
 * mf_procmaps_free(). Blocks as long as the kernel writes, which for smaps
 * means to look at every page of the process.
 */
int mf_procmaps_read(int64_t pid, int with_figures, char **text_ret, size_t *size_ret)
{
	return mf_procdir_mappings(pid, with_figures ? "smaps" : "maps", text_ret, size_ret);
}

void mf_procmaps_free(char *text)
{
	free(text);
}
