/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets share. libFuzzer calls LLVMFuzzerTestOneInput;
 * or campaign.c does, with inputs of its own.
 */
#ifndef MEMFAST_FUZZ_H
#define MEMFAST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "memfast.h"

#define REQUIRE(expression)                                                              \
	do {                                                                             \
		if (!(expression)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expression); \
			abort();                                                         \
		}                                                                        \
	} while (0)

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* An input is a program; it is taken byte by byte, and zeros follow it. */
struct input {
	const unsigned char *next;
	size_t left;
};

static inline unsigned take_byte(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->next++;
}

#endif
