/* SPDX-License-Identifier: MIT */
/*
 * room.c - how much more memory this process may take before somebody says no.
 *
 * Three kinds of "no": the host has none left (/proc/meminfo), or a memory
 * cgroup that we are in, or any above it, is full. Version 1 and version 2
 * hierarchies may be mounted side by side. Whatever cannot be read is no bound.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FILE_BYTES_MAX = 16 * 1024, /* memory.stat and meminfo have 2 to 4 KiB */
	LINE_BYTES_MAX = 2 * PATH_MAX + 256,
};

/* v1 says "no limit" as LONG_MAX rounded down to its page size; nothing real is as large. */
#define NO_LIMIT_BYTES (UINT64_C(1) << 62)

/* What the files and keys of each version are called. */
struct dialect {
	const char *filesystem;
	const char *limit, *usage;
	const char *swap_limit, *swap_usage; /* v1 counts memory and swap together */
	const char *inactive, *active;
};

static const struct dialect V1 = {
	"cgroup",
	"memory.limit_in_bytes",
	"memory.usage_in_bytes",
	"memory.memsw.limit_in_bytes",
	"memory.memsw.usage_in_bytes",
	"total_inactive_file",
	"total_active_file",
};

static const struct dialect V2 = {
	"cgroup2",	 "memory.max",	"memory.current", "memory.swap.max", "memory.swap.current",
	"inactive_file", "active_file",
};

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- reading ---- */

/* Read a small file as text; how long it is, or -errno. */
static ssize_t read_text(const char *path, char *text, size_t text_size)
{
	size_t used = 0;
	ssize_t part = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (used < text_size - 1) {
		part = read(fd, text + used, text_size - 1 - used);
		if (part < 0 && errno == EINTR)
			continue;
		if (part <= 0)
			break;
		used += (size_t)part;
	}
	part = part < 0 ? -errno : (ssize_t)used;
	close(fd);
	text[used] = '\0';
	return part;
}

/* The number behind a key at the start of a line: keys come in any order, cgroup-v2(7). */
static int find_number(const char *text, const char *key, uint64_t *number_ret)
{
	const size_t length = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 &&
		    (line[length] == ' ' || line[length] == ':')) {
			*number_ret = strtoull(line + length + 1, NULL, 10);
			return 1;
		}
	}
	return 0;
}

/* A file of a cgroup that holds one number or "max"; whether it could be read. */
static int group_number(const char *group, const char *file, uint64_t *number_ret)
{
	char path[LINE_BYTES_MAX + 64], text[64];

	snprintf(path, sizeof path, "%s/%s", group, file);
	if (read_text(path, text, sizeof text) <= 0)
		return 0;
	*number_ret = strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
	if (*number_ret >= NO_LIMIT_BYTES)
		*number_ret = UINT64_MAX;
	return 1;
}

/* A text file by lines, without allocation; a line that does not fit is passed over. */
struct lines {
	int fd;
	size_t start, end;
	char buffer[LINE_BYTES_MAX];
};

static char *next_line(struct lines *lines)
{
	int skipping = 0;

	for (;;) {
		char *line = lines->buffer + lines->start;
		char *stop = memchr(line, '\n', lines->end - lines->start);
		ssize_t part;

		if (stop != NULL) {
			*stop = '\0';
			lines->start = (size_t)(stop - lines->buffer) + 1;
			if (!skipping)
				return line;
			skipping = 0;
			continue;
		}
		if (lines->start == 0 && lines->end == sizeof lines->buffer) {
			skipping = 1;
			lines->start = lines->end;
		}
		memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
		lines->end -= lines->start;
		lines->start = 0;
		part = read(lines->fd, lines->buffer + lines->end,
			    sizeof lines->buffer - lines->end);
		if (part < 0 && errno == EINTR)
			continue;
		if (part <= 0)
			return NULL;
		lines->end += (size_t)part;
	}
}

/* Whether a comma-separated list has this word. */
static int lists(const char *list, const char *word)
{
	const size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)) != NULL; at += length)
		if ((at == list || at[-1] == ',' || at[-1] == ' ') &&
		    (at[length] == ',' || at[length] == '\0'))
			return 1;
	return 0;
}

/* ---- where we are ---- */

/* Our path in the hierarchy, /proc/self/cgroup: "0::/path", "4:cpu,memory:/path"; cgroups(7). */
static int own_group(const struct dialect *dialect, char path[PATH_MAX])
{
	struct lines lines = {.fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC)};
	char *line;
	int found = 0;

	if (lines.fd < 0)
		return 0;
	while (!found && (line = next_line(&lines)) != NULL) {
		char *controllers = strchr(line, ':');
		char *rest = controllers == NULL ? NULL : strchr(controllers + 1, ':');

		if (rest == NULL || strlen(rest + 1) >= PATH_MAX)
			continue;
		*rest++ = '\0';
		controllers++;
		found = dialect == &V2 ? *controllers == '\0' : lists(controllers, "memory");
		if (found)
			memcpy(path, rest, strlen(rest) + 1);
	}
	close(lines.fd);
	return found;
}

