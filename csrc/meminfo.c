/* SPDX-License-Identifier: MIT */
/*
 * meminfo.c - what free(1) and psutil make of /proc/meminfo.
 *
 * The keys come in the order in which the kernel writes them, so each is looked
 * for where the last one was found; keys that nobody asked for are passed over.
 */
#include "memfast.h"

#include <stddef.h>
#include <string.h>

#define KEY(name, member) {name ":", sizeof(name), offsetof(struct mf_meminfo, member)}

/* In the kernel's order (fs/proc/meminfo.c). Low and High exist on 32-bit kernels only. */
static const struct {
	const char *name;
	size_t size, offset;
} keys[] = {
	KEY("MemTotal", total),
	KEY("MemFree", free),
	KEY("MemAvailable", available),
	KEY("Buffers", buffers),
	KEY("Cached", cached),
	KEY("Active", active),
	KEY("Inactive", inactive),
	KEY("HighTotal", high_total),
	KEY("HighFree", high_free),
	KEY("LowTotal", low_total),
	KEY("LowFree", low_free),
	KEY("SwapTotal", swap_total),
	KEY("SwapFree", swap_free),
	KEY("Shmem", shmem),
	KEY("Slab", slab),
	KEY("SReclaimable", reclaimable),
	KEY("CommitLimit", commit_limit),
	KEY("Committed_AS", committed),
};

enum {
	KEY_COUNT = sizeof keys / sizeof *keys,
	KEYS_OF_32_BIT = 4,
	KEYS_OF_COMMIT = 2, /* the last */
};

/* Which of the keys a line begins with, trying the one that is due first; KEY_COUNT if none. */
static size_t key_of(const char *line, size_t size, size_t due)
{
	for (size_t tried = 0, key = due; tried < KEY_COUNT; tried++, key++) {
		if (key >= KEY_COUNT)
			key = 0;
		if (keys[key].name[0] == line[0] && keys[key].size <= size &&
		    memcmp(keys[key].name, line, keys[key].size) == 0)
			return key;
	}
	return KEY_COUNT;
}

/*
 * Fill the struct; a key that is missing counts as 0. These are KiB, even where
 * "kB" is missing. Lines of other keys cost a look at their first letter and
 * the way to the next line; behind the last of ours nothing is read. Without
 * `with_commit` that is SReclaimable.
 */
void mf_meminfo_parse(const char *text, size_t size, int with_commit, struct mf_meminfo *ret)
{
	const size_t wanted = KEY_COUNT - (with_commit ? 0 : KEYS_OF_COMMIT);
	const char *const end = text + size;
	size_t due = 0, found = 0;

	memset(ret, 0, sizeof *ret);
	while (text < end && (due < wanted || found < wanted - KEYS_OF_32_BIT)) {
		const size_t key = key_of(text, (size_t)(end - text), due);
		const char *stop = text;
		uint64_t number;

		if (key < KEY_COUNT) {
			stop += keys[key].size;
			while (stop < end && *stop == ' ')
				stop++;
			if (mf_text_number(stop, end, &number) != NULL) {
				number = mf_text_kib(number);
				memcpy((char *)ret + keys[key].offset, &number, sizeof number);
				due = key + 1;
				found++;
			}
		}
		stop = memchr(stop, '\n', (size_t)(end - stop));
		text = stop == NULL ? end : stop + 1;
	}
}

static uint64_t used_of(uint64_t total, uint64_t free)
{
	return free < total ? total - free : 0;
}

/*
 * As free(1) of procps 4.0.1 and later. What is available is never more than
 * there is: lxcfs has claimed so, and free is taken then. `used` can be
 * negative where the kernel's figures contradict each other; free(1) prints that.
 */
void mf_meminfo_free(const struct mf_meminfo *info, struct mf_free *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->total = info->total;
	ret->free = info->free;
	ret->shared = info->shmem;
	ret->buffers = info->buffers;
	ret->cache = info->cached + info->reclaimable;
	ret->available = info->available == 0 || info->available > info->total ? info->free
									       : info->available;
	ret->used = (int64_t)(info->total - ret->available);
	if (ret->used < 0)
		ret->used = (int64_t)(info->total - info->free);
	ret->swap_total = info->swap_total;
	ret->swap_free = info->swap_free;
	ret->swap_used = used_of(info->swap_total, info->swap_free);
	ret->low_total = info->low_total != 0 ? info->low_total : info->total;
	ret->low_free = info->low_total != 0 ? info->low_free : info->free;
	ret->low_used = used_of(ret->low_total, ret->low_free);
	ret->high_total = info->high_total;
	ret->high_free = info->high_free;
	ret->high_used = used_of(ret->high_total, ret->high_free);
	ret->commit_limit = info->commit_limit;
	ret->committed = info->committed;
}
