/* SPDX-License-Identifier: MIT */
/*
 * text.c - lines of a key and a number, as /proc, sysfs and cgroupfs have them:
 *
 *   "MemTotal:        8143268 kB"   /proc/meminfo, /proc/PID/status, smaps
 *   "ShadowCallStack:10373888 kB"   a key too long for its column
 *   "HugePages_Total:       0"      a count
 *   "Node 0 MemFree:   123456 kB"   /sys/devices/system/node/node0/meminfo
 *   "pgfault 1234"                  /proc/vmstat, memory.stat
 *
 * "kB" is 1,024 bytes (proc_meminfo(5)). A line without a number is passed over,
 * as is whatever stands behind one. Nothing is read beyond the end that is given.
 */
#include "memfast.h"

#include <errno.h>
#include <string.h>

static int is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && is_blank(*at))
		at++;
	return at;
}

/* The decimal number at `at`, UINT64_MAX if it is larger; what follows it, or NULL if there is
 * none. */
const char *mf_text_number(const char *at, const char *end, uint64_t *number_ret)
{
	const char *const from = at;
	uint64_t number = 0;
	int too_large = 0;

	for (; at < end && is_digit(*at); at++) {
		const uint64_t digit = (uint64_t)(*at - '0');

		too_large |= number > (UINT64_MAX - digit) / 10;
		number = number * 10 + digit;
	}
	*number_ret = too_large ? UINT64_MAX : number;
	return at == from ? NULL : at;
}

uint64_t mf_text_kib(uint64_t number)
{
	return number > UINT64_MAX / 1024 ? UINT64_MAX : number * 1024;
}

/* "Node 0 " before the key says whose it is. */
static const char *skip_node(const char *at, const char *end)
{
	const char *key = at;
	uint64_t node;

	if (end - at < 8 || memcmp(at, "Node ", 5) != 0)
		return at;
	key = mf_text_number(at + 5, end, &node);
	return key == NULL || key == end || *key != ' ' ? at : key + 1;
}

/* One line; 1 if it is a key and a number. */
static int take_line(const char *at, const char *end, struct mf_text_field *field)
{
	at = skip_node(at, end);
	field->key = at;
	while (at < end && *at != ':' && !is_blank(*at))
		at++;
	field->key_size = (size_t)(at - field->key);
	if (field->key_size == 0 || at == end)
		return 0;
	at = mf_text_number(skip_blanks(at + 1, end), end, &field->value);
	if (at == NULL)
		return 0;
	at = skip_blanks(at, end);
	field->in_bytes = end - at >= 2 && at[0] == 'k' && at[1] == 'B';
	if (field->in_bytes)
		field->value = mf_text_kib(field->value);
	return 1;
}

/* The next key and number from *at on, which moves behind them; 0 if there is none before `end`. */
int mf_text_next(const char **at, const char *end, struct mf_text_field *field_ret)
{
	while (*at < end) {
		const char *const line = *at;
		const char *stop = memchr(line, '\n', (size_t)(end - line));

		*at = stop == NULL ? end : stop + 1;
		if (take_line(line, stop == NULL ? end : stop, field_ret))
			return 1;
	}
	return 0;
}

/* The number of one key: 0, or -ENOENT. Only the lines before it are looked at, by their first
 * bytes. */
int mf_text_find(const char *text, size_t size, const char *key, size_t key_size,
		 uint64_t *value_ret)
{
	const char *const end = text + size;
	struct mf_text_field field;

	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		const char *begin = skip_node(text, stop == NULL ? end : stop);

		if (stop == NULL)
			stop = end;
		if ((size_t)(stop - begin) > key_size && memcmp(begin, key, key_size) == 0 &&
		    take_line(begin, stop, &field) && field.key_size == key_size) {
			*value_ret = field.value;
			return 0;
		}
		text = stop + 1;
	}
	return -ENOENT;
}