/* Undo the \040 of proc_pid_mountinfo(5). */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0';) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
				       (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* Where the hierarchy is mounted, and which of its directories that mount shows. */
static int find_mount(const struct dialect *dialect, char root[PATH_MAX], char mount[PATH_MAX])
{
	struct lines lines = {.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)};
	char type[32], options[1024];
	char *line;
	int found = 0;

	if (lines.fd < 0)
		return 0;
	static_assert(PATH_MAX == 4096, "the widths below");
	while (!found && (line = next_line(&lines)) != NULL) {
		const char *tail = strstr(line, " - ");

		if (tail == NULL || sscanf(tail, " - %31s %*s %1023s", type, options) != 2 ||
		    sscanf(line, "%*s %*s %*s %4095s %4095s", root, mount) != 2)
			continue;
		found = strcmp(type, dialect->filesystem) == 0 &&
			(dialect == &V2 || lists(options, "memory"));
	}
	close(lines.fd);
	if (found) {
		unescape(root);
		unescape(mount);
	}
	return found;
}

/* ---- the bounds ---- */

/*
 * What one cgroup still grants: up to its limit, with its page cache given up
 * and its swap used. One without a limit grants anything; of v1, our own one
 * (`deepest`) also knows the least limit of all above it, those outside our
 * view too. memory.stat is looked at last: it is by far the dearest to read.
 */
static uint64_t group_room(const struct dialect *dialect, const char *group, int deepest,
			   uint64_t swap_free)
{
	char path[LINE_BYTES_MAX + 64], text[FILE_BYTES_MAX] = "";
	uint64_t limit, usage, number, reclaimable = 0, swap_limit, swap_usage, room;

	if (!group_number(group, dialect->limit, &limit) ||
	    (limit == UINT64_MAX && (dialect == &V2 || !deepest)) ||
	    !group_number(group, dialect->usage, &usage))
		return UINT64_MAX;
	snprintf(path, sizeof path, "%s/memory.stat", group);
	if (read_text(path, text, sizeof text) > 0) {
		if (find_number(text, dialect->inactive, &number))
			reclaimable = add(reclaimable, number);
		if (find_number(text, dialect->active, &number))
			reclaimable = add(reclaimable, number);
		if (find_number(text, "hierarchical_memory_limit", &number) &&
		    number < NO_LIMIT_BYTES)
			limit = min(limit, number);
	}
	if (limit == UINT64_MAX)
		return limit;
	reclaimable = min(reclaimable, usage);
	room = add(less(limit, usage), reclaimable);
	if (!group_number(group, dialect->swap_limit, &swap_limit) ||
	    !group_number(group, dialect->swap_usage, &swap_usage) || swap_limit == UINT64_MAX)
		return add(room, swap_free);
	if (dialect == &V2)
		return add(room, min(swap_free, less(swap_limit, swap_usage)));
	return min(add(room, swap_free), add(less(swap_limit, swap_usage), reclaimable));
}

/* The least that our cgroup and all above it grant, up to the mount's root. */
static uint64_t hierarchy_room(const struct dialect *dialect, uint64_t swap_free)
{
	char own[PATH_MAX], root[PATH_MAX], group[2 * PATH_MAX];
	uint64_t room = UINT64_MAX;
	size_t mount_length, root_length;
	const char *inside = own;

	if (!own_group(dialect, own) || !find_mount(dialect, root, group))
		return room;
	mount_length = strlen(group);
	root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
	/* A mount of one container's part shows our path without the part's own; else only its
	 * root. */
	if (strncmp(own, root, root_length) == 0 &&
	    (own[root_length] == '/' || own[root_length] == '\0') && strstr(own, "/..") == NULL)
		inside += root_length;
	else
		inside = "";
	memcpy(group + mount_length, inside, strlen(inside) + 1);
	for (int deepest = 1;; deepest = 0) {
		char *slash;

		room = min(room, group_room(dialect, group, deepest, swap_free));
		slash = strrchr(group, '/');
		if (slash == NULL || slash < group + mount_length)
			return room;
		*slash = '\0';
	}
}

/*
 * The bytes that this process may still take: what the host has available, swap
 * included, and what every memory cgroup from ours up to the visible root still
 * grants. UINT64_MAX if nothing bounds it. A figure of this moment, for saying
 * "full" before the OOM killer does; it promises nothing. Returns 0.
 */
int mf_room_bytes(uint64_t *bytes_ret)
{
	char text[FILE_BYTES_MAX];
	uint64_t available_kib, swap_kib = 0, room = UINT64_MAX;

	if (read_text("/proc/meminfo", text, sizeof text) > 0) {
		find_number(text, "SwapFree", &swap_kib);
		if (find_number(text, "MemAvailable", &available_kib)) /* Linux 3.14 */
			room = (available_kib + swap_kib) * 1024;
	}
	room = min(room, hierarchy_room(&V2, swap_kib * 1024));
	room = min(room, hierarchy_room(&V1, swap_kib * 1024));
	*bytes_ret = room;
	return 0;
}
