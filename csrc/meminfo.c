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

/* The number behind a key, into its member; 1 if there is one. */
static int take(const char *at, const char *end, size_t key, struct mf_meminfo *ret)
{
	uint64_t number;

	while (at < end && *at == ' ')
		at++;
	if (mf_text_number(at, end, &number) == NULL)
		return 0;
	number = mf_text_kib(number);
	memcpy((char *)ret + keys[key].offset, &number, sizeof number);
	return 1;
}

static int is_key(const char *line, const char *end, size_t key)
{
	return (size_t)(end - line) >= keys[key].size && keys[key].name[0] == *line &&
	       memcmp(keys[key].name, line, keys[key].size) == 0;
}

/* Which of the keys a line begins with, trying the one that is due first; KEY_COUNT if none. */
static size_t key_of(const char *line, const char *end, size_t due)
{
	for (size_t tried = 0, key = due; tried < KEY_COUNT; tried++, key++) {
		if (key >= KEY_COUNT)
			key = 0;
		if (is_key(line, end, key))
			return key;
	}
	return KEY_COUNT;
}

static void search(const char *text, const char *end, size_t wanted,
		   struct mf_meminfo_places *places, struct mf_meminfo *ret)
{
	const char *const begin = text;
	size_t due = 0;

	memset(places, 0, sizeof *places);
	while (text < end && (due < wanted || places->count < wanted - KEYS_OF_32_BIT)) {
		const size_t key = key_of(text, end, due);
		const char *stop;

		if (key < KEY_COUNT && take(text + keys[key].size, end, key, ret) &&
		    places->count < KEY_COUNT) {
			due = key + 1;
			places->key[places->count] = (uint8_t)key;
			places->at[places->count++] = (uint32_t)(text - begin);
		}
		stop = memchr(text, '\n', (size_t)(end - text));
		text = stop == NULL ? end : stop + 1;
	}
	places->size = (uint64_t)(end - begin);
	places->wanted = (uint32_t)wanted;
}

/* Whether the lines are where they were in another text, and so the numbers too. */
static int revisit(const char *text, const char *end, const struct mf_meminfo_places *places,
		   struct mf_meminfo *ret)
{
	for (size_t i = 0; i < places->count; i++) {
		const char *line = text + places->at[i];
		const size_t key = places->key[i];

		if ((line != text && line[-1] != '\n') || !is_key(line, end, key) ||
		    !take(line + keys[key].size, end, key, ret))
			return 0;
	}
	return 1;
}

/*
 * Fill the struct; a key that is missing counts as 0. These are KiB, even where
 * "kB" is missing. Lines of other keys cost a look at their first letter and
 * the way to the next line; behind the last of ours nothing is read. Without
 * `with_commit` that is SReclaimable.
 *
 * The kernel writes the same lines at the same places each time: `places`, of a
 * text of the same length, says where, and spares the way there. Zeros to begin.
 */
void mf_meminfo_parse(const char *text, size_t size, int with_commit,
		      struct mf_meminfo_places *places, struct mf_meminfo *ret)
{
	const size_t wanted = KEY_COUNT - (with_commit ? 0 : KEYS_OF_COMMIT);

	memset(ret, 0, sizeof *ret);
	if (places->count != 0 && places->size == size && places->wanted == wanted &&
	    revisit(text, text + size, places, ret))
		return;
	memset(ret, 0, sizeof *ret);
	search(text, text + size, wanted, places, ret);
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
