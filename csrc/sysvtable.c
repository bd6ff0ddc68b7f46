/* SPDX-License-Identifier: MIT */
/*
 * sysvtable.c - the segments as /proc/sysvipc/shm prints them, proc(5).
 *
 * The only place that says how much of each segment is in memory and in swap,
 * and the second source where shmctl(2) has no SHM_STAT_ANY.
 */
#define _GNU_SOURCE
#include "memfast.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/shm.h>
#include <unistd.h>

/*
 * Read a number behind blanks; returns where it ends, or NULL if there is none.
 * Every line ends in a newline, which is neither blank nor digit: no other
 * bound is needed.
 */
static inline const char *scan_number(const char *at, unsigned base, int64_t *number_ret)
{
	uint64_t number = 0;
	int negative;

	while (*at == ' ')
		at++;
	negative = *at == '-';
	at += negative;
	if ((unsigned)(*at - '0') >= base)
		return NULL;
	for (; (unsigned)(*at - '0') < base; at++)
		number = number * base + (unsigned)(*at - '0');
	*number_ret = (int64_t)(negative ? 0 - number : number);
	return at;
}

/* A line of /proc/sysvipc/shm, proc(5). Returns whether it is one: the title is not. */
static int scan_segment(const char *at, struct mf_sysvlist_segment *row)
{
	enum { KEY, ID, MODE, SIZE, CPID, LPID, NATTCH, UID };
	enum { GID = UID + 1, CUID, CGID, ATIME, DTIME, CTIME, RSS, SWAP, WORDS };
	int64_t words[WORDS];

	for (int i = 0; i < WORDS; i++) {
		at = i == MODE ? scan_number(at, 8, &words[i]) : scan_number(at, 10, &words[i]);
		if (at == NULL)
			return 0;
	}
	*row = (struct mf_sysvlist_segment){
		.id = words[ID],
		.key = words[KEY] & UINT32_MAX,
		.size = (uint64_t)words[SIZE],
		.mode = words[MODE] & 0777,
		.uid = words[UID],
		.gid = words[GID],
		.cuid = words[CUID],
		.cgid = words[CGID],
		.nattch = words[NATTCH],
		.creator_pid = words[CPID],
		.last_pid = words[LPID],
		.attach_time = words[ATIME],
		.detach_time = words[DTIME],
		.change_time = words[CTIME],
		.dest = (words[MODE] & SHM_DEST) != 0,
		.locked = (words[MODE] & SHM_LOCKED) != 0,
		.rss = words[RSS],
		.swap = words[SWAP],
	};
	return 1;
}

/*
 * All segments, with what is in memory and in swap of each. Returns how many
 * there are, of which `room` are filled in.
 */
int64_t mf_sysvtable_segments(struct mf_sysvlist_segment *rows, size_t room)
{
	char text[16 * 1024]; /* the kernel gives a page at a time */
	size_t kept = 0;
	int64_t found = 0;
	ssize_t length;
	const int fd = open("/proc/sysvipc/shm", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while ((length = read(fd, text + kept, sizeof text - kept)) != 0) {
		const char *line = text, *end;
		const char *const stop = text + kept + (length < 0 ? 0 : length);
		struct mf_sysvlist_segment row;

		if (length < 0 && errno != EINTR) {
			found = -errno;
			break;
		}
		for (; (end = memchr(line, '\n', (size_t)(stop - line))) != NULL; line = end + 1)
			if (scan_segment(line, &row)) {
				if ((size_t)found < room)
					rows[found] = row;
				found++;
			}
		kept = (size_t)(stop - line);
		if (kept == sizeof text) {
			found = -EPROTO;
			break;
		}
		memmove(text, line, kept);
	}
	close(fd);
	return found;
}
